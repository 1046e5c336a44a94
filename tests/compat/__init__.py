"""Other people's test suites, run against this loop: CPython's own for asyncio, aiofiles' for files."""
