"""Several loops in threads of one process."""
