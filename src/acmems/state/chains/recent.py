"""Chains that were delivered lately, in memory: for speed, and for when the database is away."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable

from acmems.x509.chain import Chain

MOST_BYTES = 16 * 1024 * 1024
_BESIDE_PEM = 2048  # bytes that a chain takes beside its PEM, about


class RecentChains:
    """The chains of identities, those that were used last; for any thread.

    A chain that is read while the same one is being changed is not kept: nobody knows whether what was read
    is what holds afterwards.

    Args:
        most_bytes: how much memory they may take.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()  # guards what follows
        self._chains: OrderedDict[str, Chain] = OrderedDict()
        self._identities: dict[str, str] = {}  # by the fingerprint of the chain
        self._bytes = 0
        self._changing: Counter[str] = Counter()  # identities and fingerprints whose rows are being changed
        self._version = 0  # grows with each change

    def get(self, identity: str) -> Chain | None:
        """Return the chain of an identity, None where it is not here."""
        with self._lock:
            chain = self._chains.get(identity)
            if chain is not None:
                self._chains.move_to_end(identity)
            return chain

    def reading(self) -> int:
        """Take note that a chain is going to be read; the number returned is for `keep`."""
        return self._version

    def keep(self, identity: str, chain: Chain, token: int) -> None:
        """Keep what was read, unless something has been changed since.

        Args:
            identity: whose chain it is.
            chain: the chain.
            token: what `reading` has returned.
        """
        with self._lock:
            is_safe = token == self._version and not (
                self._changing[identity] or self._changing[chain.fingerprint]
            )
            if is_safe:
                self._drop(identity)
                self._chains[identity] = chain
                self._identities[chain.fingerprint] = identity
                self._bytes += _size(chain)
                while self._bytes > self._most_bytes:
                    self._drop(next(iter(self._chains)))

    def forget(self, chain: Chain) -> None:
        """Keep a chain no longer: it is not the one to deliver any more."""
        with self._lock:
            self._drop(self._identities.get(chain.fingerprint, ""))

    def begin_change(self, subjects: Iterable[str]) -> None:
        """Forget what is going to be changed, until `end_change`.

        Args:
            subjects: identities, and fingerprints of chains.
        """
        with self._lock:
            self._version += 1
            for subject in subjects:
                self._changing[subject] += 1
                self._drop(self._identities.get(subject, subject))

    def end_change(self, subjects: Iterable[str]) -> None:
        """Take note that a change has been made, or has failed.

        Args:
            subjects: as for `begin_change`.
        """
        with self._lock:
            self._version += 1
            for subject in subjects:
                self._changing[subject] -= 1
                if not self._changing[subject]:
                    del self._changing[subject]

    def _drop(self, identity: str) -> None:
        chain = self._chains.pop(identity, None)
        if chain is not None:
            self._bytes -= _size(chain)
            self._identities.pop(chain.fingerprint, None)


def _size(chain: Chain) -> int:
    return len(chain.pem) + _BESIDE_PEM
