"""The storage of whoever configures none: chains are kept in memory, until a restart."""

from __future__ import annotations

import datetime
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Self

from acmems.settings.options import Options
from acmems.storages.contract import IssuerIdentity, digest_of
from acmems.x509.chain import Chain
from acmems.x509.csr import CertificateRequest


class MemoryStorage:
    """Keeps the newest chains in memory, so that a machine that asks every day does not order every day.

    Args:
        name: what errors call it.
        most: how many chains are kept; beyond that, the one that was stored first is forgotten.
        most_bytes: how long their PEM may be altogether.
    """

    MOST = 10_000
    MOST_BYTES = 50 * 1024 * 1024  # 5 kB each; one with a hundred names has 30

    renew_within: datetime.timedelta | None = None
    renews_ahead = False
    is_immediate = True
    is_durable = False
    is_local = True

    def __init__(self, name: str, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self.name = name
        self._most = most
        self._most_bytes = most_bytes
        self._lock = threading.Lock()  # guards what follows
        self._chains: OrderedDict[str, Chain] = OrderedDict()
        self._bytes = 0

    @classmethod
    def from_options(cls, name: str, options: Options) -> Self:  # noqa: ARG003 - the contract's; it has none
        """Make the storage of a section, which has no keys of its own."""
        return cls(name)

    def self_check(self) -> tuple[()]:
        """Find nothing wrong: it names nothing."""
        return ()

    def check(self) -> None:
        """Find nothing to check."""

    def find(self, request: CertificateRequest, issuer: IssuerIdentity) -> Chain | None:
        """Return the chain that was stored last for the same."""
        with self._lock:
            return self._chains.get(digest_of(request, issuer))

    def store(self, request: CertificateRequest, chain: Chain, issuer: IssuerIdentity) -> None:
        """Keep a chain until the process ends, or until there are too many."""
        self.store_all([(request, chain)], issuer)

    def store_all(self, entries: Sequence[tuple[CertificateRequest, Chain]], issuer: IssuerIdentity) -> None:
        """Keep several chains."""
        with self._lock:
            for request, chain in entries:
                identity = digest_of(request, issuer)
                self._bytes += len(chain.pem)
                before = self._chains.pop(identity, None)
                if before is not None:
                    self._bytes -= len(before.pem)
                self._chains[identity] = chain
            while len(self._chains) > self._most or self._bytes > self._most_bytes:
                self._bytes -= len(self._chains.popitem(last=False)[1].pem)

    def discard(self, fingerprint: str) -> int:
        """Forget a certificate."""
        with self._lock:
            keys = [key for key, chain in self._chains.items() if chain.fingerprint == fingerprint]
            for key in keys:
                self._bytes -= len(self._chains.pop(key).pem)
        return len(keys)


PROCESS_MEMORY = MemoryStorage('"memory"')
"""What configurations without a storage have, so that a reload forgets nothing; no section has its name."""
