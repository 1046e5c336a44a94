"""TLS for localhost, with the certificate of `tests/loop/test_tls.py`."""

import functools
import ssl
from pathlib import Path

CERTIFICATE = Path(__file__).resolve().parents[2] / "loop" / "localhost.pem"


@functools.cache
def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


@functools.cache
def client_context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=CERTIFICATE)
