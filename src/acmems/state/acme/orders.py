"""The orders of ACME clients, which any server with this state answers for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from acmems.state.acme.order import COLUMNS, ClientOrder
from acmems.state.engines.contract import Change, Database, Transaction, marks
from acmems.system.steps.futures import after

MOST_UNFINISHED = 1000
"""Orders of one account that are not finalized, or have failed; of more, the oldest ones are forgotten."""
MOST_FINALIZED = 10_000
"""Orders of one account that are finalized; of more, the oldest ones are forgotten before their time. One
whose chain is stored costs nothing but a row, so nothing else bounds them."""
MOST_REMEMBERED = 10_000
"""Names of orders that are in memory, where no other process may change them."""
_AT_ONCE = 1000  # rows that are forgotten in one transaction

_NAMES = ", ".join(COLUMNS)
_PUT = f"INSERT INTO acme_orders ({_NAMES}) VALUES ({marks(COLUMNS)}) ON CONFLICT (id) DO NOTHING"  # noqa: S608 - columns
_FIND = f"SELECT {_NAMES} FROM acme_orders WHERE id = ?"  # noqa: S608 - columns
_OF_ACCOUNT = f"""
    SELECT {_NAMES} FROM acme_orders WHERE account = ? AND expires > ? AND id > ? ORDER BY id LIMIT ?
"""  # noqa: S608 - columns
_IDS = """
    SELECT id FROM acme_orders
    WHERE account = ? AND expires > ? AND id > ? AND status <> 'invalid' ORDER BY id LIMIT ?
"""
_LOCK = "UPDATE acme_orders SET changes = changes + 1 WHERE id = ?"
_CHANGED = tuple(each for each in COLUMNS if each not in ("id", "account", "created", "names"))
_CHANGE = f"UPDATE acme_orders SET {', '.join(f'{each} = ?' for each in _CHANGED)} WHERE id = ?"  # noqa: S608 - columns
_EXCESS = """
    DELETE FROM acme_orders WHERE id IN (
        SELECT id FROM acme_orders WHERE account = ? AND status IN ('pending', 'ready', 'invalid')
        ORDER BY created DESC, id DESC LIMIT ? OFFSET ?
    )
"""
_CROWDED = "SELECT account FROM acme_orders GROUP BY account HAVING count(*) > ?"
_OLDEST = """
    DELETE FROM acme_orders WHERE id IN (
        SELECT id FROM acme_orders WHERE account = ? AND status IN ('processing', 'valid')
        ORDER BY finalized DESC, id LIMIT ? OFFSET ?
    )
"""
_FORGET = """
    DELETE FROM acme_orders WHERE id IN (SELECT id FROM acme_orders WHERE expires <= ? LIMIT ?)
"""
_REPLACING = """
    SELECT id FROM acme_orders WHERE replaces = ? AND account = ? AND status <> 'invalid' AND expires > ?
