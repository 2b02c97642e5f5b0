"""Who works at what, where several servers share a state: one at a time, and nobody over its successor."""

from __future__ import annotations

import itertools
from concurrent.futures import Future
from dataclasses import dataclass

from acmems.exceptions import LeaseLost
from acmems.state.engines.contract import Change, Database, Transaction

# Looked at first: what stands behind `ON CONFLICT` would wait for whoever writes to the row.
_HELD_BY_ANOTHER = """
    SELECT 1 FROM leases, nodes
    WHERE leases.name IN (?, ?) AND leases.node <> ? AND nodes.node = leases.node
        AND nodes.expires > acmems_now()
"""
_TAKE = """
    INSERT INTO leases (name, node, epoch) VALUES (?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET node = excluded.node,
        epoch = CASE WHEN leases.epoch < excluded.epoch THEN excluded.epoch ELSE leases.epoch + 1 END
    WHERE leases.node = excluded.node OR NOT EXISTS (
        SELECT 1 FROM nodes WHERE nodes.node = leases.node AND nodes.expires > acmems_now()
    )
    RETURNING epoch
"""
# It changes nothing, and lets nobody else change the row before this transaction has ended.
_FENCE = "UPDATE leases SET epoch = epoch WHERE name = ? AND node = ? AND epoch = ?"
_LOOK = "SELECT 1 FROM leases WHERE name = ? AND node = ? AND epoch = ?"
_RELEASE = "DELETE FROM leases WHERE name = ? AND node = ? AND epoch = ?"
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
    """

    def __init__(self, database: Database, node: str) -> None:
        self._database = database
        self._node = node
        # A lease that was given back has left no row to count on from.
        self._epochs = itertools.count(1)

    def is_elsewhere(self, transaction: Transaction, name: str, other: str | None = None) -> bool:
        """Tell whether another node, which is alive, has a lease, or one of two."""
        row = (name, name if other is None else other, self._node)
        return transaction.execute(_HELD_BY_ANOTHER, row).fetchone() is not None

    def take(self, transaction: Transaction, name: str) -> Lease | None:
        """Take a lease that is free or whose node is dead; None where another node has it.

        What this node has already is taken anew, so that whatever it did by the lease of before is over.

        Args:
            transaction: a transaction of `Database.write`.
            name: what is to be worked at.
        """
        if self.is_elsewhere(transaction, name):
            return None
        taken = transaction.execute(_TAKE, (name, self._node, next(self._epochs))).fetchall()
        if not taken:
            return None
        ((epoch,),) = taken
        self._epochs = itertools.count(epoch + 1)
        return Lease(name, self._node, epoch)

    def acquire(self, name: str) -> Future[Lease | None]:
        """Take a lease, as `take`, in a transaction of its own."""
        return self._database.write(lambda transaction: self.take(transaction, name))

    @staticmethod
    def holds(transaction: Transaction, lease: Lease) -> bool:
        """Tell whether a lease is still held; nobody else takes it before this transaction has ended."""
        return transaction.execute(_FENCE, lease.row).rowcount == 1

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
            is_held = self.holds(transaction, lease)
            if is_held:
                change(transaction)
            return is_held

        return unless_lost(self._database.write(fenced, soon=soon), lease.name)

    def check(self, lease: Lease) -> Future[None]:
        """Look whether a lease is still held.

        Returns:
            a future; it has a `LeaseLost` where it is not.
        """

        def look(transaction: Transaction) -> bool:
            return transaction.execute(_LOOK, lease.row).fetchone() is not None

        return unless_lost(self._database.write(look), lease.name)

    @staticmethod
    def drop(transaction: Transaction, lease: Lease) -> None:
        """Give a lease back, unless another node has it by now."""
        transaction.execute(_RELEASE, lease.row)

    def release(self, lease: Lease) -> Future[None]:
        """Give a lease back, as `drop`, in a transaction of its own."""
        return self._database.write(lambda transaction: self.drop(transaction, lease))


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
