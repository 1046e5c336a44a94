"""TLS contexts for localhost.

`loop/localhost.pem` holds a key and a self-signed certificate for localhost, valid for a hundred years, made with
`openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 -subj /CN=localhost
-addext subjectAltName=DNS:localhost,IP:127.0.0.1`.
"""

import functools
import ssl
from pathlib import Path

CERTIFICATE = Path(__file__).with_name("loop") / "localhost.pem"


@functools.cache
def server_context() -> ssl.SSLContext:
    """Return the context of servers, which all tests share: none may change it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


@functools.cache
def client_context() -> ssl.SSLContext:
    """Return the context of clients, which all tests share: none may change it."""
    return ssl.create_default_context(cafile=CERTIFICATE)
