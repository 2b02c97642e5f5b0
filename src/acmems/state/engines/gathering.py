"""Changes of one kind that come together, made by a few statements and not by a few for each of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from acmems.exceptions import StateUnavailable
from acmems.state.engines.contract import Database, Transaction

A = TypeVar("A")
R = TypeVar("R")

_MOST = 200  # changes that are made together: a statement takes only so many values


@dataclass(slots=True, eq=False)
class _Wanted(Generic[A, R]):
    """A change that waits, and whoever wants to know what has come of it."""

    argument: A
    future: Future[R] = field(default_factory=Future)

    def end(self, written: Future[R]) -> None:
        """Pass on what has come of a change that was made alone."""
        error = written.exception()
        if error is None:
            self.future.set_result(written.result())
        else:
            self.future.set_exception(error)


class GatheredChanges(Generic[A, R]):
    """Makes all changes of one kind that have come until their transaction begins, at once.

    They MUST NOT depend on each other. With others, they keep their order only as far as the first of those
    that are made together: a change that must not come before another one is made by `write_alone`.

    Args:
        database: where they are made.
        make: makes changes in a transaction, and returns what has come of each, in their order; as `Change`
            in all else.
    """

    def __init__(self, database: Database, make: Callable[[Transaction, Sequence[A]], Sequence[R]]) -> None:
        self._database = database
        self._make = make
        self._lock = threading.Lock()  # guards what follows
        self._waiting: list[_Wanted[A, R]] = []

    def write(self, argument: A, *, soon: bool = True) -> Future[R]:
        """Make a change, durably, together with others that come before the transaction.

        Args:
            argument: what `make` needs to know.
            soon: as for `Database.write`.

        Returns:
            a future, as `Database.write` does.
        """
        wanted: _Wanted[A, R] = _Wanted(argument)
        with self._lock:
            self._waiting.append(wanted)
            is_first = len(self._waiting) == 1
        if is_first:
            self._begin(soon=soon)
        elif soon:
            self._database.flush()  # the first one may have had time
        return wanted.future

    def write_alone(self, argument: A) -> Future[R]:
        """Make a change, durably, after all that was to be written before."""
        return self._database.write(lambda transaction: self._make(transaction, [argument])[0])

    def _begin(self, *, soon: bool = True) -> None:
        taken: list[_Wanted[A, R]] = []

        def change(transaction: Transaction) -> Sequence[R]:
            if not taken:  # a second try is for the same ones
                taken.extend(self._take())
            return self._make(transaction, [each.argument for each in taken])

        written = self._database.write(change, soon=soon)
        written.add_done_callback(lambda written: self._tell(taken, written))

    def _take(self) -> list[_Wanted[A, R]]:
        with self._lock:
            taken, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
            are_left = bool(self._waiting)
        if are_left:
            self._begin()
        return taken

    def _tell(self, taken: Sequence[_Wanted[A, R]], written: Future[Sequence[R]]) -> None:
        error = written.exception()
        if error is None:
            for each, outcome in zip(taken, written.result(), strict=True):
                each.future.set_result(outcome)
            return
        refused = taken or self._take()  # none was tried where the state is closed
        if isinstance(error, StateUnavailable) or len(refused) == 1:
            for each in refused:
                each.future.set_exception(error)
            return
        for each in refused:  # one of them may be at fault, which is seen one by one
            self.write_alone(each.argument).add_done_callback(each.end)
