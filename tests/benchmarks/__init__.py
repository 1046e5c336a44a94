"""That the benchmarks run, and what they compute."""
