"""Which chains are due: by the word of their CA where it has spoken, else by their lifetime."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chains import make_chain, make_request

from acmems.issuing.renewal.plan import first_plan
from acmems.issuing.renewal.times import RenewalTimes
from acmems.state.chains import ChainRecord
from acmems.state.chains.renewals import RenewalRecord, RenewalRecords
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.x509.chain import Chain

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


class Calendar:
    """Plans in a state, and what is known of them."""

    def __init__(self, database: SqliteDatabase) -> None:
        self.database = database
        self.plans = RenewalRecords(database)
        self.times = RenewalTimes(self.plans)

    def plan(self, chain: Chain, due: datetime.datetime, *, is_told: bool = True) -> RenewalRecord:
        """Plan a renewal, by the word of the CA or by the lifetime."""
        record = ChainRecord.of(chain, identity="1", directory="d", profile=None, issued=NOW)
        plan = first_plan(record, None, NOW, 0.5)
        plan = dataclasses.replace(plan, due=due)
        if is_told:
            plan = dataclasses.replace(plan, starts=due, ends=due + DAY)
        self.plans.begin((), [plan]).result(20)
        return plan

    def is_fresh(self, chain: Chain, within: datetime.timedelta | None = None) -> bool:
        self.times.refresh(NOW)
        return self.times.is_fresh(chain, within, NOW)


@pytest.fixture
def calendar(tmp_path: Path) -> Iterator[Calendar]:
    database = SqliteDatabase.open(tmp_path / "state.sqlite")
    yield Calendar(database)
    database.close()


@pytest.fixture
def young() -> Chain:
    """One that is new."""
    return make_chain(make_request(), 89)


@pytest.fixture
def old() -> Chain:
    """One of 90 days that has 20 left."""
    return make_chain(make_request(), 20)


def test_by_their_lifetime(calendar: Calendar, young: Chain, old: Chain) -> None:
    """Where there is no plan, or none by the word of a CA."""
    assert (calendar.is_fresh(young), calendar.is_fresh(old)) == (True, False)
    calendar.plan(young, NOW - DAY, is_told=False)
    calendar.plan(old, NOW + DAY, is_told=False)
    assert (calendar.is_fresh(young), calendar.is_fresh(old)) == (True, False)
    assert calendar.is_fresh(old, 10 * DAY)
    alone = RenewalTimes()
    assert (alone.is_fresh(young, None, NOW), alone.is_fresh(old, None, NOW)) == (True, False)


def test_earlier(calendar: Calendar, young: Chain) -> None:
    """A window that has moved into the past makes it due, whatever its lifetime."""
    calendar.plan(young, NOW + DAY)
    assert calendar.is_fresh(young)
    calendar.plan(young, NOW - DAY)
    assert not calendar.is_fresh(young)
    assert calendar.times.is_overdue(young.fingerprint)


def test_later(calendar: Calendar, old: Chain) -> None:
    """A window that is still to come postpones it; from then on it is due."""
    calendar.plan(old, NOW + DAY)
    assert calendar.is_fresh(old)
    assert not calendar.times.is_fresh(old, None, NOW + 2 * DAY)


def test_never_after_its_end(calendar: Calendar, old: Chain) -> None:
    """Whatever its CA has said."""
    calendar.plan(old, NOW + 60 * DAY)
    assert not calendar.times.is_fresh(old, None, NOW + 21 * DAY)


def test_what_is_delivered_costs_no_look_into_the_state(
    calendar: Calendar, young: Chain, old: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fresh chains are looked up in memory; those that their CA postpones, once until the next refresh."""
    looks: list[str] = []
    calendar.plan(old, NOW + DAY)
    calendar.times.refresh(NOW)
    of = calendar.plans.of

    def look(fingerprint: str) -> RenewalRecord | None:
        looks.append(fingerprint)
        return of(fingerprint)

    monkeypatch.setattr(calendar.plans, "of", look)
    for _ in range(3):
        assert calendar.times.is_fresh(young, None, NOW)
        assert calendar.times.is_fresh(old, None, NOW)
    assert looks == [old.fingerprint]


def test_a_state_that_is_away(calendar: Calendar, old: Chain) -> None:
    """Its lifetime tells."""
    calendar.database.close()
    assert not calendar.times.is_fresh(old, None, NOW)
