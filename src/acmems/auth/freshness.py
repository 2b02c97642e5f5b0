"""How fresh an HMAC is, and who used it first: what keeps requests from being replayed."""

from __future__ import annotations

import heapq
import threading

from acmems.net.address import IPAddress
from acmems.system.clock import SYSTEM, Clock

MOST_REMEMBERED = 32 * 1024
"""HMACs that a block remembers at most, in some 10 MiB."""


class Freshness:
    """What a block with `hmac-fresh` knows of the HMACs that it has accepted.

    An HMAC is remembered until it is too old to be accepted, so that it can be used from one address
    only. Where there is no room for another, the one with the earliest time is forgotten, and no other
    with that time or an earlier one is accepted from then on: memory is bounded, and nothing is ever
    accepted because it was forgotten.

    Args:
        seconds: how far the time of an HMAC may be from that of this server, in either direction.
        clock: time.
        most: HMACs to remember at most.
    """

    def __init__(self, seconds: float, clock: Clock = SYSTEM, most: int = MOST_REMEMBERED) -> None:
        self.seconds = seconds
        self.clock = clock
        self.most = most
        self._lock = threading.Lock()
        self._users: dict[str, IPAddress | None] = {}  # who used each digest first
        self._by_time: list[tuple[int, str]] = []  # a heap: the earliest is forgotten first
        self._forgotten = 0  # the latest time of what is forgotten
        self._latest = 0.0  # what the clock has said at most

    def refusal(self, time: int | None) -> str | None:
        """Return why an HMAC of that time is not fresh, None if it is.

        Args:
            time: what the client's clock said, in seconds since 1970; None where it did not say.
        """
        if time is None:
            return "the HMAC covers no time, which hmac-fresh requires"
        age = self._now() - time
        if abs(age) <= self.seconds:
            return None
        distance = f"{age:.0f} s old" if age > 0 else f"{-age:.0f} s ahead of this server's clock"
        return f"the HMAC is {distance}, and hmac-fresh allows {self.seconds:g} s"

    def use(self, digest: str, time: int, address: IPAddress | None) -> str | None:
        """Note that a fresh HMAC is used, and return why it cannot be, None if it can.

        The same address may use it again: a client whose answer was lost sends the same bytes.

        Args:
            digest: the HMAC, in lower case.
            time: what it covers, in seconds since 1970.
            address: who uses it.
        """
        with self._lock:
            self._forget_old()
            if digest not in self._users:
                if time <= self._forgotten:
                    return "it is not known any more whether the HMAC was used: too many came since"
                self._users[digest] = address
                heapq.heappush(self._by_time, (time, digest))
                if len(self._by_time) > self.most:
                    self._forget_earliest()
                return None
            first = self._users[digest]
            return None if first == address else f"the HMAC was used by {first} already"

    def _forget_old(self) -> None:
        now = self._now()
        if now < self._latest - self.seconds:
            self._forget_what_is_ahead(now + self.seconds)
            self._latest = now
        self._latest = max(self._latest, now)
        while self._by_time and self._by_time[0][0] < now - self.seconds:
            self._forget_earliest()

    def _forget_what_is_ahead(self, latest: float) -> None:
        """Make room after the clock was set back: HMACs of later times are not fresh for long, or never."""
        self._by_time = [each for each in self._by_time if each[0] <= latest]
        heapq.heapify(self._by_time)
        self._users = {digest: self._users[digest] for _, digest in self._by_time}
        if self._forgotten > latest:  # else nobody could use the server until the clock is there again
            self._forgotten = 0

    def _forget_earliest(self) -> None:
        time, digest = heapq.heappop(self._by_time)
        del self._users[digest]
        self._forgotten = max(self._forgotten, time)

    def _now(self) -> float:
        return self.clock.now().timestamp()
