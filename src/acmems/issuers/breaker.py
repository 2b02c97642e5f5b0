"""Whether a CA is asked: not while it is down, but for one request from time to time that tries it."""

from __future__ import annotations

import threading

from acmems.exceptions import CAProtocolError, CAUnavailable, ClocksDiffer
from acmems.system.clock import Clock

FIRST_SECONDS = 30.0
"""For which a CA is not asked after it was found to be down; twice as long after each further try."""
LONGEST_SECONDS = 300.0
"""The longest time until the next try."""
PROBE_SECONDS = 60.0
"""For which the request that tries a CA may take; then another one does."""


class CircuitBreaker:
    """Tells whether a CA is worth a request that another one could have; for any thread.

    It is closed while the CA answers. Once the CA does not, it is open for some time. Then it is half open:
    one request tries the CA, and how that ends decides.

    Args:
        clock: for times.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # guards what follows
        self._failures = 0  # in a row; 0 while it is closed
        self._next_try = 0.0
        self._is_tried = False  # whether a request that tries the CA was let through, and has not ended

    @property
    def is_open(self) -> bool:
        """Whether the CA was down when it was last asked."""
        return self._failures > 0

    @property
    def is_ready(self) -> bool:
        """Whether `admit` would let a request through."""
        return self.seconds_left == 0

    @property
    def seconds_left(self) -> float:
        """Seconds until the CA is tried again; 0 where the next request does that."""
        with self._lock:
            return max(0.0, self._next_try - self._clock.monotonic()) if self._failures else 0.0

    def admit(self) -> bool:
        """Tell whether a request may go to the CA; one that tries whether it answers again is let through."""
        with self._lock:
            now = self._clock.monotonic()
            if not self._failures:
                return True
            if now < self._next_try:
                return False
            self._next_try, self._is_tried = now + PROBE_SECONDS, True
            return True

    def note(self, error: Exception | None) -> None:
        """Take note of how an order at the CA has ended.

        Args:
            error: why there is no certificate, None where there is one.
        """
        if error is not None and is_down(error):
            self.trip()
            return
        with self._lock:
            self._failures, self._is_tried = 0, False

    def trip(self) -> None:
        """Take note that the CA is down.

        Of those that were under way when it went down, only the first to fail counts: no other has tried
        whether it is back.
        """
        with self._lock:
            now = self._clock.monotonic()
            if self._failures and not self._is_tried and now < self._next_try:
                return
            pause = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(self._failures, 10))
            self._failures += 1
            self._next_try, self._is_tried = now + pause, False


def is_down(error: Exception) -> bool:
    """Tell whether an error means that a CA does not answer, or nothing that can be understood."""
    return isinstance(error, CAUnavailable | CAProtocolError) and not isinstance(error, ClocksDiffer)
