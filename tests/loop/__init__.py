"""The loop as its users see it: the same bodies on asyncio and on uringloop."""
