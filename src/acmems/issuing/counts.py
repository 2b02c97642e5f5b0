"""What happens too often for a line of log each: it is counted, and told in sums."""

from __future__ import annotations

from collections import Counter

from acmems.system.clock import Clock


class RequestCounts:
    """Counts what happens to requests, by auth block; for one thread at a time.

    Args:
        clock: for the time between two sums.
        seconds: how long one sum covers at least.
    """

    def __init__(self, clock: Clock, seconds: float = 60.0) -> None:
        self._clock = clock
        self._seconds = seconds
        self._told = -seconds
        self._counts: Counter[tuple[str | None, str]] = Counter()

    @property
    def has_more(self) -> bool:
        """Whether anything was counted that has not been told."""
        return bool(self._counts)

    def count(self, block: str | None, what: str) -> None:
        """Count something that happened to a request.

        Args:
            block: its auth block.
            what: what happened, in words that fit behind a number of requests.
        """
        self._counts[block, what] += 1

    def due(self) -> list[str]:
        """Return the sums to log now, one line for each auth block, and begin to count anew.

        Returns:
            nothing where the last ones were told a short time ago.
        """
        now = self._clock.monotonic()
        if not self._counts or now - self._told < self._seconds:
            return []
        self._told = now
        counts, self._counts = self._counts, Counter()
        lines = []
        for block in dict.fromkeys(block for block, _ in counts):
            sums = ", ".join(f"{number} {what}" for (of, what), number in counts.items() if of == block)
            lines.append(f"requests of auth block {block!r}: {sums}")
        return lines
