"""The TLS of a listener: how connections are encrypted from now on."""

from __future__ import annotations

import socket
import ssl

from acmems.net.tls.socket import TlsSocket


class ServerTls:
    """Encrypts connections by a context that is replaced as a whole; those that are open keep theirs.

    Args:
        context: the first one.

    Attributes:
        context: what new connections are encrypted by; any thread may replace it.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context

    def __call__(self, sock: socket.socket) -> TlsSocket:
        """Return what encrypts a connection.

        Args:
            sock: the socket that was accepted.
        """
        return TlsSocket(sock, lambda: self.context)
