"""The same script on asyncio's loop and on uringloop's: what asyncio did is what is expected, word for word."""
