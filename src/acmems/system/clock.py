"""Time: a monotonic clock for waiting, a wall clock for dates, and deadlines."""

from __future__ import annotations

import datetime
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Clock:
    """What acmems asks about time, passed in so that tests need no real time.

    Args:
        monotonic: seconds that never jump; for deadlines and waits.
        now: the wall clock (aware, UTC); for dates in certificates and headers.
        wait: wait for an event for at most some seconds, and tell whether it is set.
    """

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], datetime.datetime] = field(default=lambda: datetime.datetime.now(datetime.UTC))
    wait: Callable[[threading.Event, float], bool] = field(default=lambda event, seconds: event.wait(seconds))

    def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""
        if seconds > 0:
            self.wait(threading.Event(), seconds)

    def deadline(self, seconds: float) -> Deadline:
        """Return the deadline so many seconds from now; `math.inf` for none."""
        return Deadline(self.monotonic() + seconds, self.monotonic)


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on the monotonic clock after which waiting is over.

    Args:
        at: that point, in seconds of the monotonic clock.
        monotonic: the clock.
    """

    at: float
    monotonic: Callable[[], float] = time.monotonic

    @property
    def remaining(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self.at - self.monotonic())

    @property
    def passed(self) -> bool:
        """Whether the time is over."""
        return self.monotonic() >= self.at

    def within(self, seconds: float) -> Deadline:
        """Return the earlier of this deadline and the one so many seconds from now."""
        return Deadline(min(self.at, self.monotonic() + seconds), self.monotonic)


SYSTEM = Clock()
NEVER = Deadline(math.inf)
