"""The orders that have begun and whose chains are not yet safe."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from acmems.state.engines.contract import Database, Transaction, Value

CHECKED_SECONDS = 1.0
"""For so long after a change the state is taken to be writable."""

_OPENED = """
    INSERT INTO orders (identity, csr, block, begun, account, url, expires) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (identity) DO UPDATE SET csr = excluded.csr, block = excluded.block, begun = excluded.begun,
        account = excluded.account, url = excluded.url, expires = excluded.expires
"""
_FORGET = "DELETE FROM orders WHERE identity = ?"
# This machine's clock may be wrong by some hours.
FORGET_UNTAKEN = "DELETE FROM orders WHERE length(csr) = 0 AND expires <= acmems_now() - 86400"
"""Forgets what was prepared and has expired."""


@dataclass(frozen=True, slots=True)
class OrderRecord:
    """An order that the CA has.

    Args:
        identity: what makes two requests the same, as a digest.
        csr: the certificate request as the client sent it; empty for an order that was prepared and waits for
            one.
        block: the auth block that granted it, None if there was none.
        account: the account's URL.
        url: the order's URL.
        expires: when the CA forgets it (aware).
        begun: when it was placed (aware, whole seconds).
    """

    identity: str
    csr: bytes
    block: str | None
    account: str
    url: str
    expires: datetime.datetime
    begun: datetime.datetime

    @property
    def is_prepared(self) -> bool:
        """Whether the CA has no CSR for it: its names are proved, or being proved, for whoever brings one."""
        return not self.csr


class OrderRecords:
    """Keeps orders from before they are placed until their chains are safe.

    The futures are done when a change is durable, and hold a `StateUnavailable` where it cannot be made.

    Args:
        database: where they are kept.
        monotonic: a clock, in seconds.

    Raises:
        StateUnavailable: they cannot be read.
    """

    sharing = None

    def __init__(self, database: Database, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._monotonic = monotonic
        self._written = -CHECKED_SECONDS  # when the last change had been made
        self._check: Future[None] | None = None  # the last one
        self._intents: dict[str, tuple[bytes, str | None, int]] = {}
        self._recovered = {each.identity: each for each in self._load()}

    @property
    def recovered(self) -> tuple[OrderRecord, ...]:
        """Those that the last process has left at the CA, oldest first, and that are not forgotten since.

        Also those that seem to have expired: this machine's clock may be wrong, and the CA knows better.
        """
        return tuple(self._recovered.values())

    def intend(
        self, identity: str, csr: bytes, block: str | None, now: datetime.datetime
    ) -> Future[None] | None:
        """Note that an order is going to be placed, or an open one for the same to be continued.

        It is written together with the CA's answer: before there is an order, there is nothing to find again.
        But whether the state can be written is tried before, so that nothing is ordered in vain; what was
        written less than a second ago has shown it.

        Args:
            identity: what makes two requests the same, as a digest.
            csr: the certificate request as the client sent it.
            block: the auth block that grants it.
            now: the time.

        Returns:
            a future to wait for, None where there is no need to.
        """
        self._intents[identity] = (csr, block, int(now.timestamp()))
        self._database.expect(len(self._intents))
        if self._database.failure is None and self._monotonic() - self._written < CHECKED_SECONDS:
            return None
        if self._check is None or self._check.done():  # one is enough for all who begin at the same time
            self._check = self._database.check()
            self._check.add_done_callback(self._note_outcome)
        return self._check

    def end(self, identity: str) -> None:
        """Take note that no order is going to be placed for now, until the next `intend`."""
        self._intents.pop(identity, None)
        self._database.expect(len(self._intents))

    def opened(self, identity: str, account: str, url: str, expires: datetime.datetime) -> Future[None]:
        """Note what the CA has answered to a new order, between `intend` and `end`.

        Args:
            identity: as for `intend`.
            account: the account's URL.
            url: the order's URL.
            expires: when to forget it.
        """
        csr, block, begun = self._intents[identity]
        return self._write(_OPENED, (identity, csr, block, begun, account, url, int(expires.timestamp())))

    def take(
        self, prepared: str, identity: str, account: str, url: str, expires: datetime.datetime
    ) -> Future[None]:
        """Note that an order that was prepared is a request's from now on, between `intend` and `end`.

        Args:
            prepared: what it was prepared for, as a digest.
            identity: as for `intend`.
            account: the account's URL.
            url: the order's URL.
            expires: when to forget it.
        """
        self._recovered.pop(prepared, None)
        csr, block, begun = self._intents[identity]
        row = (identity, csr, block, begun, account, url, int(expires.timestamp()))

        def change(transaction: Transaction) -> None:
            transaction.execute(_FORGET, (prepared,))
            transaction.execute(_OPENED, row)

        written = self._database.write(change)
        written.add_done_callback(self._note_outcome)
        return written

    def forget_expired(self) -> None:
        """Forget orders that were prepared, and that nobody has taken before they expired."""
        self._write(FORGET_UNTAKEN, (), soon=False)

    def discard(self, record: OrderRecord) -> None:
        """Forget an order that was recovered and need not be finished."""
        self.forget(record.identity)

    def forget(self, identity: str) -> None:
        """Forget an order: its chain is safe, or the order is of no use.

        It is not urgent: an order that a crash brings back is looked at again, and forgotten then.

        Args:
            identity: as for `intend`.
        """
        self._recovered.pop(identity, None)
        self._write(_FORGET, (identity,), soon=False)

    def flush(self) -> None:
        """Write what has waited for another change, and see whether the state can be written."""
        self._database.flush()
        self._database.check()

    def _write(self, statement: str, row: tuple[Value, ...], *, soon: bool = True) -> Future[None]:
        def change(transaction: Transaction) -> None:
            transaction.execute(statement, row)

        written = self._database.write(change, soon=soon)
        if soon:  # others may be written at any time, and tell nothing of when this was asked for
            written.add_done_callback(self._note_outcome)
        return written

    def _note_outcome(self, written: Future[None]) -> None:
        if written.exception() is None:
            self._written = self._monotonic()

    def _load(self) -> tuple[OrderRecord, ...]:
        """Return the orders that the CA has, and forget the others: nothing was issued for those."""

        def change(transaction: Transaction) -> tuple[OrderRecord, ...]:
            transaction.execute("DELETE FROM orders WHERE url IS NULL")
            transaction.execute(FORGET_UNTAKEN)
            return select_orders(transaction, "ORDER BY begun")

        return self._database.write(change).result()


def select_orders(transaction: Transaction, condition: str, *row: Value) -> tuple[OrderRecord, ...]:
    """Return orders that the CA has.

    Args:
        transaction: where to look.
        condition: which, and in which order, in SQL; it MUST NOT find orders without a URL.
        row: its values.
    """
    columns = (
        "orders.identity, orders.csr, orders.block, orders.account, orders.url, orders.expires, orders.begun"
    )
    rows = transaction.execute(f"SELECT {columns} FROM orders {condition}", row)  # noqa: S608 - constants
    return tuple(
        OrderRecord(identity, csr, block, account, url, _time(expires), _time(begun))
        for identity, csr, block, account, url, expires, begun in rows.fetchall()
    )


def _time(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
