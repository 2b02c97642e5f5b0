"""Clocks and deadlines."""

from __future__ import annotations

import datetime
import math
import threading

from acmems.system.clock import NEVER, SYSTEM, Clock, Deadline


class Time:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.waits: list[float] = []

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits.append(seconds)
        self.seconds += seconds
        return event.is_set()

    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.seconds, wait=self.wait)


class TestClock:
    def test_sleep(self) -> None:
        """Sleeping is waiting for what never happens; nothing is waited for no time, or less."""
        time = Time()
        for seconds in (1.5, 0, -1):
            time.clock().sleep(seconds)
        assert time.waits == [1.5]

    def test_the_system(self) -> None:
        """The system's clock knows its time zone, UTC, never goes back, and sees events."""
        assert SYSTEM.now().tzinfo == datetime.UTC
        assert SYSTEM.monotonic() <= SYSTEM.monotonic()
        event = threading.Event()
        assert not SYSTEM.wait(event, 0)
        event.set()
        assert SYSTEM.wait(event, 10)


class TestDeadline:
    def test_time_passes(self) -> None:
        """What remains of a deadline shrinks to nothing and no further; it is over at its very end."""
        time = Time()
        deadline = time.clock().deadline(2)
        assert (deadline.remaining, deadline.passed) == (2, False)
        time.seconds = 101.5
        assert (deadline.remaining, deadline.passed) == (0.5, False)
        time.seconds = 102
        assert (deadline.remaining, deadline.passed) == (0, True)
        time.seconds = 1000
        assert (deadline.remaining, deadline.passed) == (0, True)

    def test_a_part_of_it(self) -> None:
        """A part of a deadline ends with its own time, or with the whole if that is sooner."""
        time = Time()
        deadline = time.clock().deadline(10)
        assert deadline.within(3).remaining == 3
        assert deadline.within(30).remaining == 10
        time.seconds = 105
        assert deadline.within(3).remaining == 3
        assert deadline.within(30).remaining == 5

    def test_never(self) -> None:
        """A deadline at infinity never comes, and parts of it do."""
        time = Time()
        for never in (NEVER, time.clock().deadline(math.inf)):
            assert not never.passed
            assert never.remaining == math.inf
        assert Deadline(math.inf, time.clock().monotonic).within(5).remaining == 5
