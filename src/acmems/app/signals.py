"""The signals that a process takes, read from a pipe by its main thread."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, Final

STOPS: Final = frozenset({signal.SIGTERM, signal.SIGINT})
"""What stops acmems."""

_AGAIN_SECONDS = 0.01
_Alarm = tuple[Callable[[int, FrameType | None], Any] | int | None, tuple[float, float]]
"""A handler and the times of a timer."""
_STARTING_THREADS: Final = frozenset({threading.Thread.start.__code__, ThreadPoolExecutor.submit.__code__})


class StoppedEarly(BaseException):
    """A stop signal came while something was going on that need not be finished."""


class Signals:
    """The signals that the process takes.

    The interpreter writes their numbers into a pipe. An event would not do: the main thread, which waits for
    it, is the one that a signal interrupts, and it would wait for itself.

    Args:
        pipe: where their numbers are read.
        taken: which ones they are.
        stops: those of them that stop the process.
    """

    def __init__(
        self, pipe: int, taken: Collection[signal.Signals], stops: Collection[signal.Signals] = STOPS
    ) -> None:
        self.pipe = pipe
        self.taken = frozenset(taken)
        self._stops = frozenset(stops)
        self._interrupts = False
        self._is_stop_due = False  # whether one has come that nobody has heard of yet
        self._alarm: _Alarm | None = None  # what SIGALRM is there for otherwise, while it is used here

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Interrupt what need not be finished, if the signal is to stop the process."""
        if number in self._stops:
            self._is_stop_due = True
        if self._interrupts and self._is_stop_due:
            if _is_starting_thread(frame):
                # Interrupted there, a pool would not know its thread, and the process would wait for that
                # thread at its end, for ever.
                self._ask_again()
                return
            self._interrupts = self._is_stop_due = False
            raise StoppedEarly

    def _ask_again(self) -> None:
        """Be called again a moment later, as long as something may be interrupted."""
        handler = signal.signal(signal.SIGALRM, self)
        timer = signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
        if self._alarm is None:
            self._alarm = handler, timer

    def _forget_alarm(self) -> None:
        if self._alarm is not None:
            handler, timer = self._alarm
            self._alarm = None
            signal.setitimer(signal.ITIMER_REAL, *timer)
            signal.signal(signal.SIGALRM, handler)

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Raise `StoppedEarly` here, in the main thread, when a signal comes that stops the process.

        One that has come before counts as well: a worker process may be told to stop before it gets here.
        """
        self._interrupts = True
        try:
            if self._is_stop_due:
                raise StoppedEarly
            yield
        finally:
            self._interrupts = False
            self._forget_alarm()

    def read(self) -> set[int]:
        """Wait for signals, and return those that have come; several of a kind are one."""
        return set(os.read(self.pipe, 4096))

    def until_stop(self) -> Iterator[int]:
        """Yield the signals that come, until one is to stop; several that are there at once are one."""
        while True:
            numbers = self.read()
            if numbers & self._stops:
                self._is_stop_due = False
                return
            yield from numbers


@contextlib.contextmanager
def taking(*others: signal.Signals, stops: Collection[signal.Signals] = STOPS) -> Iterator[Signals]:
    """Take signals, those that stop acmems and SIGHUP in any case, until the context ends.

    Args:
        others: what else is taken.
        stops: which of them stop the process.
    """
    taken = {*STOPS, signal.SIGHUP, *others}
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(writing, False)
    signals = Signals(reading, taken, stops)
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    before = {number: signal.signal(number, signals) for number in taken}
    # A worker process begins with these held back, until it takes them itself.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, taken)
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(reading)
        os.close(writing)


def _is_starting_thread(frame: FrameType | None) -> bool:
    """Tell whether a thread is just being started where a signal has come."""
    while frame is not None:
        if frame.f_code in _STARTING_THREADS:
            return True
        frame = frame.f_back
    return False
