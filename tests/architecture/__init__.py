"""The house as ARCHITECTURE.md draws it: layers, boundaries, sizes, borrowed names of asyncio and the kernel."""
