"""Who works at what, where several servers share a state: one at a time, and nobody over its successor."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass

from acmems.exceptions import LeaseLost
from acmems.state.engines.contract import Change, Database, Transaction, marks

# In what follows `(*)` stands for a list of values. This is looked at first: what stands behind `ON CONFLICT`
# would wait for whoever writes to the row.
_HELD_BY_ANOTHER = """
    SELECT leases.name FROM leases, nodes
    WHERE leases.name IN (*) AND leases.node <> ? AND nodes.node = leases.node
        AND nodes.expires > acmems_now()
"""
_TAKE = """
    INSERT INTO leases (name, node, epoch) VALUES *
    ON CONFLICT (name) DO UPDATE SET node = excluded.node,
        epoch = CASE WHEN leases.epoch < excluded.epoch THEN excluded.epoch ELSE leases.epoch + 1 END
    WHERE leases.node = excluded.node OR NOT EXISTS (
        SELECT 1 FROM nodes WHERE nodes.node = leases.node AND nodes.expires > acmems_now()
    )
    RETURNING name, epoch
"""
# It changes nothing, and lets nobody else change the rows before this transaction has ended.
_FENCE = "UPDATE leases SET epoch = epoch WHERE node = ? AND name IN (*) RETURNING name, epoch"
_LOOK = "SELECT 1 FROM leases WHERE name = ? AND node = ? AND epoch = ?"
_RELEASE = "DELETE FROM leases WHERE name = ? AND node = ? AND epoch = ?"
_RELEASE_ALL = "DELETE FROM leases WHERE node = ? AND name IN (*)"
_CLEAN = """
    DELETE FROM leases WHERE NOT EXISTS (
        SELECT 1 FROM nodes WHERE nodes.node = leases.node AND nodes.expires > acmems_now()
    ) AND NOT EXISTS (
        SELECT 1 FROM orders WHERE leases.name = 'order:' || orders.identity AND orders.url IS NOT NULL
    )
"""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of one node to work at something, until it gives it back or is taken for dead.

    Args:
        name: what it works at.
        node: which node.
        epoch: grows with each holder; a node never gets the same one twice.
    """

    name: str
    node: str
    epoch: int

    @property
    def row(self) -> tuple[str, str, int]:
        """Its fields, in order."""
        return self.name, self.node, self.epoch


