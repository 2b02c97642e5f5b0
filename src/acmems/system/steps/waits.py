"""What steps wait for: signals, descriptors, functions that block, other steps."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import CancelledError, Executor, Future
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from acmems.system.clock import Clock, Deadline

T = TypeVar("T")
Steps = Generator["Wait", Any, T]
"""A generator that yields waits and returns a T."""
Resume = Callable[[Any, BaseException | None], None]
"""Goes on with an outcome, or with an error."""

PENDING = object()
"""What `Wait.begin` returns where the outcome comes later."""


@dataclass(order=True, slots=True)
class Timer:
    """A call at a time of the monotonic clock."""

    at: float
    number: int
    call: Callable[[], None] | None = field(compare=False)  # None: cancelled


class Loop(Protocol):
    """What waits need of the loop that runs the steps; `StepLoop` says what its methods do."""

    clock: Clock
    pool: Executor

    def start(self, steps: Steps[Any], done: Resume) -> None:
        """Run steps until their first wait, and call a function with their outcome when they have ended."""

    def soon(self, call: Callable[[], None]) -> None:
        """Call a function in the loop's thread."""

    def at(self, moment: float, call: Callable[[], None]) -> Timer:
        """Call a function at a time of the monotonic clock."""

    def cancel(self, timer: Timer) -> None:
        """Do not call its function."""

    def remember(self, watched: Watched, until: float, resume: Callable[[], None]) -> None:
        """Call a function at each edge of a descriptor, and at a time of the monotonic clock."""

    def forget(self, watched: Watched) -> None:
        """Call it no more."""


class Wait:
    """What a step waits for; made by the functions and methods of this module."""

    __slots__ = ()

    def begin(self, loop: Loop, resume: Resume) -> object:
        """Return the outcome where it is there already, else `PENDING`, and have `resume` called with it."""
        raise NotImplementedError


@dataclass(slots=True)
class SignalWait(Wait):
    """A wait for a signal; its outcome tells whether the signal is set.

    Args:
        signal: the signal.
        seconds: after which the wait is over; None: never.
    """

    signal: Signal
    seconds: float | None

    def begin(self, loop: Loop, resume: Resume) -> object:
        """Wait for the signal or the end of the time, whichever comes first."""
        signal, seconds = self.signal, self.seconds
        if signal.is_set() or (seconds is not None and seconds <= 0):
            return signal.is_set()
        timer: Timer | None = None

        def on_set() -> None:
            if timer is not None:
                loop.cancel(timer)
            loop.soon(lambda: resume(True, None))

        def too_late() -> None:
            signal.waiters.remove(on_set)
            resume(False, None)

        signal.waiters.append(on_set)
        if seconds is not None:
            timer = loop.at(loop.clock.monotonic() + seconds, too_late)
        return PENDING


@dataclass(slots=True)
class EdgeWait(Wait):
    """A wait for a descriptor; its outcome tells whether it is ready before the deadline."""

    watched: Watched
    writable: bool
    deadline: Deadline

    def begin(self, loop: Loop, resume: Resume) -> object:
        """Wait for an edge, unless there was one that nobody has used up."""
        watched = self.watched
        if self._is_ready:
            return True

        def go_on() -> None:
            if self._is_ready or self.deadline.passed:
                loop.forget(watched)
                resume(self._is_ready, None)

        loop.remember(watched, self.deadline.at, go_on)
        return PENDING

    @property
    def _is_ready(self) -> bool:
        return self.watched.writable if self.writable else self.watched.readable


@dataclass(slots=True)
class ThreadWait(Wait):
    """A wait for a function that blocks; its outcome is what the function returns or raises.

    Args:
        function: the function.
        pool: whose threads call it; None: the loop's.
    """

    function: Callable[[], Any]
    pool: Executor | None = None

    def begin(self, loop: Loop, resume: Resume) -> object:
        """Call the function in a thread of the pool."""
        try:
            future = (self.pool or loop.pool).submit(self.function)
        except RuntimeError:  # the pool is closed
            loop.soon(functools.partial(resume, None, CancelledError()))
            return PENDING
        return FutureWait(future).begin(loop, resume)


