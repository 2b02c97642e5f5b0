"""The signals that a process takes, read from a pipe by its main thread."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection, Iterator
from types import FrameType
from typing import Final

from acmems.system.interruption import Interruption

STOPS: Final = frozenset({signal.SIGTERM, signal.SIGINT})
"""What stops acmems."""


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
        self._interruption = Interruption(self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Interrupt what need not be finished, if the signal is to stop the process."""
        if number in self._stops:
            self._is_stop_due = True
        if self._interrupts and self._is_stop_due and self._interruption.is_safe(frame):
            self._interrupts = self._is_stop_due = False
            raise StoppedEarly

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
            self._interruption.forget()

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
