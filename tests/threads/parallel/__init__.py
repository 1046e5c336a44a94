"""Tests that pytest-run-parallel may run in several threads at once."""
