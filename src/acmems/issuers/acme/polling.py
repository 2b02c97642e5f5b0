"""How soon to look again: polling that learns how long a CA usually takes."""

from __future__ import annotations

import threading


class PollInterval:
    """Intervals between looks at something the CA works on.

    The first look comes when a decision is usually there, so that most need one look only; the second
    comes soon after it, and from then on the intervals grow. Fixed sleeps would either ask too often or
    wait too long: CAs take from milliseconds to minutes.

    Args:
        first: seconds to wait for the first look while nothing is known yet.
        longest: longest interval, in seconds.
    """

    GROWTH = 1.6
    SECOND = 0.6  # of the first interval
    SHORTEST = 0.002

    def __init__(self, first: float = 0.005, longest: float = 5.0) -> None:
        self.longest = longest
        self._expected = first
        self._lock = threading.Lock()

    @property
    def expected(self) -> float:
        """Seconds after which a decision is usually there."""
        return self._expected

    def interval(self, looks: int) -> float:
        """Return the seconds to wait before the next look.

        Args:
            looks: how many looks have found nothing so far.
        """
        later = self.SECOND * self.GROWTH ** (looks - 1) if looks else 1.0
        return min(self.longest, max(self.SHORTEST, self._expected * later))

    def learn(self, seconds: float, looks: int) -> None:
        """Take note of a decision.

        Args:
            seconds: how long it took until it was seen.
            looks: how many looks were needed; after a single one it may have been there long before.
        """
        with self._lock:
            if looks > 1:
                self._expected += 0.3 * (min(seconds, self.longest) - self._expected)
            else:
                self._expected = max(self.SHORTEST, self._expected * 0.9)