class Leases:
    """The leases of one node.

    A lease is free for others as soon as the row of its node has expired. A node that was stopped for so long
    may not know: everything that matters is written by `write`, which does nothing for a lease that is lost.

    Args:
        database: where they are kept.
        node: the node.
        is_known_to_live: tells whether the row of the node has certainly not expired.
    """

    def __init__(
        self, database: Database, node: str, is_known_to_live: Callable[[], bool] = lambda: False
    ) -> None:
        self._database = database
        self._node = node
        self._is_known_to_live = is_known_to_live
        # A lease that was given back has left no row to count on from.
        self._epochs = itertools.count(1)

    @property
    def are_certain(self) -> bool:
        """Whether nobody can have taken those of this node, which is alive for the others."""
        return self._is_known_to_live()

    def elsewhere(self, transaction: Transaction, names: Collection[str]) -> frozenset[str]:
        """Return which leases other nodes have that are alive."""
        if not names:
            return frozenset()
        rows = transaction.execute(_with(_HELD_BY_ANOTHER, names), (*names, self._node))
        return frozenset(name for (name,) in rows.fetchall())

    def take(self, transaction: Transaction, name: str) -> Lease | None:
        """Take a lease that is free or whose node is dead; None where another node has it.

        What this node has already is taken anew, so that whatever it did by the lease of before is over.

        Args:
            transaction: a transaction of `Database.write`.
            name: what is to be worked at.
        """
        if self.elsewhere(transaction, (name,)):
            return None
        return self.take_all(transaction, (name,)).get(name)

    def take_all(self, transaction: Transaction, names: Collection[str]) -> dict[str, Lease]:
        """Take leases as `take` does, and return those that were taken, by name.

        It is looked for with `elsewhere` before which of them other nodes have.
        """
        if not names:
            return {}
        # Always in one order, so that two nodes do not wait for each other.
        row = [value for name in sorted(names) for value in (name, self._node, next(self._epochs))]
        statement = _TAKE.replace("*", ", ".join(["(?, ?, ?)"] * len(names)), 1)
        taken = [Lease(name, self._node, epoch) for name, epoch in transaction.execute(statement, row)]
        self._epochs = itertools.count(max([next(self._epochs), *(each.epoch + 1 for each in taken)]))
        return {each.name: each for each in taken}

    def acquire(self, name: str) -> Future[Lease | None]:
        """Take a lease, as `take`, in a transaction of its own."""
        return self._database.write(lambda transaction: self.take(transaction, name))

    def held(self, transaction: Transaction, leases: Collection[Lease]) -> frozenset[Lease]:
        """Return which leases are still held; nobody else takes those before this transaction has ended."""
        if not leases:
            return frozenset()
        names = sorted({each.name for each in leases})
        rows = transaction.execute(_with(_FENCE, names), (self._node, *names))
        epochs: dict[str, int] = dict(rows.fetchall())
        return frozenset(each for each in leases if epochs.get(each.name) == each.epoch)

    def write(self, lease: Lease, change: Change[object], *, soon: bool = True) -> Future[None]:
        """Make a change that only the holder of a lease may make.

        Args:
            lease: the lease.
            change: as for `Database.write`; what it returns does not matter.
            soon: as for `Database.write`.

        Returns:
            a future, as `Database.write` does; it has a `LeaseLost` where nothing was changed.
        """

        def fenced(transaction: Transaction) -> bool:
            is_held = lease in self.held(transaction, (lease,))
            if is_held:
                change(transaction)
            return is_held

        return unless_lost(self._database.write(fenced, soon=soon), lease.name)

    def check(self, lease: Lease) -> Future[None]:
        """Look whether a lease is still held.

        Nobody takes one while the node is known to live, so that there is nothing to look for then.

        Returns:
            a future; it has a `LeaseLost` where it is not.
        """
        if self.are_certain:
            held: Future[None] = Future()
            held.set_result(None)
            return held

        def look(transaction: Transaction) -> bool:
            return transaction.execute(_LOOK, lease.row).fetchone() is not None

        return unless_lost(self._database.write(look), lease.name)

    @staticmethod
    def drop(transaction: Transaction, lease: Lease) -> None:
        """Give a lease back, unless another node has it by now."""
        transaction.execute(_RELEASE, lease.row)

    def drop_all(self, transaction: Transaction, leases: Collection[Lease]) -> None:
        """Give back leases that `held` has returned in the same transaction."""
        if leases:
            names = [each.name for each in leases]
            transaction.execute(_with(_RELEASE_ALL, names), (self._node, *names))

    def release(self, lease: Lease) -> Future[None]:
        """Give a lease back, as `drop`, in a transaction of its own."""
        return self._database.write(lambda transaction: self.drop(transaction, lease))


def _with(statement: str, values: Collection[object]) -> str:
    return statement.replace("(*)", f"({marks(values)})")


def clean(transaction: Transaction) -> None:
    """Remove the leases of dead nodes, but for those of orders that somebody has to go on with."""
    transaction.execute(_CLEAN)


def unless_lost(written: Future[bool], name: str) -> Future[None]:
    """Return a future of nothing, or of a `LeaseLost` where another one tells that a lease is lost.

    Args:
        written: tells whether it was held.
        name: of the lease.
    """
    outcome: Future[None] = Future()

    def done(written: Future[bool]) -> None:
        error = written.exception()
        if error is None and not written.result():
            error = LeaseLost(name)
        if error is None:
            outcome.set_result(None)
        else:
            outcome.set_exception(error)

    written.add_done_callback(done)
    return outcome
