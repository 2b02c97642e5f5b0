"""Steps in tests: run in the calling thread, or in a loop whose clock a test moves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, TypeVar

from acmems.system.clock import SYSTEM, Clock
from acmems.system.steps import StepLoop, Steps
from acmems.system.steps.waits import EdgeWait, FutureWait, GatherWait, SignalWait, ThreadWait, Wait

PATIENCE = 20.0  # seconds of real time after which a test gives up; none waits for them

T = TypeVar("T")


class DirectLoop(StepLoop):
    """In the place of a loop: one step after the other, in the thread that asks, without waiting for real.

    Args:
        clock: its `wait` is called in the place of each wait for a signal.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.name = "direct"
        self.pool: Executor = _Direct()

    def submit(self, steps: Steps[T]) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(self.run(steps))
        except BaseException as error:  # noqa: BLE001 - as the loop does
            future.set_exception(error)
        return future

    def run(self, steps: Steps[T]) -> T:
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                wait = steps.send(value) if error is None else steps.throw(error)
            except StopIteration as end:
                result: T = end.value
                return result
            value = error = None
            try:
                value = self._outcome(wait)
            except BaseException as raised:  # noqa: BLE001 - it belongs to the steps
                error = raised

    def soon(self, call: Callable[[], None]) -> None:
        call()

    def close(self) -> None:
        """There is nothing to close."""

    def _outcome(self, wait: Wait) -> Any:
        if isinstance(wait, SignalWait):
            if not wait.signal.is_set() and wait.seconds != 0:
                assert wait.seconds is not None, "nobody would ever set this signal"
                if wait.seconds > 0:
                    self.clock.wait(threading.Event(), wait.seconds)
            return wait.signal.is_set()
        if isinstance(wait, ThreadWait):
            return wait.function()
        if isinstance(wait, FutureWait):
            return wait.future.result(PATIENCE)
        if isinstance(wait, GatherWait):
            results, errors = [], []
            for each in wait.steps:
                try:
                    results.append(self.run(each))
                except BaseException as error:  # noqa: BLE001 - the first one is raised below
                    errors.append(error)
            if errors:
                raise errors[0]
            return results
        assert not isinstance(wait, EdgeWait), "there is no socket here"
        raise AssertionError(wait)


class _Direct(Executor):
    def submit(self, function: Callable[..., T], /, *arguments: Any, **keywords: Any) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(function(*arguments, **keywords))
        except BaseException as error:  # noqa: BLE001 - as an executor does
            future.set_exception(error)
        return future


class LoopTime:
    """A clock that stands still until it is moved, and a loop that goes by it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.loop = StepLoop(Clock(monotonic=lambda: self.now))

    def move(self, seconds: float) -> None:
        """Let time pass, and return when the loop has seen it."""
        settle(self.loop)  # what waits for a time has begun to
        self.now += seconds
        settle(self.loop)


def in_loop(loop: StepLoop, function: Callable[[], T]) -> T:
    """Call a function in the loop's thread, and return its result."""

    def steps() -> Steps[T]:
        yield from ()
        return function()

    return loop.submit(steps()).result(PATIENCE)


def settle(loop: StepLoop) -> None:
    """Return when the loop has looked at its descriptors and timers, and has run what came of that."""
    for _ in range(3):
        _let_turn(loop)


def _let_turn(loop: StepLoop) -> None:
    looked = threading.Event()
    # By a timer: what is called soon may still be called in the turn whose look at the timers is over.
    in_loop(loop, lambda: loop.at(loop.clock.monotonic(), partial(loop.soon, looked.set)))
    assert looked.wait(PATIENCE)


def steps_of(wait: Wait) -> Steps[Any]:
    """Wait, and return the outcome."""
    return (yield wait)


def returning(value: int, first: Wait | None = None) -> Steps[int]:
    """Return a number, after a wait."""
    if first is not None:
        yield first
    return value


def raising(error: BaseException, first: Wait | None = None) -> Steps[Any]:
    """Raise an error, after a wait."""
    if first is not None:
        yield first
    raise error


def begin(loop: StepLoop, steps: Steps[T]) -> Future[T]:
    """Begin steps, and return when they wait."""
    future = loop.submit(steps)
    settle(loop)
    return future


def wait_for(condition: Callable[[], bool]) -> None:
    """Return when something has come about that other threads do, and do soon."""
    patience = SYSTEM.deadline(PATIENCE)
    while not condition():
        assert not patience.passed
        SYSTEM.sleep(0.002)
