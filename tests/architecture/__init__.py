"""The house as DESIGN.md draws it: layers, boundaries, sizes, and what is borrowed from asyncio and the kernel."""
