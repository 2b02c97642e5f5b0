"""How much of the state strangers may fill: a rule without I/O."""

from __future__ import annotations

import math
from collections import Counter

from acmems.net.listening.shares import share_of

_HOUR = 3600.0  # seconds


class Allowance:
    """How many rows refusals may have that no auth block has accepted: anyone can send as many as they like.

    An address may have a few an hour. All of them together may have many at once, and a few a minute for
    ever, so that the state grows by less than 4,000 of them a day.
    """

    OF_ONE = 10
    AT_ONCE = 1_000
    A_MINUTE = 2

    def __init__(self) -> None:
        self._left = float(self.AT_ONCE)
        self._since = -math.inf
        self._hour_began = -math.inf  # for the counting of addresses
        self._rows: Counter[str] = Counter()

    def admits(self, client: str, now: float) -> bool:
        """Tell whether a refusal may have a row of its own, and count it then.

        Args:
            client: the address that was refused.
            now: the time in seconds, by a clock that never jumps.
        """
        self._left = min(self.AT_ONCE, self._left + (now - self._since) * self.A_MINUTE / 60)
        self._since = now
        if now - self._hour_began >= _HOUR:
            self._hour_began, self._rows = now, Counter()
        address = share_of(client)
        if self._left < 1 or self._rows[address] >= self.OF_ONE:
            return False
        self._left -= 1
        self._rows[address] += 1
        return True
