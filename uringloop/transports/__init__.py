"""Transports: asyncio's interface over the streams of the ring."""
