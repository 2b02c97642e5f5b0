"""The loop that runs steps, in one thread."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, TypeVar

from acmems.system.clock import SYSTEM, Clock
from acmems.system.steps.waits import PENDING, Loop, Resume, Steps, Timer, Watched

logger = logging.getLogger(__name__)

T = TypeVar("T")

_EDGES = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_OVER = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_MOST_CANCELLED = 1000
_HANGING_SECONDS = 120.0  # no step may block for as long as this
_LONGEST_POLL = 3600.0  # seconds; epoll takes no infinity


class _Task:
    """One generator that a loop runs."""

    __slots__ = ("_done", "_loop", "_steps")

    def __init__(self, loop: Loop, steps: Steps[Any], done: Resume) -> None:
        self._loop = loop
        self._steps = steps
        self._done = done

    def go_on(self, value: object = None, error: BaseException | None = None) -> None:
        """Run until the next wait that is not over at once."""
        while True:
            try:
                wait = self._steps.send(value) if error is None else self._steps.throw(error)
                value, error = wait.begin(self._loop, self.go_on), None
            except StopIteration as end:
                self._done(end.value, None)
                return
            except BaseException as raised:  # noqa: BLE001 - whoever waits for the outcome hears of it
                self._done(None, raised)
                return
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
        self._timers: list[Timer] = []
        self._cancelled = 0  # of the timers
        self._numbers = itertools.count()
        self._busy_since: float | None = None  # when the turn began that goes on; None while it waits
        self._lock = threading.Lock()  # guards what follows
        self._soon: deque[Callable[[], None]] = deque()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._awake = False  # the eventfd was written to, or the thread is about to look anyway

    def is_healthy(self) -> bool:
        """Tell whether its thread lives and gets on, or was not needed yet."""
        since = self._busy_since
        hangs = since is not None and self.clock.monotonic() - since > _HANGING_SECONDS
        return self._thread is None or (self._thread.is_alive() and not hangs)

    def submit(self, steps: Steps[T]) -> Future[T]:
        """Run steps; return what will hold their result. For any thread.

        Raises:
            RuntimeError: the loop is closed.
        """
        future: Future[T] = Future()

        def done(value: Any, error: BaseException | None) -> None:
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

        with self._lock:
            if self._closing:
                raise RuntimeError("the loop is closed")
        self.soon(_Task(self, steps, done).go_on)
        return future

    def run(self, steps: Steps[T]) -> T:
        """Run steps and wait for their result, in any thread but the loop's.

        Raises:
            BaseException: what they raise.
        """
        return self.submit(steps).result()

    def soon(self, call: Callable[[], None]) -> None:
        """Call a function in the loop's thread. For any thread."""
        with self._lock:
            self._soon.append(call)
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
                self._thread.start()
            if self._awake or threading.current_thread() is self._thread:
                return
            self._awake = True
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Let the thread go; steps that wait are given up."""
        with self._lock:
            self._closing = True
            thread = self._thread
        self.pool.shutdown(wait=False, cancel_futures=True)
        if thread is None:
            self._free()
        elif thread is not threading.current_thread():
            with contextlib.suppress(OSError):
                os.eventfd_write(self._wake, 1)
            thread.join(5.0)

    # From here on for the loop's thread.

    def start(self, steps: Steps[Any], done: Resume) -> None:
        """Run steps until their first wait, and call a function with their outcome when they have ended."""
        _Task(self, steps, done).go_on()

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

    def _free(self) -> None:
        self._epoll.close()
        os.close(self._wake)

    def _run(self) -> None:
        while not self._closing:
            try:
                self._turn()
            except Exception:  # one bad callback must not end all others
                logger.exception("a bug in a step")
        self._free()

    def _turn(self) -> None:
        self._busy_since = None
        ready = self._epoll.poll(self._patience())
        self._busy_since = self.clock.monotonic()
        for number, events in ready:
            if number == self._wake:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wake)
            else:
                self._edge(number, events)
        now = self._busy_since
        for until, resume in tuple(self._waiting.values()):
            if until <= now:
                resume()
        while self._timers and self._timers[0].at <= now:
            call = heapq.heappop(self._timers).call
            if call is None:
                self._cancelled -= 1
            else:
                call()
        while True:
            with self._lock:
                self._awake = bool(self._soon)
                calls, self._soon = self._soon, deque()
            if not calls:
                return
            for call in calls:
                call()

    def _patience(self) -> float:
        """Return the seconds until the next timer, -1 for no limit."""
        if self._soon:
            return 0.0
        moments = [until for until, _ in self._waiting.values()]
        if self._timers:
            moments.append(self._timers[0].at)
        if not moments:
            return -1.0
        return min(max(0.0, min(moments) - self.clock.monotonic()), _LONGEST_POLL)

    def _edge(self, number: int, events: int) -> None:
        watched = self._watched.get(number)
        if watched is None:
            return
        if events & (select.EPOLLIN | _OVER):
            watched.readable = True
        if events & (select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR):
            watched.writable = True
        if events & _OVER:
            watched.over = True
        waiting = self._waiting.get(watched)
        if waiting is not None:
            waiting[1]()
