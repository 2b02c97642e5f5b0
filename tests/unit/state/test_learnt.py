"""What CAs have told of their limits, and what is asked of the state for limits, with both databases."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.chains import make_chain, make_request
from tests.sharing import ENGINES, sharing

from acmems.issuing.renewal.plan import first_plan
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.chains.renewals import ComingRenewal, RenewalRecords
from acmems.state.engines.contract import Database
from acmems.state.limits.buckets import BucketRecord, BucketRecords
from acmems.state.limits.learnt import LearntRecord, LearntRecords

NOW = datetime.datetime(2026, 11, 26, 12, tzinfo=datetime.UTC)
DIRECTORY = "https://ca.example/directory"
ORDERS = LearntRecord("account 1", "orders", 300, 10_800_000, True, NOW, NOW, "too many")


@pytest.fixture(params=ENGINES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    server = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    with sharing(tmp_path, 1, server) as (sharer,):
        yield sharer.database


def test_limits_are_kept_by_account_and_kind(database: Database) -> None:
    """The next word of the CA takes the place of the last one; what has ended is forgotten."""
    records = LearntRecords(database)
    other = dataclasses.replace(ORDERS, account="account 2", exempts_renewals=False)
    short = dataclasses.replace(ORDERS, counts="failures-per-name", count=5, period=60_000)
    changed = dataclasses.replace(ORDERS, count=20, confirmed=NOW + timedelta(hours=1), words="fewer")
    for each in (ORDERS, other, short, changed):
        records.put(each).result(20)
    assert records.load() == [short, changed, other]
    records.forget(NOW + timedelta(hours=6, seconds=1)).add_done_callback(lambda _: None)
    database.write(lambda _: None).result(20)
    assert records.load() == [changed]
    assert changed.ends == NOW + timedelta(hours=7)


def test_buckets_are_looked_at_and_tell_who_used_them(database: Database) -> None:
    """One that was never used is empty; the last client is known."""
    records = BucketRecords(database)
    record = BucketRecord("a", "account", "limit", "")
    records.update([record], lambda _: ({"a": 5}, None), used_by="web", client="192.0.2.7").result(20)
    assert records.instants(["a", "b"]) == {"a": 5, "b": 0}
    assert [(each.used_by, each.client) for each in records.all()] == [("web", "192.0.2.7")]


def test_renewals_that_are_coming(database: Database) -> None:
    """Those of one CA until some time, with their names; certificates that are valid count as such."""
    chains, plans = ChainRecords(database), RenewalRecords(database)
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    for number, hours in enumerate((5, 1, 30)):
        chain = make_chain(make_request(f"{number}.example.org", "www.example.org"))
        record = ChainRecord.of(chain, identity=str(number), directory=DIRECTORY, profile=None, issued=now)
        chains.add(record).result(20)
        plan = first_plan(record, None, now, 0.5)
        plans.begin((), [dataclasses.replace(plan, next_try=now + timedelta(hours=hours))]).result(20)
    assert plans.coming(DIRECTORY, now, now + timedelta(hours=6)) == [
        ComingRenewal(now + timedelta(hours=1), ("1.example.org", "www.example.org")),
        ComingRenewal(now + timedelta(hours=5), ("0.example.org", "www.example.org")),
    ]
    assert plans.coming("https://other.example", now, now + timedelta(hours=6)) == []
    names = ["www.example.org", "0.example.org"]
    assert chains.have_valid(names, DIRECTORY, now)
    assert not chains.have_valid(names, DIRECTORY, now + timedelta(days=1000))
    assert not chains.have_valid(names[:1], DIRECTORY, now)
