"""Accounts and their keys, for servers that share a state: all of them use the same."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

from acmems.state.engines.contract import Database, Transaction
from acmems.state.sharing.leases import Leases

_SELECT = """
    SELECT directory, name, key, thumbprint, registration, former FROM accounts
    WHERE directory = ? AND name = ?
"""
_ADD = """
    INSERT INTO accounts (directory, name, key, thumbprint, registration) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (directory, name) DO NOTHING
"""
_PUT = """
    INSERT INTO accounts (directory, name, key, thumbprint, registration) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (directory, name) DO UPDATE SET key = excluded.key, registration = excluded.registration,
        former = CASE WHEN accounts.thumbprint = excluded.thumbprint THEN accounts.former
            ELSE accounts.former || accounts.thumbprint || ? END,
        thumbprint = excluded.thumbprint
"""


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """An account that servers share.

    Args:
        directory: the URL of the CA's directory.
        key: its private key in PEM.
        thumbprint: of that key (RFC 7638).
        registration: what a registration file holds, None until the CA has registered it.
        name: of its section in the configuration.
        former: the thumbprints of keys that it has had before.
    """

    directory: str
    key: bytes = field(repr=False)
    thumbprint: str
    registration: str | None = None
    name: str = ""
    former: frozenset[str] = frozenset()


class AccountRecords:
    """Keeps accounts, one for each CA and name.

    The futures are done when a change is durable, and hold a `StateUnavailable` where it cannot be made.

    Args:
        database: where they are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, directory: str, name: str = "") -> AccountRecord | None:
        """Return an account, None if there is none.

        Args:
            directory: the URL of the CA's directory.
            name: of its section in the configuration.

        Raises:
            StateUnavailable: it cannot be read.
        """
        return self._database.read(lambda transaction: _account(transaction, directory, name))

    def add(self, account: AccountRecord) -> Future[AccountRecord]:
        """Keep an account unless there is one, and return the one that is kept."""

        def change(transaction: Transaction) -> AccountRecord:
            transaction.execute(_ADD, _row(account))
            return _account(transaction, account.directory, account.name) or account

        return self._database.write(change)

    def put(self, account: AccountRecord) -> Future[None]:
        """Keep an account in place of the one that is kept; another key than this becomes a former one."""

        def change(transaction: Transaction) -> None:
            transaction.execute(_PUT, (*_row(account), "\n"))

        return self._database.write(change)


@dataclass(frozen=True, slots=True)
class SharedAccounts:
    """What servers on several machines know of their accounts.

    Args:
        records: the accounts.
        leases: those of this server.
        place: where the state is that they share, for a person.
    """

    records: AccountRecords
    leases: Leases
    place: str


def _row(account: AccountRecord) -> tuple[str, str, bytes, str, str | None]:
    return account.directory, account.name, account.key, account.thumbprint, account.registration


def _account(transaction: Transaction, directory: str, name: str) -> AccountRecord | None:
    row = transaction.execute(_SELECT, (directory, name)).fetchone()
    if row is None:
        return None
    directory, name, key, thumbprint, registration, former = row
    return AccountRecord(directory, bytes(key), thumbprint, registration, name, frozenset(former.split()))
