"""Threads for what blocks, of which nobody's work takes all."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from acmems.system.shares import FairQueue, Share
from acmems.system.steps.turns import OWNER
from acmems.system.steps.waits import Signal, Steps, in_thread

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class _Turn:
    """A function that waits for a thread."""

    share: Share
    has_come: Signal = field(default_factory=Signal)


class SharedThreads:
    """Threads in which steps call functions that block; for the thread of one loop.

    Those for whom the steps work have shares of them, as `FairQueue` says.

    Args:
        threads: how many there are.
        name: what their names begin with.
    """

    def __init__(self, threads: int, name: str) -> None:
        # Twice as many, because whoever has none gets one of his own.
        self._pool = ThreadPoolExecutor(2 * threads, thread_name_prefix=name)
        self._queue: FairQueue[_Turn] = FairQueue(threads, sys.maxsize, 0, lambda _: sys.maxsize)

    def call(self, function: Callable[[], T]) -> Steps[T]:
        """Call a function in a thread, once there is one.

        Args:
            function: MUST come to an end by itself.
        """
        block, client = (*map(str, OWNER.get()), "")[:2]
        turn = _Turn(Share(block, client, ()))
        self._queue.put(turn)
        self._call_next()
        try:
            yield turn.has_come.wait()
            return (yield from in_thread(function, self._pool))
        finally:
            if turn.has_come.is_set():
                self._queue.end(turn.share, behind=False)
            else:
                self._queue.remove(lambda other: other is turn)
            self._call_next()

    def _call_next(self) -> None:
        while (turn := self._queue.next()) is not None:
            turn.has_come.set()
