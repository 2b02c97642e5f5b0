"""One thread that waits for many descriptors, with one timer."""

from __future__ import annotations

import logging
import os
import select
import threading
from collections import deque
from collections.abc import Callable

from acmems.net.listening.shares import TurnQueue
from acmems.system.clock import Clock
from acmems.system.threads import Progress

logger = logging.getLogger(__name__)

_EVENTS = 512  # taken from the kernel at once: whoever has something to do is to be known
_TURNS = 4  # taken before it is looked again who has something to do,
_MANY = 8  # or only one where more than so many wait for theirs: then others shall not wait for several
_HANGING_SECONDS = 120.0  # no call may block for as long as this
_JOIN_SECONDS = 5.0  # in which the thread must have come to the end of what it does

Step = Callable[[], None]


class EventLoop:
    """Calls what belongs to descriptors that are ready, to a timer, and what other threads hand over.

    All calls are made in one thread, one after the other; a bug in one of them is logged and hurts no other.
    What is queued for a share is called when it is that share's turn. `submit`, `stop`, `close`, `is_running`
    and `is_healthy` are for any thread, all else is for that one.

    Args:
        name: of its thread.
        clock: for the timer.
        tick_seconds: from `arm` to the timer's call.
        on_tick: what the timer calls.
        may_take: tells whether a share may have its turn before the next tick; None: each may.

    Attributes:
        is_calm: whether so little is to be done in this turn of the loop that nobody has to queue for it.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        tick_seconds: float,
        on_tick: Step,
        may_take: Callable[[str], bool] | None = None,
    ) -> None:
        self._clock = clock
        self._tick_seconds = tick_seconds
        self._on_tick = on_tick
        self._now = clock.monotonic()  # when the current turn began
        self._progress = Progress(_HANGING_SECONDS, clock)
        self._due: float | None = None
        self._later: tuple[float, Step] | None = None
        self._steps: dict[int, Step] = {}
        self._submitted: deque[Step] = deque()
        self._queue: TurnQueue[Step] = TurnQueue()
        self.is_calm = False
        self._has_turns = False  # whether someone may have a turn now
        self._may_take = may_take
        self._is_stopping = False
        self._lock = threading.Lock()  # guards the descriptor of `_bell` against being another's
        self._is_closed = False
        self._has_rung = False
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # Told of each ring once, so that nobody needs to read what it holds.
        self._epoll.register(self._bell, select.EPOLLIN | select.EPOLLET)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def is_running(self) -> bool:
        """Whether its thread lives."""
        return self._thread.is_alive()

    def is_healthy(self) -> bool:
        """Tell whether its thread lives and no call hangs."""
        return self.is_running and not self._progress.is_stuck

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def watch(self, number: int, events: int, step: Step) -> None:
        """Call a step whenever one of these events is there.

        Args:
            number: the descriptor; closing it ends this, but for `forget`.
            events: of epoll.
            step: called with nothing, as an event may be stale.
        """
        self._steps[number] = step
        self._epoll.register(number, events)

    def change(self, number: int, events: int) -> None:
        """Wait for other events of a descriptor."""
        self._epoll.modify(number, events)

    def forget(self, number: int) -> None:
        """Make no more calls for a descriptor that is about to be closed."""
        self._steps.pop(number, None)

    def unwatch(self, number: int) -> None:
        """Make no more calls for a descriptor that may stay open, here or in another process.

        Closing the last descriptor of a socket in this process ends no wait for it while systemd has the
        same socket open (epoll(7)).
        """
        self.forget(number)
        self._epoll.unregister(number)

    def arm(self) -> None:
        """Set the timer, unless it is set already."""
        if self._due is None:
            self._due = self._now + self._tick_seconds

    def later(self, seconds: float, step: Step) -> None:
        """Make a call in so many seconds, and not the one that was to be made later before."""
        self._later = self._clock.monotonic() + seconds, step

    def soon(self, step: Step) -> None:
        """Make a call after those that are due now."""
        self._submitted.append(step)

    def submit(self, step: Step) -> None:
        """Have the thread make a call; after the end nothing happens."""
        self._submitted.append(step)
        if not self._has_rung:  # else it has yet to look at what is submitted
            self._ring()

    def queue(self, share: str, step: Step) -> None:
        """Make a call when it is the turn of a share."""
        self._queue.add(share, step)
        self._has_turns = True

    def perform(self, step: Step) -> None:
        """Have the thread make a call, and return when it is made, or when the thread seems stuck."""
        if not self.is_running or threading.current_thread() is self._thread:
            step()
            return
        done = threading.Event()

        def perform() -> None:
            try:
                step()
            finally:
                done.set()

        self.submit(perform)
        done.wait(_JOIN_SECONDS)

    def turn(self, timeout: float | None = None) -> bool:
        """Wait for something to do, and do it; tell whether there was something.

        Args:
            timeout: seconds to wait at most; None: until something is to be done.
        """
        self._progress.end()
        events = self._epoll.poll(self._timeout(timeout), _EVENTS)
        self._now = self._clock.monotonic()
        self._progress.note(self._now)
        self._has_rung = False  # before it looks: who submits later rings again
        self.is_calm = len(events) <= _TURNS and not self._queue
        for number, _ in events:
            step = self._steps.get(number)
            if step is not None:
                _call(step)
        calls = len(self._submitted)  # what these calls submit is for the next turn
        for _ in range(calls):
            _call(self._submitted.popleft())
        if self._later is not None and self._now >= self._later[0]:
            (_, step), self._later = self._later, None
            _call(step)
            calls += 1
        is_due = self._due is not None and self._now >= self._due
        if is_due:
            self._due = None
            _call(self._on_tick)
            self._has_turns = True
        turns = self._take_turns()
        return bool(events or calls or is_due or turns)

    def _take_turns(self) -> int:
        """Make some of the calls that are queued; return how many."""
        most = _TURNS if len(self._queue) <= _MANY else 1
        for turns in range(most):
            step = self._queue.take(self._may_take)
            if step is None:
                self._has_turns = False
                return turns
            _call(step)
        return most

    def stop(self) -> bool:
        """End the thread; tell whether it has ended."""
        self._is_stopping = True
        self._ring()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_SECONDS)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Free the descriptors, when the thread has ended."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._epoll.close()
                os.close(self._bell)

    def _run(self) -> None:
        while not self._is_stopping:
            self.turn()
        # What others have handed over before, such as answers, is not lost.
        for _ in range(len(self._submitted)):
            _call(self._submitted.popleft())
        for _ in range(len(self._queue)):
            step = self._queue.take()
            if step is not None:
                _call(step)

    def _timeout(self, timeout: float | None) -> float | None:
        if self._submitted or self._has_turns:
            return 0
        dues = [self._due] if self._due is not None else []
        if self._later is not None:
            dues.append(self._later[0])
        if not dues:
            return timeout
        left = max(0.0, min(dues) - self._clock.monotonic())
        return left if timeout is None else min(left, timeout)

    def _ring(self) -> None:
        with self._lock:
            if not self._is_closed:
                self._has_rung = True
                os.eventfd_write(self._bell, 1)


def _call(step: Step) -> None:
    try:
        step()
    except Exception:
        logger.exception("a bug: what a listener was to do has failed")
