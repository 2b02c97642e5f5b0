"""Whose certificates were issued to ACME clients, for as long as these are valid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from acmems.state.engines.contract import Database, Transaction

_AT_ONCE = 1000  # rows that are forgotten in one transaction
_PUT = """
    INSERT INTO acme_certificates (fingerprint, account, name, ends) VALUES (?, ?, ?, ?)
    ON CONFLICT (fingerprint, account) DO NOTHING
"""
_REPLACE = (
    "UPDATE acme_certificates SET replaced_by = ? WHERE name = ? AND account = ? AND replaced_by IS NULL"
)
_COLUMNS = "fingerprint, account, name, ends, replaced_by"
_NAMED = f"SELECT {_COLUMNS} FROM acme_certificates WHERE name = ? AND account = ?"  # noqa: S608 - names of columns
_OWNED = "SELECT 1 FROM acme_certificates WHERE fingerprint = ? AND account = ?"
_ACCOUNTS = "SELECT account FROM acme_certificates WHERE fingerprint = ? ORDER BY account"
_SUPERSEDE = """
    UPDATE chains SET superseded = ? WHERE names_digest = ? AND fingerprint <> ? AND superseded IS NULL
    AND issued <= (SELECT newest.issued FROM chains AS newest WHERE newest.fingerprint = ?)
    AND EXISTS (
        SELECT 1 FROM acme_certificates AS owned
        WHERE owned.fingerprint = chains.fingerprint AND owned.account = ?
    )
    RETURNING fingerprint
"""
_FORGET_PLAN = "DELETE FROM renewals WHERE fingerprint = ?"
_FORGET = """
    DELETE FROM acme_certificates WHERE (fingerprint, account) IN (
        SELECT fingerprint, account FROM acme_certificates WHERE ends <= ? LIMIT ?
    )
"""


@dataclass(frozen=True, slots=True)
class AccountCertificate:
    """A certificate that an ACME account has got.

    Args:
        fingerprint: SHA-256 of the leaf, in hex.
        account: the id of the account.
        name: what it is called where it is renewed (RFC 9773 section 4.1); empty where it has no such name.
        ends: when it expires (seconds since 1970).
        replaced_by: the id of the order that has replaced it.
    """

    fingerprint: str
    account: str
    name: str
    ends: int
    replaced_by: str | None = None


class AccountCertificates:
    """Keeps whose certificates these are; for any thread.

    Args:
        database: where that is kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @staticmethod
    def put(transaction: Transaction, certificate: AccountCertificate) -> None:
        """Note a certificate, together with other changes."""
        transaction.execute(
            _PUT, (certificate.fingerprint, certificate.account, certificate.name, certificate.ends)
        )

    @staticmethod
    def replace(transaction: Transaction, name: str, account: str, order: str) -> None:
        """Note that an order has replaced a certificate, together with other changes.

        Args:
            transaction: a transaction of `Database.write`.
            name: what the certificate is called.
            account: whose it is.
            order: the id of the order.
        """
        transaction.execute(_REPLACE, (order, name, account))

    @staticmethod
    def supersede(transaction: Transaction, account: str, names: str, newest: str, at: int) -> None:
        """Have an account's newest certificate take the place of its others for the same names.

        Most clients make a key for each certificate, so that nothing else tells that others are not needed
        any more. They stay valid, but are neither renewed nor taken for overdue.

        Args:
            transaction: a transaction of `Database.write`.
            account: the id of the account.
            names: the digest of the names.
            newest: the fingerprint of the certificate.
            at: the time, in seconds since 1970.
        """
        superseded = transaction.execute(_SUPERSEDE, (at, names, newest, newest, account)).fetchall()
        transaction.executemany(_FORGET_PLAN, superseded)

    def named(self, name: str, account: str) -> AccountCertificate | None:
        """Return an account's certificate by what it is called where it is renewed, None for none.

        Raises:
            StateUnavailable: it cannot be read.
        """
        row: Sequence[Any] | None = self._database.read(
            lambda transaction: transaction.execute(_NAMED, (name, account)).fetchone()
        )
        return None if row is None else AccountCertificate(*row)

    def accounts_of(self, fingerprint: str) -> list[str]:
        """Return the ids of the accounts that have got a certificate.

        Raises:
            StateUnavailable: it cannot be read.
        """
        rows: list[Sequence[Any]] = self._database.read(
            lambda transaction: transaction.execute(_ACCOUNTS, (fingerprint,)).fetchall()
        )
        return [each[0] for each in rows]

    def is_owned(self, fingerprint: str, account: str) -> bool:
        """Tell whether an account has got a certificate.

        Raises:
            StateUnavailable: it cannot be read.
        """
        return self._database.read(
            lambda transaction: transaction.execute(_OWNED, (fingerprint, account)).fetchone() is not None
        )

    def forget(self, now: int) -> None:
        """Forget certificates that have expired; called from time to time.

        Args:
            now: the time, in seconds since 1970.
        """

        def change(transaction: Transaction) -> None:
            transaction.execute(_FORGET, (now, _AT_ONCE))

        self._database.write(change, soon=False)
