"""The servers that the benchmarks load: `python -m benchmarks.servers`."""
