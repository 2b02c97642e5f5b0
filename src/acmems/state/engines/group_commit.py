"""Changes from many threads, made by one: those that come during a commit share the next transaction.

Where a disk is fast, few come during a commit. So while many issuances go on, each of which has several
changes to make, transactions are begun less often.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from acmems.exceptions import StateUnavailable
from acmems.state.engines.contract import Change, Transaction
from acmems.system.clock import SYSTEM, Clock

logger = logging.getLogger(__name__)

T = TypeVar("T")

_PAUSE = 0.0003  # seconds between two transactions, for each issuance that goes on beside another one
_LONGEST_PAUSE = 0.03

Transact = Callable[[Sequence[Change[Any]]], list[Any]]
"""Makes changes in one transaction, and returns what each returns once that is durable.

It raises `StateUnavailable` where no change can be made, and anything else where one of them may be at fault.
"""


@dataclass(frozen=True, slots=True, eq=False)
class _QueuedChange:
    """A change that waits for its transaction, and for whoever wants to know that it is durable."""

    apply: Change[Any]
    future: Future[Any]


class GroupCommit:
    """The changes that wait, and the thread that makes them.

    Args:
        transact: makes changes, in that thread.
        clock: for the pauses between transactions.

    Attributes:
        writers: how many issuances go on, each of which is going to make changes.
    """

    def __init__(self, transact: Transact, clock: Clock = SYSTEM) -> None:
        self._transact = transact
        self._clock = clock
        self._ended = -math.inf  # when the last transaction had ended, for the writer
        self._closing = threading.Event()
        self.writers = 0
        self.failure: StateUnavailable | None = None
        """Why the last change could not be made, None where it could."""
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="acmems-state")
        self._lock = threading.Lock()  # guards what follows
        self._queued: list[_QueuedChange] = []
        self._is_due = False  # whether the writer will look at what is queued

    def write(self, change: Change[T], *, soon: bool = True) -> Future[T]:
        """Queue a change; as `Database.write`."""
        future: Future[T] = Future()
        with self._lock:
            self._queued.append(_QueuedChange(change, future))
            begins = soon and not self._is_due
            self._is_due = self._is_due or soon
        if begins:
            try:
                self._writer.submit(self._commit_queued)
            except RuntimeError:
                future.set_exception(StateUnavailable("the state is closed: this server is stopping"))
        return future

    def flush(self) -> None:
        """Begin a transaction for the changes that wait for one, if there are any."""
        with self._lock:
            is_needed = bool(self._queued) and not self._is_due
        if is_needed:
            self.write(lambda _: None)

    def close(self) -> None:
        """Make what is queued, and end the thread."""
        self._closing.set()
        self.flush()
        self._writer.shutdown()

    def _commit_queued(self) -> None:
        self._pause()
        with self._lock:
            batch, self._queued, self._is_due = self._queued, [], False
        try:
            self._commit(batch)
        except StateUnavailable as error:
            self._fail(batch, error)
        except Exception:  # noqa: BLE001 - one of them may be at fault, which is seen one by one
            for change in batch:
                try:
                    self._commit([change])
                except Exception as error:  # noqa: BLE001 - whatever it is, who waits must hear of it
                    self._fail([change], error)

    def _pause(self) -> None:
        """Wait for the changes of others where many are at work and the last transaction was a moment ago."""
        pause = min(_LONGEST_PAUSE, _PAUSE * (self.writers - 1))
        if (left := self._ended + pause - self._clock.monotonic()) > 0:
            self._clock.wait(self._closing, left)

    def _commit(self, changes: Sequence[_QueuedChange]) -> None:
        applied = [change.apply for change in changes]
        if self.failure is not None:
            applied[0] = _with_probe(applied[0])
        outcomes = self._transact(applied)
        self._ended = self._clock.monotonic()
        if self.failure is not None:
            self.failure = None
            logger.info("the state can be written again")
        for change, outcome in zip(changes, outcomes, strict=True):
            change.future.set_result(outcome)

    def _fail(self, changes: Sequence[_QueuedChange], error: Exception) -> None:
        if isinstance(error, StateUnavailable):
            if self.failure is None:  # told once, and not for each change
                logger.error("nothing is ordered until this is mended: %s", error)
            self.failure = error
        for change in changes:
            change.future.set_exception(error)


def _with_probe(change: Change[T]) -> Change[T]:
    """Return a change that writes in any case.

    One that changes nothing, such as the deletion of what is old where nothing is, succeeds on a full disk.
    """

    def apply(transaction: Transaction) -> T:
        outcome = change(transaction)
        probe(transaction)
        return outcome

    return apply


def probe(transaction: Transaction) -> None:
    """Write a row to see whether that works."""
    transaction.execute(
        "INSERT INTO probes (id, at) VALUES (1, acmems_now()) ON CONFLICT (id) DO UPDATE SET at = excluded.at"
    )
