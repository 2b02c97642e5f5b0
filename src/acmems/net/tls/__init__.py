"""TLS on the connections of a listener: in its loop, under its deadlines, with a certificate that may change.

- `material`: a chain and its key, checked, and the context that they make
- `socket`: the bytes of one connection, encrypted
- `server`: the TLS of a listener, whose context is replaced as a whole
"""

from __future__ import annotations

from acmems.net.tls.material import TlsMaterial, server_context
from acmems.net.tls.server import ServerTls
from acmems.net.tls.socket import HandshakeError, TlsSocket

__all__ = ["HandshakeError", "ServerTls", "TlsMaterial", "TlsSocket", "server_context"]
