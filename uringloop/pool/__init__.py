"""A pool of C threads for calls that may block: below the ring, without Python and without the GIL."""
