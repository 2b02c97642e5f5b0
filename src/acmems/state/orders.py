"""The orders that have begun and whose chains are not yet safe."""

from __future__ import annotations

import datetime
import sqlite3
from concurrent.futures import Future
from dataclasses import dataclass

from acmems.state.database import Database

_INTEND = """
    INSERT INTO orders (identity, csr, block, begun) VALUES (?, ?, ?, ?)
    ON CONFLICT (identity) DO UPDATE SET csr = excluded.csr, block = excluded.block, begun = excluded.begun
"""


@dataclass(frozen=True, slots=True)
class OrderRecord:
    """An order that the CA has.

    Args:
        identity: what makes two requests the same, as a digest.
        csr: the certificate request as the client sent it.
        block: the auth block that granted it, None if there was none.
        account: the digest of the account's public key.
        url: the order's URL.
        expires: when the CA forgets it (aware).
    """

    identity: str
    csr: bytes
    block: str | None
    account: str
    url: str
    expires: datetime.datetime


class OrderRecords:
    """Keeps orders from before they are placed until their chains are safe.

    Every change returns a future, which is done when the change is durable and holds a `StateUnavailable`
    where it cannot be made.

    Args:
        database: where they are kept.
        now: the time; what has expired is forgotten.

    Raises:
        StateUnavailable: they cannot be read.
    """

    def __init__(self, database: Database, now: datetime.datetime) -> None:
        self._database = database
        self._recovered = {each.identity: each for each in self._load(now)}

    @property
    def recovered(self) -> tuple[OrderRecord, ...]:
        """Those that the last process has left at the CA, oldest first, and that are not forgotten since."""
        return tuple(self._recovered.values())

    def intend(self, identity: str, csr: bytes, block: str | None, now: datetime.datetime) -> Future[None]:
        """Note that an order is going to be placed, or an open one for the same to be continued.

        Args:
            identity: what makes two requests the same, as a digest.
            csr: the certificate request as the client sent it.
            block: the auth block that grants it.
            now: the time.
        """
        row = (identity, csr, block, int(now.timestamp()))

        def change(connection: sqlite3.Connection) -> None:
            connection.execute(_INTEND, row)

        return self._database.write(change)

    def opened(self, identity: str, account: str, url: str, expires: datetime.datetime) -> Future[None]:
        """Note what the CA has answered to a new order.

        Args:
            identity: as for `intend`.
            account: the digest of the account's public key.
            url: the order's URL.
            expires: when to forget it.
        """
        row = (account, url, int(expires.timestamp()), identity)

        def change(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE orders SET account = ?, url = ?, expires = ? WHERE identity = ?", row)

        return self._database.write(change)

    def forget(self, identity: str) -> Future[None]:
        """Forget an order: its chain is safe, or the order is of no use.

        Args:
            identity: as for `intend`.
        """

        def change(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM orders WHERE identity = ?", (identity,))

        self._recovered.pop(identity, None)
        return self._database.write(change)

    def _load(self, now: datetime.datetime) -> tuple[OrderRecord, ...]:
        """Return the orders that the CA has, and forget the others: nothing was issued for those."""
        past = int(now.timestamp())

        def change(connection: sqlite3.Connection) -> tuple[OrderRecord, ...]:
            connection.execute("DELETE FROM orders WHERE url IS NULL OR expires <= ?", (past,))
            rows = connection.execute(
                "SELECT identity, csr, block, account, url, expires FROM orders ORDER BY begun"
            )
            return tuple(
                OrderRecord(identity, csr, block, account, url, _time(expires))
                for identity, csr, block, account, url, expires in rows
            )

        return self._database.write(change).result()


def _time(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