"""

OrderChange = Callable[[ClientOrder], ClientOrder]
"""Returns what an order becomes, or the order itself where it may not change so. It MUST be pure: it is
called in a transaction, perhaps more than once."""
Beside = Callable[[Transaction, ClientOrder], None]
"""Makes further changes in the same transaction, given what an order has become."""


class ClientOrders:
    """Keeps these orders; for any thread.

    The futures are done when a change is durable, and hold a `StateUnavailable` where it cannot be made.

    Args:
        database: where they are kept.
        most_unfinished: how many of one account may wait to be finalized, or have failed.
        most_finalized: how many of one account are kept that are finalized.
    """

    def __init__(
        self,
        database: Database,
        *,
        most_unfinished: int = MOST_UNFINISHED,
        most_finalized: int = MOST_FINALIZED,
    ) -> None:
        self._database = database
        self._most_unfinished = most_unfinished
        self._most_finalized = most_finalized
        self._in_turn = threading.Lock()  # held while a change is queued
        self._lock = threading.Lock()  # guards what follows
        self._known: OrderedDict[str, ClientOrder] = OrderedDict()
        self._names = 0  # of these

    def put(self, order: ClientOrder) -> Future[ClientOrder]:
        """Keep a new order.

        Args:
            order: the order.
        """

        def change(transaction: Transaction) -> ClientOrder:
            transaction.execute(_PUT, order.row)
            transaction.execute(_EXCESS, (order.account, _AT_ONCE, self._most_unfinished))
            return order

        return self._write(change)

    def known(self, name: str) -> ClientOrder | None:
        """Return an order if it is in memory and right, without I/O."""
        with self._lock:
            return self._known.get(name)

    def find(self, name: str) -> ClientOrder | None:
        """Return an order by its id, None where there is none; it may wait for a disk or a network.

        Raises:
            StateUnavailable: it cannot be read.
        """
        known = self.known(name)
        if known is not None:
            return known
        return self._database.read(lambda transaction: _find(transaction, name))

    def change(
        self, name: str, change: OrderChange, beside: Beside = lambda _transaction, _order: None
    ) -> Future[ClientOrder | None]:
        """Change an order, whatever others do to it at the same time.

        Args:
            name: its id.
            change: what becomes of it.
            beside: what else is written with it.

        Returns:
            a future with what it is afterwards, None where there is no such order.
        """

        def apply(transaction: Transaction) -> ClientOrder | None:
            # Written first, so that nobody else changes the row until this transaction ends.
            transaction.execute(_LOCK, (name,))
            order = _find(transaction, name)
            if order is None:
                return None
            changed = change(order)
            if changed is not order:
                values = dict(zip(COLUMNS, changed.row, strict=True))
                transaction.execute(_CHANGE, (*(values[each] for each in _CHANGED), name))
            beside(transaction, changed)
            return changed

        return self._write(apply)

    def of_account(self, account: str, now: int, after: str = "", most: int = 100) -> list[ClientOrder]:
        """Return orders of an account that have not expired, by their ids.

        Args:
            account: the id of the account.
            now: the time, in seconds since 1970.
            after: the id of the last one of the page before.
            most: how many are returned.

        Raises:
            StateUnavailable: they cannot be read.
        """
        rows: list[Sequence[Any]] = self._database.read(
            lambda transaction: transaction.execute(_OF_ACCOUNT, (account, now, after, most)).fetchall()
        )
        return [ClientOrder.from_row(each) for each in rows]

    def ids_of(self, account: str, now: int, after: str | None, most: int) -> list[str]:
        """Return the ids of an account's orders that are neither invalid nor expired, in their order.

        Args:
            account: the id of the account.
            now: the time, in seconds since 1970.
            after: the id of the last one of the page before, None for the first page.
            most: how many are returned.

        Raises:
            StateUnavailable: they cannot be read.
        """
        rows: list[Sequence[Any]] = self._database.read(
            lambda transaction: transaction.execute(_IDS, (account, now, after or "", most)).fetchall()
        )
        return [each[0] for each in rows]

    def replacing(self, certificate: str, account: str, now: int) -> list[str]:
        """Return the ids of an account's orders that replace a certificate, and are not invalid.

        Args:
            certificate: what the certificate is called (RFC 9773 section 4.1).
            account: the id of the account.
            now: the time, in seconds since 1970.

        Raises:
            StateUnavailable: they cannot be read.
        """
        rows: list[Sequence[Any]] = self._database.read(
            lambda transaction: transaction.execute(_REPLACING, (certificate, account, now)).fetchall()
        )
        return [each[0] for each in rows]

    def forget(self, now: int) -> None:
        """Forget orders that have expired, and what one account has too many of; called from time to time.

        Args:
            now: the time, in seconds since 1970.
        """

        def change(transaction: Transaction) -> None:
            transaction.execute(_FORGET, (now, _AT_ONCE))
            for (account,) in transaction.execute(_CROWDED, (self._most_finalized,)).fetchall():
                transaction.execute(_OLDEST, (account, _AT_ONCE, self._most_finalized))

        self._database.write(change, soon=False)
        with self._lock:
            for order in [order for order in self._known.values() if order.is_expired(now)]:
                self._drop(order.id)

    def _write(self, change: Change[Any]) -> Future[Any]:
        if self._database.is_shared:
            return self._database.write(change)
        with self._in_turn:  # so that what is newest stays: it is remembered in the order of the changes
            return after(self._database.write(change), self._remember)

    def _remember(self, order: ClientOrder | None) -> ClientOrder | None:
        """Keep an order in memory, before anybody is told of the change to it; return it."""
        if order is not None:
            with self._lock:
                self._drop(order.id)
                self._known[order.id] = order
                self._names += len(order.names)
                while self._names > MOST_REMEMBERED:
                    self._drop(next(iter(self._known)))
        return order

    def _drop(self, name: str) -> None:
        """Let go of an order, if it is in memory. The lock is held."""
        order = self._known.pop(name, None)
        if order is not None:
            self._names -= len(order.names)


def _find(transaction: Transaction, name: str) -> ClientOrder | None:
    row = transaction.execute(_FIND, (name,)).fetchone()
    return None if row is None else ClientOrder.from_row(row)
