"""Threads that must live: what an error of one turn does, and how a turn that hangs shows."""

from __future__ import annotations

import errno
import logging
import queue
import threading
from collections.abc import Callable, Iterator

import pytest

from acmems.exceptions import StorageUnavailable
from acmems.system.clock import Clock
from acmems.system.threads import PeriodicThread, Turns


class Hand:
    """A clock that a test moves, and whose waits end when it says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: queue.SimpleQueue[float] = queue.SimpleQueue()
        self.ends: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.now, wait=self.wait)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits.put(seconds)
        return self.ends.get(timeout=30) or event.is_set()

    def tick(self) -> float:
        """Let a wait end; return for how long it would have been."""
        seconds = self.waits.get(timeout=30)
        self.ends.put(False)
        return seconds


@pytest.fixture
def hand() -> Hand:
    return Hand()


def raising(*errors: BaseException | None) -> Callable[[], None]:
    """Return a turn that raises these, one after the other, and nothing afterwards."""
    left = iter(errors)

    def turn() -> None:
        error = next(left, None)
        if error is not None:
            raise error

    return turn


READ_ONLY = OSError(errno.EROFS, "Read-only file system", "/var/lib/acmems")
FULL = OSError(errno.ENOSPC, "No space left on device", "/var/lib/acmems")


class TestTurns:
    def test_an_error_ends_a_turn_and_is_told(self, caplog: pytest.LogCaptureFixture) -> None:
        """An error ends a turn and is told; whoever runs it hears that it failed."""
        turns = Turns("upkeep")
        assert turns.run(lambda: None)
        assert not turns.run(raising(READ_ONLY))
        assert turns.run(lambda: None)
        assert caplog.messages == ["upkeep: [Errno 30] Read-only file system: '/var/lib/acmems'"]
        assert [record.exc_info for record in caplog.records] == [None]

    def test_a_bug_has_a_traceback(self, caplog: pytest.LogCaptureFixture) -> None:
        """What is no failure of something outside is logged as a bug, with its traceback."""
        assert not Turns("upkeep").run(raising(ZeroDivisionError("of zero")))
        (record,) = caplog.records
        assert (record.levelno, record.message) == (logging.ERROR, "upkeep: a bug")
        assert record.exc_info is not None

    def test_a_lasting_error_is_told_once_an_hour(self, hand: Hand, caplog: pytest.LogCaptureFixture) -> None:
        """An error that stays is told once an hour, and another one between is told at once."""
        turns = Turns("upkeep", clock=hand.clock())
        for error in (READ_ONLY, READ_ONLY, FULL, READ_ONLY, StorageUnavailable("gone"), FULL):
            turns.run(raising(error))
        assert [message[:20] for message in caplog.messages] == [
            "upkeep: [Errno 30] R",
            "upkeep: [Errno 28] N",
            "upkeep: gone",
        ]
        hand.now += 3599
        turns.run(raising(READ_ONLY))
        assert len(caplog.messages) == 3
        hand.now += 1
        turns.run(raising(READ_ONLY))
        assert len(caplog.messages) == 4

    def test_a_turn_that_hangs(self, hand: Hand) -> None:
        """A turn is stuck when it has made no progress for too long, and no longer when it is over."""
        turns = Turns("upkeep", longest=60, clock=hand.clock())
        seen: list[bool] = []

        def turn() -> None:
            for pause in (60, 1):
                hand.now += pause
                seen.append(turns.is_stuck)
            turns.progress()
            seen.append(turns.is_stuck)
            hand.now += 61
            seen.append(turns.is_stuck)

        assert turns.run(turn)
        assert seen == [False, True, False, True]
        assert not turns.is_stuck
        hand.now += 1000
        assert not turns.is_stuck

    def test_a_turn_that_failed_hangs_no_more(self, hand: Hand) -> None:
        """After an error the time of the turn is over as after success."""
        turns = Turns("upkeep", longest=60, clock=hand.clock())
        turns.run(raising(FULL))
        hand.now += 1000
        assert not turns.is_stuck


class TestPeriodicThread:
    @pytest.fixture
    def start(self, hand: Hand) -> Iterator[Callable[..., PeriodicThread]]:
        """Start a thread that is ended with the test."""
        started: list[PeriodicThread] = []

        def start(turn: Callable[[], None], **options: float) -> PeriodicThread:
            thread = PeriodicThread("periodic", turn, 30, clock=hand.clock(), **options)
            thread.start()
            started.append(thread)
            return thread

        yield start
        for thread in started:
            thread.close()
            hand.ends.put(True)

    def test_its_pauses(self, hand: Hand, start: Callable[..., PeriodicThread]) -> None:
        """The first call is made at once, the others after a pause, which grows while calls fail."""
        start(raising(None, FULL, FULL, FULL, None), longest_pause=200)
        assert [hand.tick() for _ in range(7)] == [0, 30, 60, 120, 200, 30, 30]

    def test_a_delay(self, hand: Hand, start: Callable[..., PeriodicThread]) -> None:
        """The first call may wait."""
        start(lambda: None, delay=7)
        assert [hand.tick() for _ in range(2)] == [7, 30]

    def test_errors_do_not_end_it(
        self, hand: Hand, start: Callable[..., PeriodicThread], caplog: pytest.LogCaptureFixture
    ) -> None:
        """Whatever a call raises, the next one is made, and the thread is healthy meanwhile."""
        thread = start(raising(READ_ONLY, ZeroDivisionError(), MemoryError(), FULL))
        for _ in range(5):
            hand.tick()
            assert thread.is_healthy()
        assert hand.waits.get(timeout=30) == 30
        assert len(caplog.records) == 4

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_a_thread_that_ended(self, hand: Hand, start: Callable[..., PeriodicThread]) -> None:
        """What is no error, such as SystemExit, ends the thread, and it is not healthy any more."""
        thread = start(raising(SystemExit()))
        hand.tick()
        thread._thread.join(30)
        assert not thread.is_healthy()

    def test_a_call_that_hangs(self, hand: Hand, start: Callable[..., PeriodicThread]) -> None:
        """A call without progress makes the thread unhealthy until it gets on."""
        reached, go_on = threading.Event(), threading.Event()

        def turn() -> None:
            reached.set()
            assert go_on.wait(30)

        thread = start(turn, longest_turn=60)
        hand.tick()
        assert reached.wait(30)
        assert thread.is_healthy()
        hand.now += 61
        assert not thread.is_healthy()
        thread.progress()
        assert thread.is_healthy()
        hand.now += 61
        go_on.set()
        assert hand.waits.get(timeout=30) == 30
        assert thread.is_healthy()

    def test_its_end(self, hand: Hand) -> None:
        """Before its start and after its end it is not healthy, and makes no calls."""
        calls: list[int] = []
        thread = PeriodicThread("periodic", lambda: calls.append(1), 30, clock=hand.clock())
        assert not thread.is_healthy()
        thread.start()
        thread.close()
        hand.tick()
        thread._thread.join(30)
        assert calls == []
        assert not thread.is_healthy()
