"""Open orders in a state that several servers share: each belongs to the one that holds its lease."""

from __future__ import annotations

import datetime
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Self, TypeVar

from acmems.exceptions import LeaseLost, StateUnavailable
from acmems.state.chains import ChainRecord
from acmems.state.engines.contract import Database, Transaction
from acmems.state.engines.gathering import GatheredChanges
from acmems.state.limits.pauses import PauseRecords
from acmems.state.orders import FORGET_UNTAKEN, OrderRecord, select_orders
from acmems.state.sharing.leases import Lease, Leases, unless_lost
from acmems.state.sharing.together import (
    FORGET,
    IS_OPEN,
    ClaimedOrder,
    IssuedOrder,
    OpenedOrder,
    OrderClaim,
    OrderTaking,
    SharedSteps,
    WantedOrder,
    lease_name,
)

A = TypeVar("A")
R = TypeVar("R")
T = TypeVar("T")

# Whose nodes have died; what was given back in order is for whoever asks next.
_OF_DEAD_NODES = """
    JOIN leases ON leases.name = 'order:' || orders.identity
    WHERE orders.url IS NOT NULL AND orders.expires > acmems_now() AND NOT EXISTS (
        SELECT 1 FROM nodes WHERE nodes.node = leases.node AND nodes.expires > acmems_now()
    )
    ORDER BY orders.begun
"""
_OF_NOBODY = """
    WHERE url IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM leases, nodes WHERE leases.name = 'order:' || orders.identity
        AND nodes.node = leases.node AND nodes.expires > acmems_now()
    )
    ORDER BY begun
"""
_REMOVE_EXPIRED = "DELETE FROM orders WHERE url IS NULL OR expires <= acmems_now()"


