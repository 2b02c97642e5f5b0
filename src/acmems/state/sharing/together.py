"""The steps of orders that many requests take at the same time: each by one statement for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.chains.putting import put_all
from acmems.state.engines.contract import Transaction, Value, marks
from acmems.state.limits.pauses import PauseRecord, PauseRecords
from acmems.state.orders import OrderRecord, select_orders
from acmems.state.sharing.leases import Lease, Leases

IS_OPEN = "WHERE url IS NOT NULL AND expires > acmems_now()"
FORGET = "DELETE FROM orders WHERE identity = ?"

_TAKE_PREPARED = """
    UPDATE orders SET identity = ?, csr = ?, block = ?, begun = acmems_now(), epoch = ? WHERE identity = ?
"""
_OPENED = "INSERT INTO orders (identity, csr, block, begun, account, url, expires, epoch) VALUES"
_OPENED_ROW = "(?, ?, ?, acmems_now(), ?, ?, ?, ?)"
_OPENED_AGAIN = """
    ON CONFLICT (identity) DO UPDATE SET csr = excluded.csr, block = excluded.block, begun = excluded.begun,
        account = excluded.account, url = excluded.url, expires = excluded.expires, epoch = excluded.epoch
"""


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


@dataclass(frozen=True, slots=True)
class WantedOrder:
    """What is to be claimed.

    Args:
        identity: what makes two requests the same, as a digest.
        subjects: whose pauses to look for.
        is_wanted: tells whether a chain makes an order needless; called in a transaction.
        taking: takes the order that was prepared for the same names, once no other node is preparing it.
    """

    identity: str
    subjects: Sequence[str]
    is_wanted: Callable[[ChainRecord], bool]
    taking: OrderTaking | None = None

    @property
    def identities(self) -> tuple[str, ...]:
        """Of the orders that it may go on with: its own, and the one that was prepared."""
        return (self.identity,) if self.taking is None else (self.identity, self.taking.prepared)


@dataclass(frozen=True, slots=True)
class ClaimedOrder:
    """What has come of a claim.

    Args:
        claim: what was found.
        lease: of the order, None where it is not this node's.
        found: the order that is open already, None where there is none.
    """

    claim: OrderClaim
    lease: Lease | None = None
    found: OrderRecord | None = None


@dataclass(frozen=True, slots=True)
class OpenedOrder:
    """An order that the CA has, to be noted.

    Args:
        lease: of the order.
        row: its identity, CSR, block, account, URL and expiry.
    """

    lease: Lease
    row: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class IssuedOrder:
    """An order that is over.

    Args:
        lease: of the order.
        identity: its identity.
        record: the chain that it has brought.
    """

    lease: Lease
    identity: str
    record: ChainRecord


class SharedSteps:
    """The steps of orders in a state that several nodes share; in transactions of `Database.write`.

    Args:
        leases: those of this node.
        pauses: what is looked at together with claims.
    """

    def __init__(self, leases: Leases, pauses: PauseRecords) -> None:
        self._leases = leases
        self._pauses = pauses

    def claim(self, transaction: Transaction, wanted: Sequence[WantedOrder]) -> list[ClaimedOrder]:
        """Make orders this node's, each unless another node has it or there is a chain already."""
        newest = ChainRecords.newest_of(transaction, [each.identity for each in wanted])
        names = {lease_name(identity) for each in wanted for identity in each.identities}
        elsewhere = self._leases.elsewhere(transaction, names)
        outcomes: dict[str, ClaimedOrder] = {}
        free: list[WantedOrder] = []
        for each in wanted:
            chain = newest.get(each.identity)
            known = None if chain is None else chain.fingerprint
            if chain is not None and each.is_wanted(chain):
                outcomes[each.identity] = ClaimedOrder(OrderClaim(newest=known, chain=chain))
            elif any(lease_name(identity) in elsewhere for identity in each.identities):
                outcomes[each.identity] = ClaimedOrder(OrderClaim(newest=known, is_elsewhere=True))
            else:
                free.append(each)
        outcomes |= self._take(transaction, free, newest) if free else {}
        return [outcomes[each.identity] for each in wanted]

    def opened(self, transaction: Transaction, orders: Sequence[OpenedOrder]) -> list[bool]:
        """Note what the CA has answered to new orders; tell of each whether it is this node's still."""
        held = self._leases.held(transaction, [each.lease for each in orders])
        rows = [(*each.row, each.lease.epoch) for each in orders if each.lease in held]
        if rows:
            statement = f"{_OPENED} {', '.join([_OPENED_ROW] * len(rows))} {_OPENED_AGAIN}"
            transaction.execute(statement, tuple(value for row in rows for value in row))
        return [each.lease in held for each in orders]

    def issued(self, transaction: Transaction, orders: Sequence[IssuedOrder]) -> list[bool]:
        """Keep the chains that orders have brought, and end these; tell of each whether its chain is kept."""
        held = self._leases.held(transaction, [each.lease for each in orders])
        mine = [each for each in orders if each.lease in held]
        if mine:
            put_all(transaction, [each.record for each in mine])
            identities = [each.identity for each in mine]
            transaction.execute(f"DELETE FROM orders WHERE identity IN ({marks(mine)})", identities)  # noqa: S608 - question marks
            self._leases.drop_all(transaction, [each.lease for each in mine])
        # Whoever has taken over may have got the same; or this is done for the second time.
        return [
            each.lease in held or ChainRecords.is_kept(transaction, each.record.fingerprint)
            for each in orders
        ]

    def _take(
        self, transaction: Transaction, wanted: Sequence[WantedOrder], known: dict[str, ChainRecord]
    ) -> dict[str, ClaimedOrder]:
        """Take orders that no other node had a moment ago, each unless something of it is paused."""
        subjects = {subject for each in wanted for subject in each.subjects}
        found = {each.subject: each for each in self._pauses.find(transaction, sorted(subjects))}
        pauses = {
            each.identity: [found[subject] for subject in each.subjects if subject in found]
            for each in wanted
        }
        going = [each for each in wanted if all(pause.left <= 0 for pause in pauses[each.identity])]
        leases = self._leases.take_all(transaction, [lease_name(each.identity) for each in going])
        # Whoever had a lease may have given it back since the first look, with a chain.
        latest = ChainRecords.newest_of(transaction, [each.identity for each in going])
        orders = _open_orders(transaction, going)
        outcomes: dict[str, ClaimedOrder] = {}
        for each in wanted:
            before, now = (_fingerprint(chains.get(each.identity)) for chains in (known, latest))
            lease = leases.get(lease_name(each.identity))
            chain = latest.get(each.identity)
            if lease is None:
                claim = OrderClaim(before, is_elsewhere=each in going, pauses=pauses[each.identity])
                outcomes[each.identity] = ClaimedOrder(claim)
            elif chain is not None and now != before and each.is_wanted(chain):
                self._leases.drop(transaction, lease)
                outcomes[each.identity] = ClaimedOrder(OrderClaim(newest=now, chain=chain))
            else:
                claim = OrderClaim(newest=before, is_mine=True, pauses=pauses[each.identity])
                order = _taken(transaction, each, lease, orders)
                outcomes[each.identity] = ClaimedOrder(claim, lease, order)
        return outcomes


