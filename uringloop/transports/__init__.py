"""Transports: asyncio's interface over the endpoints of the engine."""