class SharedOrders:
    """Keeps orders for this node and those that take over from it: as `OrderRecords`, each under a lease.

    Between `claim` and `end` an order is this node's. What it writes then is not written where another node
    has taken over since: the futures hold a `LeaseLost`.

    Args:
        database: where they are kept.
        leases: those of this node.
        pauses: what is looked at together with each claim.

    Raises:
        StateUnavailable: they cannot be read.
    """

    def __init__(self, database: Database, leases: Leases, pauses: PauseRecords) -> None:
        self._database = database
        self._leases = leases
        self._lock = threading.Lock()  # guards how many changes are queued
        self._held: dict[str, Lease] = {}
        self._found: dict[str, OrderRecord] = {}  # of those that are held: what was open already
        self._intents: dict[str, tuple[bytes, str | None]] = {}
        self._is_leaving = False
        self._unwritten: dict[str, Callable[[], Future[None]]] = {}  # what has to be tried again
        steps = SharedSteps(leases, pauses)
        self._claims = GatheredChanges(database, steps.claim)
        self._opened = GatheredChanges(database, steps.opened)
        self._issued = GatheredChanges(database, steps.issued)
        self._queued: Counter[str] = Counter()  # changes of each order that are not made yet
        self._left = {each.identity: each for each in database.write(_load).result()}

    @property
    def sharing(self) -> Self:
        """How orders are shared with other nodes."""
        return self

    @property
    def recovered(self) -> tuple[OrderRecord, ...]:
        """Those that were open at the start and are nobody's, and those that dead nodes have left since."""
        return tuple(self._left.values())

    def claim(
        self,
        identity: str,
        subjects: Sequence[str],
        is_wanted: Callable[[ChainRecord], bool],
        taking: OrderTaking | None = None,
    ) -> Future[OrderClaim]:
        """Make an order this node's, unless another node has it or there is a chain already.

        Args:
            identity: what makes two requests the same, as a digest.
            subjects: whose pauses to look for.
            is_wanted: tells whether a chain makes an order needless; called in a transaction.
            taking: takes the order that was prepared for the same names, once no other node is preparing it.
        """
        self._try_again(identity)
        claimed: Future[OrderClaim] = Future()

        def note(written: Future[ClaimedOrder]) -> None:
            error = written.exception()
            if error is not None:
                claimed.set_exception(error)
                return
            outcome = written.result()
            if outcome.lease is not None:
                self._held[identity] = outcome.lease
            if outcome.found is not None:
                self._found[identity] = outcome.found
            claimed.set_result(outcome.claim)

        wanted = WantedOrder(identity, subjects, is_wanted, taking)
        self._write(self._claims, wanted, *wanted.identities).add_done_callback(note)
        return claimed

    def intend(self, identity: str, csr: bytes, block: str | None, now: object) -> None:  # noqa: ARG002 - the contract's; the clock is the database's
        """Take note of what is going to be ordered; the claim has seen that the state can be written.

        Args:
            identity: what makes two requests the same, as a digest.
            csr: the certificate request as the client sent it.
            block: the auth block that grants it.
            now: of no use here.
        """
        self._intents[identity] = csr, block
        self._database.expect(len(self._intents))

    def found(self, identity: str) -> OrderRecord | None:
        """Return the order that was open when this node claimed it, None if there was none."""
        return self._found.get(identity)

    def held(self, identity: str) -> Future[None]:
        """Look whether an order is still this node's, before the CA is asked for what cannot be undone."""
        lease = self._held.get(identity)
        return _lost(identity) if lease is None else self._leases.check(lease)

    def opened(self, identity: str, account: str, url: str, expires: datetime.datetime) -> Future[None]:
        """Note what the CA has answered to a new order.

        Args:
            identity: as for `claim`.
            account: as `OrderRecord` has it.
            url: the order's URL.
            expires: when to forget it.
        """
        lease = self._held.get(identity)
        if lease is None:
            return _lost(identity)
        csr, block = self._intents[identity]
        row = (identity, csr, block, account, url, int(expires.timestamp()))
        return unless_lost(self._write(self._opened, OpenedOrder(lease, row), identity), lease.name)

    def forget(self, identity: str) -> None:
        """Forget an order of this node that is of no use; of others, it is left alone."""
        self._found.pop(identity, None)
        lease = self._held.get(identity)
        if lease is not None:

            def change(transaction: Transaction) -> None:
                transaction.execute(FORGET, (identity,))

            self._wait_for(self._leases.write(lease, change, soon=False), identity)

    @property
    def is_certain(self) -> bool:
        """Whether nobody can have taken over what this node has claimed."""
        return self._leases.are_certain

    def issued(self, identity: str, record: ChainRecord, *, soon: bool = True) -> Future[None]:
        """Keep the chain that an order has brought; with that, the order and its lease are over.

        Where it cannot be written now, it is tried again from time to time, and nobody else orders meanwhile.

        Args:
            identity: as for `claim`.
            record: the chain.
            soon: whether that has no time until something else is written, or this node is at nothing more.
        """
        lease = self._held.pop(identity, None)
        if lease is None:
            return _lost(identity)

        order = IssuedOrder(lease, identity, record)
        return self._try(
            identity, lambda: unless_lost(self._write(self._issued, order, identity, soon=soon), lease.name)
        )

    def end(self, identity: str) -> None:
        """Let others have an order: it has ended here, and is open still or not."""
        self._intents.pop(identity, None)
        self._database.expect(len(self._intents))
        if not self._intents:
            self._database.flush()
        self._found.pop(identity, None)
        lease = self._held.pop(identity, None)
        if lease is not None and not self._is_leaving:
            self._try(identity, lambda: self._wait_for(self._leases.release(lease), identity))

    def take(
        self, prepared: str, identity: str, account: str, url: str, expires: datetime.datetime
    ) -> Future[None]:
        """Note what was prepared, and could not be noted until now, as an order of a request."""
        self._found.pop(prepared, None)
        return self.opened(identity, account, url, expires)

    def forget_expired(self) -> None:
        """Forget orders that were prepared, and that nobody has taken before they expired."""

        def change(transaction: Transaction) -> None:
            transaction.execute(FORGET_UNTAKEN)

        self._database.write(change, soon=False)

    def leave(self) -> None:
        """Keep from now on what is not finished, so that other nodes go on with it once this one has left."""
        self._is_leaving = True

    def discard(self, record: OrderRecord) -> None:
        """Forget an order that was left and need not be finished, unless somebody is at it."""
        self._left.pop(record.identity, None)

        def change(transaction: Transaction) -> None:
            lease = self._leases.take(transaction, lease_name(record.identity))
            if lease is not None:
                transaction.execute(f"{FORGET} AND url = ?", (record.identity, record.url))
                self._leases.drop(transaction, lease)

        self._wait_for(self._database.write(change), record.identity)

    def flush(self) -> None:
        """Write what could not be written, and look for what dead nodes have left; it may wait for a network.

        Raises:
            StateUnavailable: they cannot be read.
        """
        self._database.flush()
        for identity in tuple(self._unwritten):
            self._try_again(identity)
        known = tuple(self._left)

        def query(transaction: Transaction) -> tuple[list[str], tuple[OrderRecord, ...]]:
            gone = [
                each for each in known if not select_orders(transaction, f"{IS_OPEN} AND identity = ?", each)
            ]
            return gone, select_orders(transaction, _OF_DEAD_NODES)

        gone, left = self._database.read(query)
        for identity in gone:
            self._left.pop(identity, None)
        self._left.update({each.identity: each for each in left})

    def _write(
        self, gathered: GatheredChanges[A, R], argument: A, *identities: str, soon: bool = True
    ) -> Future[R]:
        """Make a change to an order together with those to others, unless an earlier one to it is queued.

        Args:
            gathered: makes changes of this kind.
            argument: what it needs to know.
            identities: of the order, and of another one that it may take.
            soon: as for `Database.write`.
        """
        if any(self._queued[identity] for identity in identities):
            return self._wait_for(gathered.write_alone(argument), *identities)
        return self._wait_for(gathered.write(argument, soon=soon), *identities)

    def _wait_for(self, written: Future[T], *identities: str) -> Future[T]:
        """Have what is written next to orders come after this."""
        with self._lock:
            self._queued.update(identities)

        def note(_: Future[T]) -> None:
            with self._lock:
                self._queued.subtract(identities)
                for identity in identities:
                    if not self._queued[identity]:
                        del self._queued[identity]

        written.add_done_callback(note)
        return written

    def _try(self, identity: str, write: Callable[[], Future[None]]) -> Future[None]:
        """Write something, and keep it for another try where the state cannot be written."""
        written = write()

        def note(written: Future[None]) -> None:
            if isinstance(written.exception(), StateUnavailable):
                self._unwritten[identity] = write

        written.add_done_callback(note)
        return written

    def _try_again(self, identity: str) -> None:
        write = self._unwritten.pop(identity, None)
        if write is not None:
            self._try(identity, write)


def _lost(identity: str) -> Future[None]:
    lost: Future[None] = Future()
    lost.set_exception(LeaseLost(lease_name(identity)))
    return lost


def _load(transaction: Transaction) -> tuple[OrderRecord, ...]:
    transaction.execute(_REMOVE_EXPIRED)
    return select_orders(transaction, _OF_NOBODY)
