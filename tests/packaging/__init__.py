"""What is built and shipped, and that it installs from nothing.

These tests use PyPI for the build's own tools, and take half a minute: `make test` runs them on the newest interpreter.
"""
