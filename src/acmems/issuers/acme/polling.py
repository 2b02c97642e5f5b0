"""How soon to poll: intervals that learn how long a CA usually takes."""

from __future__ import annotations


class PollInterval:
    """Intervals between looks at something that the CA works on.

    The first look comes when a decision is usually there, so that most need one look only; the second
    comes soon after it, and from then on the intervals grow. Fixed sleeps would either ask too often or
    wait too long: CAs take from milliseconds to minutes.

    Args:
        first: seconds to wait for the first look while nothing is known yet.
        longest: longest interval, in seconds, of the first `MANY` looks. Later ones are rarer still, since
            what takes hours is not seen late by a minute; an hour costs some 200 looks.
    """

    GROWTH = 1.6
    SECOND = 0.6  # of the first interval
    SHORTEST = 0.002
    MANY = 20
    LONGEST = 60.0  # seconds, however many looks have found nothing
    LONGEST_WANTED = 300.0  # seconds that a CA can ask to wait for
    SOONEST = 5.0  # seconds that its wish is cut to at the least

    def __init__(self, first: float = 0.005, longest: float = 5.0) -> None:
        self.longest = longest
        self._expected = first

    @property
    def expected(self) -> float:
        """Seconds after which a decision is usually there."""
        return self._expected

    def interval(self, polls: int) -> float:
        """Return the seconds to wait before the next look.

        Args:
            polls: how many have found nothing so far.
        """
        later = self.SECOND * self.GROWTH ** (min(polls, 100) - 1) if polls else 1.0
        longest = min(self.longest * max(1.0, polls / self.MANY), max(self.longest, self.LONGEST))
        return min(longest, max(self.SHORTEST, self._expected * later))

    def wait(self, polls: int, wanted: float | None, left: float) -> float:
        """Return the seconds to wait before the next look, where the CA may have named some.

        Args:
            polls: how many have found nothing so far.
            wanted: the CA's `Retry-After` in seconds, None if it named none.
            left: seconds until the deadline.
        """
        return max(self.kept(wanted, left), self.interval(polls))

    def kept(self, wanted: float | None, left: float) -> float:
        """Return the seconds of a `Retry-After` that are kept (RFC 8555 sections 7.4, 7.5.1).

        All, unless that is absurd: five minutes at most, and where no look would be left before the
        deadline, half of the time that is left, or `SOONEST`.

        Args:
            wanted: what the CA named, in seconds, None if it named none.
            left: seconds until the deadline.
        """
        kept = min(wanted or 0.0, self.LONGEST_WANTED)
        if kept > left - self.SOONEST:
            kept = min(kept, max(self.SOONEST, left / 2))
        return kept

    def learn(self, seconds: float, polls: int) -> None:
        """Take note of a decision.

        Args:
            seconds: how long it took until it was seen.
            polls: how many were needed; after a single one it may have been there long before.
        """
        if polls > 1:
            self._expected += 0.3 * (min(seconds, self.longest) - self._expected)
        else:
            self._expected = max(self.SHORTEST, self._expected * 0.9)
