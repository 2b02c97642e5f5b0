"""Clients that ask for certificates and hang up, and an address at which nothing answers a CA."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

HOLE = "127.0.0.2"
"""Where a CA is led to find nothing."""


class BlackHole:
    """Takes connections and says nothing, so that a CA waits for the end of its own patience.

    Args:
        port: where, at `HOLE`.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_server((HOLE, port), backlog=4096)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def csr_for(name: str, key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    """Return a CSR in PEM for one name."""
    san = x509.SubjectAlternativeName([x509.DNSName(name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = builder.add_extension(san, critical=False).sign(
        key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()
    )
    return signed.public_bytes(Encoding.PEM)


def ask_and_hang_up(
    port: int, csrs: Iterable[bytes], source: str = "127.0.0.1", *, reset: bool = False
) -> None:
    """Send each CSR on a connection of its own, and close that at once.

    Args:
        port: where `/sign` is, on loopback.
        csrs: the CSRs.
        source: the address to ask from.
        reset: whether the connection is torn down; otherwise it looks as if the client only stopped sending.
    """
    for csr in csrs:
        with socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(source, 0)) as sock:
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            head = f"POST /sign HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(csr)}\r\n\r\n"
            sock.sendall(head.encode() + csr)