def lease_name(identity: str) -> str:
    """Return the name of the lease of an order."""
    return f"order:{identity}"


def _fingerprint(chain: ChainRecord | None) -> str | None:
    return None if chain is None else chain.fingerprint


def _open_orders(transaction: Transaction, wanted: Iterable[WantedOrder]) -> dict[str, OrderRecord]:
    """Return the orders that are open, by identity."""
    identities = sorted({identity for each in wanted for identity in each.identities})
    if not identities:
        return {}
    found = select_orders(transaction, f"{IS_OPEN} AND identity IN ({marks(identities)})", *identities)
    return {each.identity: each for each in found}


def _taken(
    transaction: Transaction, wanted: WantedOrder, lease: Lease, orders: dict[str, OrderRecord]
) -> OrderRecord | None:
    """Return the order that is open for an identity, or the prepared one, which is taken then."""
    taking, identity = wanted.taking, wanted.identity
    if identity in orders or taking is None or taking.prepared not in orders:
        return orders.get(identity)
    transaction.execute(FORGET, (identity,))  # which has expired
    row = (identity, taking.csr, taking.block, lease.epoch, taking.prepared)
    is_taken = transaction.execute(_TAKE_PREPARED, row).rowcount == 1  # by no other node meanwhile
    return replace(orders[taking.prepared], identity=identity) if is_taken else None
