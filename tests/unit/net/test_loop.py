"""The loop under every listener: its thread, its timer, and what others hand to it."""

from __future__ import annotations

import functools
import os
import select
import threading
from collections.abc import Iterator

import pytest
from tests.listening import PATIENCE, Time, fail

from acmems.net.listening.loop import EventLoop

TICK = 0.5


class Bell:
    """A loop, and what it has called."""

    def __init__(self) -> None:
        self.time = Time()
        self.called: list[str] = []
        self.loop = EventLoop("bell", self.time.clock, TICK, lambda: self.called.append("tick"))


@pytest.fixture
def bell() -> Iterator[Bell]:
    """A loop whose thread is not started."""
    bell = Bell()
    yield bell
    assert bell.loop.stop()
    bell.loop.close()


class TestTurns:
    def test_what_is_ready_is_called(self, bell: Bell) -> None:
        """A descriptor's step is called while an event is there, and no more once it is forgotten."""
        theirs, ours = os.pipe()
        bell.loop.watch(theirs, select.EPOLLIN, lambda: bell.called.append("readable"))
        assert not bell.loop.turn(0)
        os.write(ours, b"x")
        assert bell.loop.turn(0)
        bell.loop.change(theirs, 0)
        assert not bell.loop.turn(0)
        bell.loop.change(theirs, select.EPOLLIN)
        bell.loop.turn(0)
        bell.loop.forget(theirs)
        bell.loop.turn(0)
        assert bell.called == ["readable"] * 2
        os.close(ours)
        os.close(theirs)

    def test_a_bug_hurts_nothing_else(self, bell: Bell, caplog: pytest.LogCaptureFixture) -> None:
        """What one step raises is logged, and the others are taken."""
        bell.loop.soon(fail(RuntimeError("stumbled")))
        bell.loop.soon(lambda: bell.called.append("next"))
        bell.loop.turn(0)
        assert bell.called == ["next"]
        assert "stumbled" in caplog.text

    def test_what_a_step_submits_is_for_the_next_turn(self, bell: Bell) -> None:
        """Steps that submit steps keep nothing else waiting."""

        def again() -> None:
            bell.called.append("again")
            bell.loop.soon(again)

        bell.loop.soon(again)
        bell.loop.arm()
        bell.time.now += TICK
        bell.loop.turn()  # which does not wait either
        bell.loop.turn()
        assert bell.called == ["again", "tick", "again"]


class TestLater:
    def test_it_is_called_when_it_is_due(self, bell: Bell) -> None:
        """What is to be done later is done once, not before, and without the timer."""
        bell.loop.later(0.25, lambda: bell.called.append("later"))
        assert not bell.loop.turn(0)
        bell.time.now += 0.25
        assert bell.loop.turn()
        assert not bell.loop.turn(0)
        assert bell.called == ["later"]


class TestTimer:
    def test_it_comes_once(self, bell: Bell) -> None:
        """The timer calls once, a tick after it was set, however often it was set meanwhile."""
        bell.loop.arm()
        bell.time.now += TICK / 2
        bell.loop.turn(0)
        bell.loop.arm()
        assert bell.called == []
        bell.time.now += TICK / 2
        for _ in range(3):
            bell.loop.turn(0)
            bell.time.now += TICK
        assert bell.called == ["tick"]

    def test_where_nothing_is_going_on_nothing_wakes(self, bell: Bell) -> None:
        """Without a timer the loop waits until it is told."""
        assert bell.loop._timeout(None) is None
        bell.loop.arm()
        assert bell.loop._timeout(None) == TICK
        assert bell.loop._timeout(0) == 0


class TestThread:
    def test_steps_of_other_threads(self, bell: Bell) -> None:
        """What other threads submit is done by the loop's thread, in order."""
        bell.loop.start()
        done = threading.Event()
        for number in range(1000):
            bell.loop.submit(functools.partial(bell.called.append, str(number)))
        bell.loop.submit(lambda: bell.called.append(threading.current_thread().name))
        bell.loop.submit(done.set)
        assert done.wait(PATIENCE)
        assert bell.called == [*map(str, range(1000)), "bell"]

    def test_what_is_performed_is_done(self, bell: Bell) -> None:
        """`perform` returns when the step is taken: by the thread, and by the caller where there is none."""
        bell.loop.perform(lambda: bell.called.append(threading.current_thread().name))
        bell.loop.start()
        bell.loop.perform(lambda: bell.called.append(threading.current_thread().name))
        bell.loop.perform(lambda: bell.loop.perform(lambda: bell.called.append("within")))
        bell.loop.perform(fail(RuntimeError("a bug, and not the caller's")))
        assert bell.called == [threading.current_thread().name, "bell", "within"]

    def test_it_ends(self, bell: Bell) -> None:
        """After `stop` there is no thread, and what comes later goes nowhere."""
        bell.loop.start()
        assert bell.loop.is_running
        assert bell.loop.stop()
        assert not bell.loop.is_running
        bell.loop.close()
        bell.loop.close()
        bell.loop.submit(lambda: bell.called.append("late"))
        assert bell.called == []

    def test_a_call_that_hangs(self, bell: Bell) -> None:
        """A loop is healthy while it waits and when its thread gets on, and not while one call lasts."""
        assert not bell.loop.is_healthy()
        bell.loop.start()
        assert bell.loop.is_healthy()
        go, blocked = threading.Event(), threading.Event()

        def block() -> None:
            blocked.set()
            go.wait(PATIENCE)

        bell.loop.submit(block)
        assert blocked.wait(PATIENCE)
        assert bell.loop.is_healthy()
        bell.time.now += 121
        assert not bell.loop.is_healthy()
        go.set()
        bell.loop.perform(lambda: None)
        assert bell.loop.is_healthy()
