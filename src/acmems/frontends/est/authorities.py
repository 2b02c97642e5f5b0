"""The certificates of CAs that EST clients are given to trust."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence

from cryptography import x509

from acmems.auth import Block
from acmems.exceptions import HttpRefusal
from acmems.x509.chain import Chain

LocalCertificates = Callable[[str], Sequence[x509.Certificate]]
"""Returns the certificates of a local CA, its root first; none for what is no local CA."""


class CaCertificates:
    """Knows the CAs of auth blocks. For any thread.

    Those of local CAs are known at once. Of a CA outside, the intermediates are known once a chain has come
    by way of the block; its root is in every trust store.

    Args:
        local: returns the certificates of a local CA.
    """

    def __init__(self, local: LocalCertificates = lambda _: ()) -> None:
        self._local = local
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[x509.Certificate, ...]] = {}  # by block: what the last chain ended in

    def learn(self, block: str, chain: Chain) -> None:
        """Take note of a chain that was delivered."""
        _, *upper = x509.load_pem_x509_certificates(chain.pem)
        with self._lock:
            self._seen[block] = tuple(upper)

    def of(self, blocks: Iterable[Block]) -> list[x509.Certificate]:
        """Return the certificates of the CAs of blocks, each once.

        Raises:
            HttpRefusal: none is known.
        """
        found: dict[x509.Certificate, None] = {}
        for block in blocks:
            for issuer in block.issuers:
                found |= dict.fromkeys(self._local(issuer))
            with self._lock:
                found |= dict.fromkeys(self._seen.get(block.name, ()))
        if not found:
            raise HttpRefusal(
                404,
                "the CA is not one of this server, and its intermediate certificates are known here after "
                "the first enrollment: trust the roots of your system",
            )
        return list(found)
