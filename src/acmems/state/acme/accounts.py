"""The accounts of ACME clients, each with one key that no other account has."""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal

from acmems.state.acme.nonces import NonceUse
from acmems.state.engines.contract import Database, Transaction

ID_OCTETS = 18
"""Random octets of the id of an account."""

AccountStatus = Literal["valid", "deactivated", "revoked"]
"""The states of RFC 8555 section 7.1.2; `revoked` is what an operator does."""

_COLUMNS = "id, key, thumbprint, status, contacts, external_account, agreed, created, client"
_SELECT = f"SELECT {_COLUMNS} FROM acme_accounts WHERE id = ?"  # noqa: S608 - names of columns
_ADD = f"""
    INSERT INTO acme_accounts ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING
"""  # noqa: S608 - names of columns
_TOUCH = "UPDATE acme_accounts SET status = status WHERE id = ? AND thumbprint = ? AND status = 'valid'"
_CLAIM_KEY = "INSERT INTO acme_keys (thumbprint, account) VALUES (?, ?) ON CONFLICT (thumbprint) DO NOTHING"
_FREE_KEY = "DELETE FROM acme_keys WHERE thumbprint = ? AND account = ?"
_KEY_OWNER = "SELECT account FROM acme_keys WHERE thumbprint = ?"
_CLAIM_BINDING = "INSERT INTO acme_bindings (kid, account) VALUES (?, ?) ON CONFLICT (kid) DO NOTHING"
_BINDING_OWNER = "SELECT account FROM acme_bindings WHERE kid = ?"


@dataclass(frozen=True, slots=True)
class AcmeAccount:
    """An account of an ACME client (RFC 8555 section 7.1.2).

    Args:
        id: what its URL ends with.
        key: its public key as JSON (RFC 7638 section 3).
        thumbprint: of that key.
        contacts: URLs that the client gave.
        external_account: the key identifier of the external account that it is bound to, None for none.
        created: when it was made (aware, whole seconds).
        client: the address that asked for it.
        agreed: whether the client agreed to the terms of service.
        status: `valid`, unless somebody has ended it.
    """

    id: str
    key: str = field(repr=False)
    thumbprint: str
    contacts: tuple[str, ...]
    external_account: str | None
    created: datetime.datetime
    client: str
    agreed: bool = False
    status: AccountStatus = "valid"


@dataclass(frozen=True, slots=True)
class NewAccount:
    """What has come of the wish for an account.

    Args:
        account: the account that the key has; None where the external account is bound to another one.
        is_new: whether it was made for this wish.
    """

    account: AcmeAccount | None
    is_new: bool


@dataclass(frozen=True, slots=True)
class KeyChange:
    """What has come of the wish for another key.

    Args:
        account: the account as it is now; None where it has another key than thought, or was ended.
        owner: the id of the account that has the key already; None where none has.
    """

    account: AcmeAccount | None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    """What the state says of a request that is about to change something.

    Args:
        is_fresh: whether nobody has used its nonce.
        account: the account as it is now; None where there is none.
    """

    is_fresh: bool
    account: AcmeAccount | None


