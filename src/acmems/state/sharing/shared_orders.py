"""Open orders in a state that several servers share: each belongs to the one that holds its lease."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Self

from acmems.exceptions import LeaseLost, StateUnavailable
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.engines.contract import Database, Transaction
from acmems.state.limits.pauses import PauseRecord, PauseRecords
from acmems.state.orders import FORGET_UNTAKEN, OrderRecord, select_orders
from acmems.state.sharing.leases import Lease, Leases, unless_lost

_OPENED = """
    INSERT INTO orders (identity, csr, block, begun, account, url, expires, epoch)
    VALUES (?, ?, ?, acmems_now(), ?, ?, ?, ?)
    ON CONFLICT (identity) DO UPDATE SET csr = excluded.csr, block = excluded.block, begun = excluded.begun,
        account = excluded.account, url = excluded.url, expires = excluded.expires, epoch = excluded.epoch
"""
_TAKE_PREPARED = """
    UPDATE orders SET identity = ?, csr = ?, block = ?, begun = acmems_now(), epoch = ? WHERE identity = ?
"""
_FORGET = "DELETE FROM orders WHERE identity = ?"
_IS_OPEN = "WHERE url IS NOT NULL AND expires > acmems_now()"
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


@dataclass(frozen=True, slots=True)
class OrderClaim:
    """What a node finds that is going to order.

    Args:
        newest: the fingerprint of the newest chain that was issued for the same, None for none.
        chain: that chain, where it makes an order needless.
        is_elsewhere: whether another node has it.
        is_mine: whether the order is this node's from now on, so that it has to be ended.
        pauses: of what may stop it: what is paused, or has failed lately; not looked for where the others
            tell enough.
    """

    newest: str | None = None
    chain: ChainRecord | None = None
    is_elsewhere: bool = False
    is_mine: bool = False
    pauses: Sequence[PauseRecord] = ()


@dataclass(frozen=True, slots=True)
class OrderTaking:
    """A request that takes an order which was prepared for its names, where there is one.

    Args:
        prepared: what that was prepared for, as a digest.
        csr: the certificate request as the client sent it.
        block: the auth block that grants it.
    """

    prepared: str
    csr: bytes
    block: str | None


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
        self._pauses = pauses
        self._held: dict[str, Lease] = {}
        self._found: dict[str, OrderRecord] = {}  # of those that are held: what was open already
        self._intents: dict[str, tuple[bytes, str | None]] = {}
        self._is_leaving = False
        self._unwritten: dict[str, Callable[[], Future[None]]] = {}  # what has to be tried again
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

        name = _lease_name(identity)
        preparing = None if taking is None else _lease_name(taking.prepared)

        def change(transaction: Transaction) -> tuple[OrderClaim, Lease | None, OrderRecord | None]:
            newest = ChainRecords.newest_in(transaction, identity)
            known = None if newest is None else newest.fingerprint
            if newest is not None and is_wanted(newest):
                return OrderClaim(newest=known, chain=newest), None, None
            if self._leases.is_elsewhere(transaction, name, preparing):
                return OrderClaim(newest=known, is_elsewhere=True), None, None
            pauses = self._pauses.find(transaction, subjects)
            is_paused = any(each.left > 0 for each in pauses)
            lease = None if is_paused else self._leases.take(transaction, name)
            if lease is None:
                return OrderClaim(newest=known, is_elsewhere=not is_paused, pauses=pauses), None, None
            # Whoever had the lease may have given it back since the first look, with a chain.
            latest = ChainRecords.newest_in(transaction, identity)
            if latest is not None and latest.fingerprint != known and is_wanted(latest):
                self._leases.drop(transaction, lease)
                return OrderClaim(newest=latest.fingerprint, chain=latest), None, None
            found = _find(transaction, identity, lease, taking)
            return OrderClaim(newest=known, is_mine=True, pauses=pauses), lease, found

        claimed: Future[OrderClaim] = Future()

        def note(written: Future[tuple[OrderClaim, Lease | None, OrderRecord | None]]) -> None:
            error = written.exception()
            if error is not None:
                claimed.set_exception(error)
                return
            claim, lease, found = written.result()
            if lease is not None:
                self._held[identity] = lease
            if found is not None:
                self._found[identity] = found
            claimed.set_result(claim)

        self._database.write(change).add_done_callback(note)
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
        row = (identity, csr, block, account, url, int(expires.timestamp()), lease.epoch)

        def change(transaction: Transaction) -> None:
            transaction.execute(_OPENED, row)

        return self._leases.write(lease, change)

    def forget(self, identity: str) -> None:
        """Forget an order of this node that is of no use; of others, it is left alone."""
        self._found.pop(identity, None)
        lease = self._held.get(identity)
        if lease is not None:

            def change(transaction: Transaction) -> None:
                transaction.execute(_FORGET, (identity,))

            self._leases.write(lease, change, soon=False)

    def issued(self, identity: str, record: ChainRecord) -> Future[None]:
        """Keep the chain that an order has brought; with that, the order and its lease are over.

        Where it cannot be written now, it is tried again from time to time, and nobody else orders meanwhile.

        Args:
            identity: as for `claim`.
            record: the chain.
        """
        lease = self._held.pop(identity, None)
        if lease is None:
            return _lost(identity)

        def change(transaction: Transaction) -> bool:
            if not self._leases.holds(transaction, lease):
                # Whoever has taken over may have got the same; or this is done for the second time.
                return ChainRecords.is_kept(transaction, record.fingerprint)
            ChainRecords.put(transaction, record)
            transaction.execute(_FORGET, (identity,))
            self._leases.drop(transaction, lease)
            return True

        return self._try(identity, lambda: unless_lost(self._database.write(change), lease.name))

    def end(self, identity: str) -> None:
        """Let others have an order: it has ended here, and is open still or not."""
        self._intents.pop(identity, None)
        self._database.expect(len(self._intents))
        self._found.pop(identity, None)
        lease = self._held.pop(identity, None)
        if lease is not None and not self._is_leaving:
            self._try(identity, lambda: self._leases.release(lease))

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
            lease = self._leases.take(transaction, _lease_name(record.identity))
            if lease is not None:
                transaction.execute(f"{_FORGET} AND url = ?", (record.identity, record.url))
                self._leases.drop(transaction, lease)

        self._database.write(change)

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
                each for each in known if not select_orders(transaction, f"{_IS_OPEN} AND identity = ?", each)
            ]
            return gone, select_orders(transaction, _OF_DEAD_NODES)

        gone, left = self._database.read(query)
        for identity in gone:
            self._left.pop(identity, None)
        self._left.update({each.identity: each for each in left})

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


def _find(
    transaction: Transaction, identity: str, lease: Lease, taking: OrderTaking | None
) -> OrderRecord | None:
    """Return the order that is open for an identity, or the prepared one, which is taken then."""
    prepared = identity if taking is None else taking.prepared
    records = select_orders(transaction, f"{_IS_OPEN} AND identity IN (?, ?)", identity, prepared)
    found = {each.identity: each for each in records}
    if identity in found or taking is None or prepared not in found:
        return found.get(identity)
    transaction.execute(_FORGET, (identity,))  # which has expired
    row = (identity, taking.csr, taking.block, lease.epoch, prepared)
    is_taken = transaction.execute(_TAKE_PREPARED, row).rowcount == 1  # by no other node meanwhile
    return replace(found[prepared], identity=identity) if is_taken else None


def _lease_name(identity: str) -> str:
    return f"order:{identity}"


def _lost(identity: str) -> Future[None]:
    lost: Future[None] = Future()
    lost.set_exception(LeaseLost(_lease_name(identity)))
    return lost


def _load(transaction: Transaction) -> tuple[OrderRecord, ...]:
    transaction.execute(_REMOVE_EXPIRED)
    return select_orders(transaction, _OF_NOBODY)
