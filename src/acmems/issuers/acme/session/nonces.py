"""The anti-replay nonces of one account at one CA (RFC 8555 section 6.5)."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable

_WELL_FORMED = re.compile(r"[A-Za-z0-9_-]{1,512}")  # CAs send some 40 characters


class NoncePool:
    """A bounded store of unused nonces, for one thread; the newest is taken first.

    Newest first, because a CA forgets its oldest nonces first.

    Args:
        capacity: how many are kept; beyond that the oldest goes.
        max_age: seconds after which a nonce is not worth a try any more.
        monotonic: the clock, in seconds.
    """

    def __init__(
        self,
        *,
        capacity: int = 64,
        max_age: float = 300.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_age = max_age
        self._monotonic = monotonic
        self._nonces: deque[tuple[float, str]] = deque(maxlen=capacity)

    def __len__(self) -> int:
        return len(self._nonces)

    def put(self, nonce: str) -> None:
        """Keep a nonce for a later request."""
        self._nonces.append((self._monotonic(), nonce))

    def take(self) -> str | None:
        """Return a nonce that nobody else gets, None if there is none fresh enough."""
        if not self._nonces:
            return None
        stored_at, nonce = self._nonces.pop()
        if self._monotonic() - stored_at <= self._max_age:
            return nonce
        self._nonces.clear()  # the newest is too old, so all are
        return None


def well_formed(header: str | None) -> str | None:
    """Return the nonce in a `Replay-Nonce` header, None if it is not base64url (RFC 8555 section 6.5.1)."""
    return header if header is not None and _WELL_FORMED.fullmatch(header) else None