class AcmeAccountRecords:
    """Keeps accounts; for any thread.

    The futures are done when a change is durable, and hold a `StateUnavailable` where it cannot be made.

    Args:
        database: where they are kept.
        make_id: returns a new id.
    """

    def __init__(
        self, database: Database, make_id: Callable[[], str] = lambda: secrets.token_urlsafe(ID_OCTETS)
    ) -> None:
        self._database = database
        self._make_id = make_id

    @property
    def is_shared(self) -> bool:
        """Whether other processes may change accounts."""
        return self._database.is_shared

    def find(self, account: str) -> AcmeAccount | None:
        """Return an account by its id, None if there is none. It may wait for disk or network.

        Raises:
            StateUnavailable: it cannot be read.
        """
        return self._database.read(lambda transaction: _find(transaction, account))

    def of_key(self, thumbprint: str) -> AcmeAccount | None:
        """Return the account that has a key, None if none has. It may wait for disk or network.

        Raises:
            StateUnavailable: it cannot be read.
        """
        return self._database.read(lambda transaction: _of_key(transaction, thumbprint))

    def admit(self, account: str, nonce: NonceUse) -> Future[Admission]:
        """Use a nonce for a request of an account, and return how the account is at that moment."""

        def change(transaction: Transaction) -> Admission:
            return Admission(nonce(transaction), _find(transaction, account))

        return self._database.write(change)

    def add(self, wanted: AcmeAccount, *, once: bool = False) -> Future[NewAccount]:
        """Make an account, unless its key has one.

        Args:
            wanted: the account; its id is replaced.
            once: whether its external account may be bound to one account only.
        """
        name = self._make_id()

        def change(transaction: Transaction) -> NewAccount:
            # The key is claimed first: of several requests with the same key, one makes the account.
            if not transaction.execute(_CLAIM_KEY, (wanted.thumbprint, name)).rowcount:
                known = _of_key(transaction, wanted.thumbprint)
                return NewAccount(known, known is not None and known.id == name)
            if once and not _claim_binding(transaction, wanted.external_account, name):
                transaction.execute(_FREE_KEY, (wanted.thumbprint, name))
                return NewAccount(None, is_new=False)
            transaction.execute(_ADD, _row(name, wanted))
            return NewAccount(_find(transaction, name), is_new=True)

        return self._database.write(change)

    def update(self, account: str, contacts: Sequence[str], *, agreed: bool) -> Future[AcmeAccount | None]:
        """Change the contacts of an account that is valid, and return it; None where it is not any more.

        Args:
            account: its id.
            contacts: the new ones.
            agreed: whether the client agrees to the terms of service now; nobody takes that back.
        """

        def change(transaction: Transaction) -> AcmeAccount | None:
            transaction.execute(
                "UPDATE acme_accounts SET contacts = ?, agreed = CASE WHEN ? = 1 THEN 1 ELSE agreed END "
                "WHERE id = ? AND status = 'valid'",
                ("\n".join(contacts), int(agreed), account),
            )
            return _find(transaction, account)

        return self._database.write(change)

    def deactivate(self, account: str) -> Future[AcmeAccount | None]:
        """End an account at its client's wish, and return it; its key never gets another one.

        Its external account may be bound to another one from now on, where it may be bound to one only.
        """

        def change(transaction: Transaction) -> AcmeAccount | None:
            transaction.execute(
                "UPDATE acme_accounts SET status = 'deactivated' WHERE id = ? AND status = 'valid'",
                (account,),
            )
            transaction.execute("DELETE FROM acme_bindings WHERE account = ?", (account,))
            return _find(transaction, account)

        return self._database.write(change)

    def change_key(self, account: str, before: str, key: str, thumbprint: str) -> Future[KeyChange]:
        """Give an account another key, unless an account has that already.

        Args:
            account: its id.
            before: the thumbprint of the key that it has.
            key: the new key, as JSON.
            thumbprint: of the new key.
        """

        def change(transaction: Transaction) -> KeyChange:
            # The account first: whoever changes its key at the same time waits here.
            changed = transaction.execute(_TOUCH, (account, before))
            if not changed.rowcount:
                known = _find(transaction, account)
                is_done = known is not None and known.thumbprint == thumbprint and known.status == "valid"
                return KeyChange(known if is_done else None)
            if not transaction.execute(_CLAIM_KEY, (thumbprint, account)).rowcount:
                [owner] = transaction.execute(_KEY_OWNER, (thumbprint,)).fetchone()
                return KeyChange(None, owner)
            transaction.execute(
                "UPDATE acme_accounts SET key = ?, thumbprint = ? WHERE id = ?", (key, thumbprint, account)
            )
            transaction.execute(_FREE_KEY, (before, account))
            return KeyChange(_find(transaction, account))

        return self._database.write(change)


def _claim_binding(transaction: Transaction, kid: str | None, account: str) -> bool:
    if kid is None or transaction.execute(_CLAIM_BINDING, (kid, account)).rowcount:
        return True
    [owner] = transaction.execute(_BINDING_OWNER, (kid,)).fetchone()
    return bool(owner == account)


def _find(transaction: Transaction, account: str) -> AcmeAccount | None:
    row = transaction.execute(_SELECT, (account,)).fetchone()
    return None if row is None else _account(row)


def _of_key(transaction: Transaction, thumbprint: str) -> AcmeAccount | None:
    found = transaction.execute(_KEY_OWNER, (thumbprint,)).fetchone()
    return None if found is None else _find(transaction, found[0])


def _row(name: str, account: AcmeAccount) -> tuple[str | int | None, ...]:
    return (
        name,
        account.key,
        account.thumbprint,
        account.status,
        "\n".join(account.contacts),
        account.external_account,
        int(account.agreed),
        int(account.created.timestamp()),
        account.client,
    )


def _account(row: Sequence[Any]) -> AcmeAccount:
    name, key, thumbprint, status, contacts, external_account, agreed, created, client = row
    return AcmeAccount(
        id=name,
        key=key,
        thumbprint=thumbprint,
        contacts=tuple(contacts.split("\n")) if contacts else (),
        external_account=external_account,
        created=datetime.datetime.fromtimestamp(created, datetime.UTC),
        client=client,
        agreed=bool(agreed),
        status=status,
    )
