"""The loop that runs steps, in one thread."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import heapq
import itertools
import logging
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future, InvalidStateError, ThreadPoolExecutor
from typing import Any, TypeVar

from acmems.system.clock import SYSTEM, Clock
from acmems.system.steps.waits import PENDING, Resume, Steps, Timer, Watched
from acmems.system.threads import Progress

logger = logging.getLogger(__name__)

T = TypeVar("T")

_EDGES = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_OVER = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_MOST_CANCELLED = 1000
_HANGING_SECONDS = 120.0  # no step may block for as long as this
_LONGEST_POLL = 3600.0  # seconds; epoll takes no infinity
_MOST_LAST_WAITS = 10  # of steps that were given up, in `finally` clauses one within another


class _Task:
    """One generator that a loop runs."""

    __slots__ = ("_context", "_done", "_loop", "_steps", "_tasks")

    def __init__(self, tasks: set[_Task], loop: StepLoop, steps: Steps[Any], done: Resume) -> None:
        tasks.add(self)
        self._tasks = tasks
        self._loop = loop
        self._steps = steps
        self._done = done
        self._context = (
            contextvars.copy_context()
        )  # that of the steps which start these, such as for whom they work

    def go_on(self, value: object = None, error: BaseException | None = None) -> None:
        """Run until the next wait that is not over at once."""
        self._context.run(self._go_on, value, error)

    def _go_on(self, value: object, error: BaseException | None) -> None:
        while True:
            try:
                wait = self._steps.send(value) if error is None else self._steps.throw(error)
            except StopIteration as end:
                self._tasks.discard(self)
                self._done(end.value, None)
                return
            except BaseException as raised:  # noqa: BLE001 - whoever waits for the outcome hears of it
                self._tasks.discard(self)
                self._done(None, raised)
                return
            try:
                value, error = wait.begin(self._loop, self.go_on), None
            except Exception as failed:  # noqa: BLE001 - the steps that wanted to wait hear of it
                value, error = None, failed
            if value is PENDING:
                return


class StepLoop:
    """Runs steps in a thread of its own, which begins with the first of them.

    Args:
        clock: for deadlines.
        name: of its thread, and of those of its pool.
        threads: how many functions of `in_thread` run at once; further ones wait.
    """

    def __init__(self, clock: Clock = SYSTEM, *, name: str = "acmems-steps", threads: int = 16) -> None:
        self.clock = clock
        self.name = name
        self.pool: Executor = ThreadPoolExecutor(threads, thread_name_prefix=f"{name}-pool")
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._watched: dict[int, Watched] = {}
        self._waiting: dict[Watched, tuple[float, Callable[[], None]]] = {}  # until when, and what resumes it
        self._tasks: set[_Task] = set()  # those that have not ended
        self._timers: list[Timer] = []
        self._cancelled = 0  # of the timers
        self._numbers = itertools.count()
        self._progress = Progress(_HANGING_SECONDS, clock)
        self._lock = threading.Lock()  # guards what follows
        self._soon: deque[Callable[[], None]] = deque()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._awake = False  # the eventfd was written to, or the thread looks at `_soon` before it waits

    def is_healthy(self) -> bool:
        """Tell whether its thread lives and gets on, or was not needed yet."""
        return self._thread is None or (self._thread.is_alive() and not self._progress.is_stuck)

    def submit(self, steps: Steps[T]) -> Future[T]:
        """Run steps; return what will hold their result. For any thread.

        Who cancels the future does not want to hear of the result; the steps go on.

        Raises:
            RuntimeError: the loop is closed.
        """
        future: Future[T] = Future()

        def done(value: Any, error: BaseException | None) -> None:
            with contextlib.suppress(InvalidStateError):  # it was cancelled
                if error is None:
                    future.set_result(value)
                else:
                    future.set_exception(error)

        if not self._enqueue(lambda: self.start(steps, done)):
            raise RuntimeError("the loop is closed")
        return future

    def run(self, steps: Steps[T]) -> T:
        """Run steps and wait for their result, in any thread but the loop's.

        Raises:
            BaseException: what they raise.
            RuntimeError: the loop is closed.
            CancelledError: it was closed before they had ended.
        """
        return self.submit(steps).result()

    def soon(self, call: Callable[[], None]) -> None:
        """Call a function in the loop's thread, unless the loop is closed. For any thread."""
        self._enqueue(call)

    def close(self) -> None:
        """Let the thread go. Steps that wait are given up: their waits fail with `CancelledError`."""
        with self._lock:
            thread, was_closing = self._thread, self._closing
            self._closing = True
            if thread is not None and not was_closing:
                os.eventfd_write(self._wake, 1)
        self.pool.shutdown(wait=False, cancel_futures=True)
        if thread is None:
            if not was_closing:
                self._free()
        elif thread is not threading.current_thread():
            thread.join(5.0)

    def _enqueue(self, call: Callable[[], None]) -> bool:
        """Have a function called in the loop's thread; return whether it will be."""
        with self._lock:
            is_own = threading.current_thread() is self._thread
            if self._closing and not is_own:
                return False
            self._soon.append(call)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name=self.name, daemon=True)
                thread.start()
                self._thread = thread  # not before it lives: `is_healthy` takes no lock
            if not self._awake and not is_own:
                self._awake = True
                # Under the lock, because after `close` the number of the descriptor may be that of another.
                os.eventfd_write(self._wake, 1)
        return True

    # From here on for the loop's thread.

    def start(self, steps: Steps[Any], done: Resume) -> None:
        """Run steps until their first wait, and call a function with their outcome when they have ended."""
        _Task(self._tasks, self, steps, done).go_on()

    def at(self, moment: float, call: Callable[[], None]) -> Timer:
        """Call a function at a time of the monotonic clock."""
        timer = Timer(moment, next(self._numbers), call)
        heapq.heappush(self._timers, timer)
        return timer

    def cancel(self, timer: Timer) -> None:
        """Do not call its function; more calls change nothing."""
        if timer.call is None:
            return
        timer.call = None
        self._cancelled += 1
        # Most timers are deadlines that are never reached: without this they would pile up until then.
        if self._cancelled > _MOST_CANCELLED and self._cancelled * 2 > len(self._timers):
            self._timers = [each for each in self._timers if each.call is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def remember(self, watched: Watched, until: float, resume: Callable[[], None]) -> None:
        """Call a function at each edge of a descriptor, and at a time of the monotonic clock."""
        self._waiting[watched] = (until, resume)

    def forget(self, watched: Watched) -> None:
        """Call it no more."""
        self._waiting.pop(watched, None)

    def watch(self, number: int) -> Watched:
        """See the edges of a descriptor until `unwatch`."""
        watched = self._watched[number] = Watched(number)
        self._epoll.register(number, _EDGES)
        return watched

    def unwatch(self, watched: Watched) -> None:
        """See them no more; before the descriptor is closed."""
        self._waiting.pop(watched, None)
        if self._watched.get(watched.number) is watched:
            del self._watched[watched.number]
            with contextlib.suppress(OSError):
                self._epoll.unregister(watched.number)

    def _run(self) -> None:
        while not self._closing:
            self._turn()
        # Two more, without waiting: what was called last may have ended connections, and their edges tell the
        # steps that wait for them.
        self._turn()
        self._turn()
        self._give_up()
        self._free()

    def _give_up(self) -> None:
        """End the steps that wait, and those that wait again while they end."""
        for _ in range(_MOST_LAST_WAITS):
            for task in tuple(self._tasks):
                _call(functools.partial(task.go_on, None, CancelledError("the loop was closed")))
            self._call_those_of_soon()
            if not self._tasks:
                return
        logger.error("steps did not end when their loop was closed: %d", len(self._tasks))

    def _free(self) -> None:
        with self._lock:
            self._epoll.close()
            os.close(self._wake)

    def _turn(self) -> None:
        self._progress.end()
        ready = self._epoll.poll(self._patience())
        now = self.clock.monotonic()
        self._progress.note(now)
        seen = []
        # Note all edges first: what runs next may close a descriptor, and open another of the same number.
        for number, events in ready:
            watched = self._watched.get(number)
            if watched is not None:
                _note(watched, events)
                seen.append(watched)
            elif number == self._wake:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wake)
        for watched in seen:
            waiting = self._waiting.get(watched)
            if waiting is not None:
                _call(waiting[1])
        for until, resume in tuple(self._waiting.values()):
            if until <= now:
                _call(resume)
        while self._timers and self._timers[0].at <= now:
            timer = heapq.heappop(self._timers)
            call, timer.call = timer.call, None
            if call is None:
                self._cancelled -= 1
            else:
                _call(call)
        self._call_those_of_soon()

    def _call_those_of_soon(self) -> None:
        while True:
            with self._lock:
                self._awake = bool(self._soon)
                calls, self._soon = self._soon, deque()
            if not calls:
                return
            for call in calls:
                _call(call)

    def _patience(self) -> float:
        """Return the seconds until the next timer, -1 for no limit."""
        if self._soon or self._closing:
            return 0.0
        moments = [until for until, _ in self._waiting.values()]
        if self._timers:
            moments.append(self._timers[0].at)
        if not moments:
            return -1.0
        return min(max(0.0, min(moments) - self.clock.monotonic()), _LONGEST_POLL)


def _call(call: Callable[[], None]) -> None:
    """Call a function; one that fails must not end all others."""
    try:
        call()
    except Exception:
        logger.exception("a bug in a step")


def _note(watched: Watched, events: int) -> None:
    if events & (select.EPOLLIN | _OVER):
        watched.readable = True
    if events & (select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR):
        watched.writable = True
    if events & _OVER:
        watched.over = True
