"""Where orders wait while the account's key is changed: what proves names changes with it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from acmems.exceptions import DeadlinePassed
from acmems.system.clock import Clock, Deadline
from acmems.system.steps import Signal, StepLoop, Steps

DRAIN_SECONDS = 60.0
"""For which a change of the key waits for orders that run."""
_LOOK_SECONDS = 0.1


class OrderGate:
    """Lets orders begin, and tells how many are under way.

    Args:
        loop: runs the orders.
    """

    def __init__(self, loop: StepLoop) -> None:
        self._loop = loop
        self._under_way = 0
        self._opened: Signal | None = None  # set when the gate opens; None while it is open

    @property
    def is_open(self) -> bool:
        """Whether orders may begin."""
        return self._opened is None

    def pass_through(self, deadline: Deadline) -> Steps[None]:
        """Return once orders may begin.

        Raises:
            DeadlinePassed: that takes too long.
        """
        while self._opened is not None:
            if not (yield self._opened.wait(deadline.remaining)):
                raise DeadlinePassed("the account's key was being changed for too long", retry_after=10.0)

    @contextlib.contextmanager
    def under_way(self) -> Iterator[None]:
        """Count an order as long as this lasts. For the loop's thread."""
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    @contextlib.contextmanager
    def closed(self, clock: Clock, progress: Callable[[str], None]) -> Iterator[None]:
        """Let no order begin as long as this lasts, once those that run have ended, or take too long.

        For any thread but that of the loop.

        Args:
            clock: for this time.
            progress: told what is waited for.
        """
        opened = Signal()
        self._loop.submit(self._close(opened)).result()
        try:
            deadline = clock.deadline(DRAIN_SECONDS)
            if self._under_way:
                progress(f"waiting for {self._under_way} running orders, {DRAIN_SECONDS:.0f} seconds at most")
            while self._under_way and not deadline.passed:
                clock.sleep(_LOOK_SECONDS)
            if self._under_way:
                progress(f"{self._under_way} orders that still run begin again with the new key")
            yield
        finally:
            self._opened = None
            self._loop.soon(opened.set)

    def _close(self, opened: Signal) -> Steps[None]:
        yield from ()
        self._opened = opened
