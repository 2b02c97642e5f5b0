"""Accounts of ACME clients, in each database."""

from __future__ import annotations

import dataclasses
import datetime

from acmems.state.acme.accounts import AcmeAccount, AcmeAccountRecords
from acmems.state.acme.nonces import NonceUse
from acmems.state.engines.contract import Database

ACCOUNT = AcmeAccount(
    id="",
    key='{"kty":"EC"}',
    thumbprint="first",
    contacts=("mailto:a@example.org", "mailto:b@example.org"),
    external_account="kid",
    created=datetime.datetime(2026, 11, 26, tzinfo=datetime.UTC),
    client="192.0.2.1",
    agreed=True,
)


def other(thumbprint: str) -> AcmeAccount:
    return dataclasses.replace(ACCOUNT, thumbprint=thumbprint)


def test_what_was_kept(database: Database) -> None:
    """An account is found by id and by key, as it was made, and a key makes one only."""
    records = AcmeAccountRecords(database)
    made = records.add(ACCOUNT).result()
    assert made.is_new
    assert made.account
    assert made.account == dataclasses.replace(ACCOUNT, id=made.account.id)
    again = records.add(dataclasses.replace(ACCOUNT, contacts=())).result()
    assert (again.account, again.is_new) == (made.account, False)
    assert records.find(made.account.id) == records.of_key("first") == made.account
    assert records.find("nobody") is records.of_key("nothing") is None


def test_changes(database: Database) -> None:
    """Contacts change while the account is valid; nobody takes back that he agreed."""
    records = AcmeAccountRecords(database)
    account = records.add(dataclasses.replace(ACCOUNT, agreed=False)).result().account
    assert account
    agreed = records.update(account.id, (), agreed=True).result()
    assert agreed == dataclasses.replace(account, contacts=(), agreed=True)
    changed = records.update(account.id, ("mailto:c@example.org",), agreed=False).result()
    assert changed == dataclasses.replace(account, contacts=("mailto:c@example.org",), agreed=True)
    ended = records.deactivate(account.id).result()
    assert ended == dataclasses.replace(changed, status="deactivated")
    assert records.update(account.id, (), agreed=False).result() == ended
    assert records.deactivate("nobody").result() is None


def test_keys(database: Database) -> None:
    """A key has one account, and a change that is done again changes nothing."""
    records = AcmeAccountRecords(database)
    one, two = (records.add(other(key)).result().account for key in ("first", "second"))
    assert one
    assert two
    assert records.change_key(one.id, "first", "{}", "second").result().owner == two.id
    changed = records.change_key(one.id, "first", "{}", "third").result()
    assert changed.account
    assert (changed.account.thumbprint, changed.account.key) == ("third", "{}")
    assert records.change_key(one.id, "first", "{}", "third").result() == changed
    late = records.change_key(one.id, "first", "{}", "fourth").result()
    assert (late.account, late.owner) == (None, None)
    assert records.of_key("first") is None
    assert records.add(other("first")).result().is_new
    records.deactivate(two.id).result()
    assert records.change_key(two.id, "second", "{}", "fifth").result().account is None
    assert records.change_key(one.id, "third", "{}", "second").result().owner == two.id


def test_one_account_only(database: Database) -> None:
    """An external account for one is free again when that is deactivated; refused keys stay free."""
    records = AcmeAccountRecords(database)
    first = records.add(other("first"), once=True).result().account
    assert first
    assert records.add(other("second"), once=True).result().account is None
    assert records.of_key("second") is None
    assert records.add(other("first"), once=True).result().account == first
    records.deactivate(first.id).result()
    assert records.add(other("second"), once=True).result().is_new
    unbound = [dataclasses.replace(other(key), external_account=None) for key in ("third", "fourth")]
    assert all(records.add(each, once=True).result().is_new for each in unbound)


def test_admission(database: Database) -> None:
    """The nonce is used and the account is read in one transaction."""
    records = AcmeAccountRecords(database)
    account = records.add(ACCOUNT).result().account
    assert account
    first = records.admit(account.id, NonceUse("n", 100)).result()
    assert (first.is_fresh, first.account) == (True, account)
    ended = records.deactivate(account.id).result()
    second = records.admit(account.id, NonceUse("n", 100)).result()
    assert (second.is_fresh, second.account) == (False, ended)
    assert records.admit("nobody", NonceUse("m", 100)).result().account is None
