"""Exceptions that signals raise in the main thread, at moments at which no lock is left held."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, Final

_AGAIN_SECONDS = 0.01
_LOCKING: Final = frozenset(
    {"concurrent.futures._base", "concurrent.futures.thread", "contextlib", "logging", "queue", "threading"}
)
"""Modules of Python, and written in it, that take and release what others wait for."""
_STARTING_THREADS: Final = frozenset({threading.Thread.start.__code__, ThreadPoolExecutor.submit.__code__})

Handler = Callable[[int, FrameType | None], Any]
"""A handler of signals."""


class Interruption:
    """Finds the moment at which the handler of a signal may raise an exception.

    Python calls a handler between any two steps of the main thread. If it raises an exception when a lock has
    just been taken, nothing releases that, and all who need it wait for ever. So code that deals with locks
    is interrupted only where it waits, and the start of a thread never: a pool would not know its thread,
    which the process waits for at its end.

    Args:
        handler: what is called again, by SIGALRM, a moment after one that was not right.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._last: tuple[FrameType, int] | None = None  # where the main thread was a moment ago
        self._before: tuple[Callable[..., Any] | int | None, tuple[float, float]] | None = None
        """The handler and the timer of SIGALRM, while it is used here."""

    def is_safe(self, frame: FrameType | None) -> bool:
        """Tell whether an exception may be raised; if not, have the handler called again.

        Args:
            frame: where the main thread is, as a handler is told.
        """
        if frame is None or (not _is_starting_thread(frame) and self._may_leave(frame)):
            return True
        before = signal.signal(signal.SIGALRM, self._handler)
        timer = signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
        if self._before is None:
            self._before = before, timer
        return False

    def forget(self) -> None:
        """Call the handler no more: it has raised an exception, or need not any longer."""
        self._last = None
        if self._before is not None:
            handler, timer = self._before
            self._before = None
            signal.setitimer(signal.ITIMER_REAL, *timer)
            signal.signal(signal.SIGALRM, handler)

    def _may_leave(self, frame: FrameType) -> bool:
        if frame.f_globals.get("__name__") not in _LOCKING:
            return True
        last, self._last = self._last, (frame, frame.f_lasti)
        return last is not None and last[0] is frame and last[1] == frame.f_lasti  # it waits


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Have SIGINT raise `KeyboardInterrupt` here, but not where that would leave a lock held.

    A process that does not hear SIGINT, as a shell's job in the background, is left as it is.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_: int, frame: FrameType | None) -> None:
        if interruption.is_safe(frame):
            interruption.forget()
            raise KeyboardInterrupt

    interruption = Interruption(interrupt)
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        interruption.forget()


def _is_starting_thread(frame: FrameType) -> bool:
    at: FrameType | None = frame
    while at is not None:
        if at.f_code in _STARTING_THREADS:
            return True
        at = at.f_back
    return False
