"""The accounts that a process knows: never as they were before a change that it has made."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.acme_serving import sqlite

from acmems.frontends.acme.reception.known import KnownAccounts
from acmems.state.acme.accounts import AcmeAccount, AcmeAccountRecords

MADE = datetime.datetime(2026, 11, 26, tzinfo=datetime.UTC)


class SlowRecords(AcmeAccountRecords):
    """Does something else between the reading of an account and its use."""

    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    def find(self, account: str) -> AcmeAccount | None:
        found = super().find(account)
        self.meanwhile()
        return found

    def of_key(self, thumbprint: str) -> AcmeAccount | None:
        found = super().of_key(thumbprint)
        self.meanwhile()
        return found


@pytest.fixture
def records(tmp_path: Path) -> Iterator[SlowRecords]:
    with sqlite(tmp_path) as database:
        yield SlowRecords(database)


@pytest.mark.threat("ACME clients", "an account that was ended")
@pytest.mark.parametrize("is_by_key", [False, True])
def test_a_change_while_an_account_is_read(records: SlowRecords, *, is_by_key: bool) -> None:
    """Whoever has a former key, or that of an ended account, cannot bring it back by a look just then."""
    known = KnownAccounts(records)
    account = records.add(AcmeAccount("", "{}", "old", (), None, MADE, "192.0.2.1")).result(20).account
    assert account is not None
    records.meanwhile = lambda: known.learn(
        records.change_key(account.id, "old", "{}", "new").result(20).account or account
    )
    found = known.of_key("old") if is_by_key else known.find(account.id)
    assert found.result(20) == account
    current = known.get(account.id)
    assert current is not None
    assert current.thumbprint == "new"
    known.close()


def test_what_is_read_is_kept(records: SlowRecords) -> None:
    """The next request need not wait for it."""
    known = KnownAccounts(records)
    account = records.add(AcmeAccount("", "{}", "key", (), None, MADE, "192.0.2.1")).result(20).account
    assert account is not None
    assert known.get(account.id) is None
    assert known.of_key("key").result(20) == account
    assert known.get(account.id) == account
    known.close()
