"""Nonces (RFC 8555 section 6.5): valid at every server with the same state, also after a restart, each once.

A nonce proves itself: it holds when it was made, random octets, and a code over both by a secret that is
kept in the state. So giving one out costs no write. That one is used is kept in the state until it expires.

When that is durable depends on what hangs on it:

- Where one process uses the state, it knows by itself which nonces were used since it started; those before,
  it has read. The row is written with the next change, in the same transaction or an earlier one, so that no
  change outlives a crash whose nonce does not.
- Where several do, a request that changes something begins when its nonce's row is there, which the database
  lets only one of them insert.
- What only reads (POST-as-GET) waits for nothing: who repeats it gets what the signer could read anyway.

Memory is bounded: where more are used than it has room for, the older half is forgotten, and no nonce is
taken any more that was made before the newer half began.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import secrets
import struct
import threading
from concurrent.futures import Future
from typing import Final

from acmems.frontends.acme.envelope.members import decoded, encoded
from acmems.frontends.acme.problems import AcmeProblem
from acmems.state.acme.nonces import NonceRecords, NonceUse
from acmems.system.clock import SYSTEM, Clock

VALID: Final = datetime.timedelta(minutes=30)
"""For how long a nonce is taken."""
_AHEAD = 120  # seconds by which the clock of the server that made it may be ahead
_HEAD = struct.Struct(">I12s")  # when it was made, and random octets
_CODE_OCTETS = 14
_OCTETS = _HEAD.size + _CODE_OCTETS
MOST_USED: Final = 100_000
"""Used nonces that are in memory twice at most: some 200 octets each, and minutes of the greatest load."""
_WRITTEN_TOGETHER = 64  # rows that wait for the next change

REPLAYED: Final = "JWS has an invalid anti-replay nonce"
"""What clients look for where they do not read the type of the problem; acme.sh does."""


class Nonces:
    """Makes nonces and takes each once; for any thread.

    Args:
        records: keeps which were used.
        clock: for the time.
        most_used: how many used ones each half of the memory has room for.

    Raises:
        StateUnavailable: the state cannot be used.
    """

    def __init__(self, records: NonceRecords, clock: Clock = SYSTEM, *, most_used: int = MOST_USED) -> None:
        self._records = records
        self._clock = clock
        self._secret = records.secret()
        self._validity = int(VALID.total_seconds())
        self._lock = threading.Lock()  # guards what follows
        self._most_used = most_used
        self._turned = self._now()
        self._refused = 0  # until when those were made that are not taken any more
        # What was used is forgotten by halves, when all that is in the older one has expired, or is too much.
        self._older: set[str] = set()
        self._newer: set[str] = set()
        self._waiting = 0
        if not records.is_shared:
            self._newer.update(nonce for nonce, _ in records.used(self._now()))

    @property
    def is_shared(self) -> bool:
        """Whether other processes take the same nonces."""
        return self._records.is_shared

    def make(self) -> str:
        """Return a new nonce."""
        head = _HEAD.pack(self._now(), secrets.token_bytes(12))
        return encoded(head + self._code(head))

    def examine(self, nonce: str | None) -> NonceUse:
        """Return the use of a nonce that one of these servers has made, a short time ago.

        Args:
            nonce: what the client sent.

        Raises:
            AcmeProblem: `badNonce`: none of them has, it is too old, or this process knows that it was used.
        """
        try:
            data = decoded(nonce, "'nonce'")
        except AcmeProblem:
            raise bad_nonce() from None
        head, code = data[: _HEAD.size], data[_HEAD.size :]
        if len(data) != _OCTETS or not hmac.compare_digest(code, self._code(head)):
            raise bad_nonce()
        [made, _] = _HEAD.unpack(head)
        now = self._now()
        if not made - _AHEAD <= now < made + self._validity:
            raise bad_nonce()
        name = encoded(head)
        with self._lock:
            if made <= self._refused or name in self._newer or name in self._older:
                raise bad_nonce()
        return NonceUse(name, made + self._validity)

    def take(self, use: NonceUse) -> None:
        """Take a nonce as far as this process knows of it.

        Raises:
            AcmeProblem: `badNonce`: it was used meanwhile.
        """
        with self._lock:
            now = self._now()
            is_full = len(self._newer) >= self._most_used
            if is_full or now - self._turned > self._validity + _AHEAD:
                if self._older:
                    self._refused = self._turned
                self._older, self._newer, self._turned = self._newer, set(), now
            made = use.expires - self._validity
            if made <= self._refused or use.nonce in self._newer or use.nonce in self._older:
                raise bad_nonce()
            self._newer.add(use.nonce)

    def use(self, use: NonceUse) -> Future[bool]:
        """Have the state tell whether nobody has used a nonce, and note that it is used now."""
        return self._records.use(use)

    def note(self, use: NonceUse) -> None:
        """Have it written that a nonce was taken, with the next change."""
        with self._lock:
            self._waiting = (self._waiting + 1) % _WRITTEN_TOGETHER
            soon = self._waiting == 0
        self._records.note(use, soon=soon)

    def forget(self) -> None:
        """Remove from the state what nobody needs any more; called from time to time."""
        self._records.forget(self._now())

    def _code(self, head: bytes) -> bytes:
        return hashlib.blake2b(head, digest_size=_CODE_OCTETS, key=self._secret).digest()

    def _now(self) -> int:
        return int(self._clock.now().timestamp())


def bad_nonce() -> AcmeProblem:
    """Return the problem of a nonce that is not taken; every answer has a fresh one with it."""
    return AcmeProblem(
        "badNonce", f"{REPLAYED}: it is too old, was used, or is not of this server; try again"
    )
