"""The proofs that are presented by tls-alpn-01, by the names that the CA asks for."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from acmems.net.tlsalpn.certificate import challenge_context, server_name
from acmems.system.clock import SYSTEM, Clock
from acmems.x509.identifiers import Identifier

Watcher = Callable[[], None]
_MOST_OTHERS = 64  # contexts that are kept of proofs that other servers present


class OtherProofs(Protocol):
    """Looks up what other servers present."""

    def find(self, name: str, found: Callable[[tuple[Identifier, str] | None], None]) -> bool:
        """Look up a server name; return False where there is nothing to look up.

        Args:
            name: the server name.
            found: called with the identifier and the key authorization of the newest proof for it, in another
                thread or at once; with None if there is none.
        """


@dataclass(frozen=True, slots=True)
class ChallengeContext:
    """What a handshake for one name is made with.

    Args:
        context: makes the handshake.
        watchers: to be called when it is made.
    """

    context: ssl.SSLContext
    watchers: tuple[Watcher, ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    key_authorization: str
    watcher: Watcher
    context: ssl.SSLContext


class ChallengeCertificates:
    """Presented proofs; safe to use from several threads.

    Several orders may prove one name at once, by tokens of their own: the newest is presented, and
    once that is withdrawn, the one before it.

    Args:
        clock: for the dates in certificates.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[str, list[_Entry]] = {}  # the newest last
        self._others: dict[tuple[Identifier, str], ssl.SSLContext] = {}

    def put(self, identifier: Identifier, key_authorization: str, watcher: Watcher) -> None:
        """Present a proof; one that is presented already becomes the newest.

        Args:
            identifier: the name; no wildcard.
            key_authorization: what is proved.
            watcher: called, from any thread, each time a handshake is made with it.
        """
        context = challenge_context(identifier, key_authorization, self._clock.now())
        name = server_name(identifier)
        with self._lock:
            others = self._without(name, key_authorization, watcher)
            self._entries[name] = [*others, _Entry(key_authorization, watcher, context)]

    def remove(self, identifier: Identifier, key_authorization: str, watcher: Watcher) -> None:
        """Withdraw a proof; one that is not presented is left alone.

        Args:
            identifier: as it was put.
            key_authorization: as it was put.
            watcher: as it was put.
        """
        name = server_name(identifier)
        with self._lock:
            others = self._without(name, key_authorization, watcher)
            if others:
                self._entries[name] = others
            else:
                self._entries.pop(name, None)

    def find(self, name: str) -> ChallengeContext | None:
        """Return what the newest proof for a server name is presented with; None if there is none."""
        with self._lock:
            entries = self._entries.get(name)
            if not entries:
                return None
            newest = entries[-1]
            # Two orders may share an authorization, and with it one proof: both want to know.
            same = [entry for entry in entries if entry.key_authorization == newest.key_authorization]
        return ChallengeContext(newest.context, tuple(entry.watcher for entry in same))

    def context_of(self, identifier: Identifier, key_authorization: str) -> ChallengeContext:
        """Return what a proof is presented with that another server presents; one asked for again is known.

        Args:
            identifier: the name; no wildcard.
            key_authorization: what is proved.

        Raises:
            OSError: it cannot be made.
        """
        key = (identifier, key_authorization)
        with self._lock:
            context = self._others.get(key)
        if context is None:
            context = challenge_context(identifier, key_authorization, self._clock.now())
            with self._lock:
                if len(self._others) >= _MOST_OTHERS:
                    self._others.clear()
                self._others[key] = context
        return ChallengeContext(context, ())

    def _without(self, name: str, key_authorization: str, watcher: Watcher) -> list[_Entry]:
        return [
            entry
            for entry in self._entries.get(name, [])
            if (entry.key_authorization, entry.watcher) != (key_authorization, watcher)
        ]
