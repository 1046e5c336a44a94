"""Other people's code on this loop: CPython's own tests of asyncio, and in `libraries/` what runs on asyncio."""
