"""Connections that wait for an answer for a while; those whose clients have hung up are let go of."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from acmems.issuing.requests import Delivery
from acmems.system.clock import Clock
from acmems.system.steps import StepLoop, Steps, pause

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.1  # between two looks at who waits


@dataclass(slots=True, eq=False)
class WaitingExchange:
    """A connection that waits.

    Args:
        until: when its time is over, in seconds of the monotonic clock.
        is_over: tells whether its client has hung up, or has its answer.
        on_end: called when there is what it waits for.
        on_late: called once its time is over; it goes on waiting.
    """

    until: float
    is_over: Callable[[], bool]
    on_end: Callable[[], None]
    on_late: Callable[[], None]


class WaitingExchanges:
    """All that wait; for any thread.

    Nobody tells when a client hangs up. So it is looked from time to time, as otherwise somebody who asks,
    hangs up, and asks again would fill the memory until there is an answer.

    Args:
        loop: its thread looks at them.
        clock: for times.
    """

    def __init__(self, loop: StepLoop, clock: Clock) -> None:
        self._loop = loop
        self._clock = clock
        self._lock = threading.Lock()  # guards what follows
        self._waiting: dict[Future[Delivery], list[WaitingExchange]] = {}
        self._is_watched = False

    def __len__(self) -> int:
        """Return how many wait."""
        with self._lock:
            return sum(map(len, self._waiting.values()))

    def add(self, future: Future[Delivery], waiter: WaitingExchange) -> None:
        """Let a connection wait for a future."""
        with self._lock:
            is_new = future not in self._waiting
            self._waiting.setdefault(future, []).append(waiter)
            begins, self._is_watched = not self._is_watched, True
        if is_new:
            future.add_done_callback(self._release)
        if begins:
            try:
                self._loop.submit(self._watch())
            except RuntimeError:  # the loop is closed, which ends what would be waited for
                logger.debug("the server is stopping: nothing is deferred")

    def _release(self, future: Future[Delivery]) -> None:
        with self._lock:
            released = self._waiting.pop(future, [])
        for each in released:
            if not each.is_over():
                each.on_end()

    def _watch(self) -> Steps[None]:
        while True:
            late = self._look()
            for each in late:
                each.on_late()
            with self._lock:
                if not any(self._waiting.values()):
                    self._is_watched = False
                    return
            yield pause(_LOOK_SECONDS)

    def _look(self) -> list[WaitingExchange]:
        """Let go of those that need not wait any more, and return those whose time is over."""
        now, late = self._clock.monotonic(), []
        with self._lock:
            for waiting in self._waiting.values():
                waiting[:] = [each for each in waiting if not each.is_over()]
                late += [each for each in waiting if each.until <= now]
        for each in late:
            each.until = math.inf
        return late
