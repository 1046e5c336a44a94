"""TLS by OpenSSL's own functions, where Python's `_ssl` lets them be found; asyncio's protocol elsewhere."""