@dataclass(slots=True)
class FutureWait(Wait):
    """A wait for what a thread does; its outcome is that of the future."""

    future: Future[Any]

    def begin(self, loop: Loop, resume: Resume) -> object:
        """Wait until the future is done, which it may be already."""
        future = self.future
        if future.done() and not future.cancelled() and future.exception() is None:
            return future.result()

        def over(future: Future[Any]) -> None:
            error = CancelledError() if future.cancelled() else future.exception()
            loop.soon(functools.partial(resume, None if error else future.result(), error))

        self.future.add_done_callback(over)
        return PENDING


@dataclass(slots=True)
class GatherWait(Wait):
    """A wait for several steps; its outcome is what all of them return, or what the first to fail raises."""

    steps: Sequence[Steps[Any]]

    def begin(self, loop: Loop, resume: Resume) -> object:
        """Run all the steps."""
        if not self.steps:
            return []
        results: list[Any] = [None] * len(self.steps)
        errors: dict[int, BaseException] = {}
        left = len(self.steps)

        def ended(number: int, value: Any, error: BaseException | None) -> None:
            nonlocal left
            results[number] = value
            if error is not None:
                errors[number] = error
            left -= 1
            if not left:
                first = errors[min(errors)] if errors else None
                loop.soon(functools.partial(resume, None if first else results, first))

        for number, each in enumerate(self.steps):
            loop.start(each, functools.partial(ended, number))
        return PENDING


class Signal:
    """An event that steps wait for. `set` and `clear` are for the loop's thread, `is_set` for any."""

    __slots__ = ("_is_set", "waiters")

    def __init__(self) -> None:
        self._is_set = False
        self.waiters: list[Callable[[], None]] = []

    def is_set(self) -> bool:
        """Tell whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Set it, and resume the steps that wait for it."""
        self._is_set = True
        waiters, self.waiters = self.waiters, []
        for resume in waiters:
            resume()

    def clear(self) -> None:
        """Let later waits wait again."""
        self._is_set = False

    def wait(self, seconds: float | None = None) -> SignalWait:
        """Wait until it is set, for at most so many seconds.

        Args:
            seconds: None for no limit.
        """
        return SignalWait(self, seconds)


class Watched:
    """A descriptor whose edges a loop sees; its flags stay set until who reads or writes clears them.

    Attributes:
        readable: something can be read, or the end was seen; cleared when reading would block.
        writable: the same for writing.
        over: the other side has ended the connection, or at least its sending.
    """

    __slots__ = ("number", "over", "readable", "writable")

    def __init__(self, number: int) -> None:
        self.number = number
        self.readable = self.writable = self.over = False

    def until_readable(self, deadline: Deadline) -> EdgeWait:
        """Wait until something can be read; the outcome is False where the deadline comes first."""
        return EdgeWait(self, False, deadline)

    def until_writable(self, deadline: Deadline) -> EdgeWait:
        """Wait until something can be written; the outcome is False where the deadline comes first."""
        return EdgeWait(self, True, deadline)


def pause(seconds: float) -> SignalWait:
    """Wait for so many seconds."""
    return SignalWait(Signal(), seconds)


def outcome(future: Future[T]) -> Steps[T]:
    """Return what a future holds once it is done, or raise that."""
    result: T = yield FutureWait(future)
    return result


def in_thread(function: Callable[[], T], pool: Executor | None = None) -> Steps[T]:
    """Call a function that blocks, in a thread.

    Args:
        function: MUST come to an end by itself.
        pool: whose threads call it; None: the loop's.
    """
    result: T = yield ThreadWait(function, pool)
    return result


def gather(steps: Iterable[Steps[T]]) -> Steps[list[T]]:
    """Run several steps at once; return their results, in order, when all have ended.

    Raises:
        BaseException: what the first that failed raised, after all others have ended, so that nothing goes on
            behind the caller's back.
    """
    several = list(steps)
    if len(several) == 1:
        return [(yield from several[0])]
    results: list[T] = yield GatherWait(several)
    return results
