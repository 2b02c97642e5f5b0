"""Which chains are due: by the word of their CA where it has spoken, else by their lifetime."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chains import make_chain, make_request

from acmems.issuing.renewal.plan import first_plan
from acmems.issuing.renewal.times import AHEAD_REST, RenewalTimes
from acmems.state.chains import ChainRecord
from acmems.state.chains.renewals import RenewalRecord, RenewalRecords
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.storages import SqlStorage, Storage
from acmems.x509.chain import Chain

NOW = datetime.datetime.now(datetime.UTC)
DAY, SECOND = datetime.timedelta(days=1), datetime.timedelta(seconds=1)


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
    assert calendar.times.is_overdue(young.fingerprint, NOW)


def test_the_moment_comes_between_two_looks(calendar: Calendar, young: Chain) -> None:
    """What will be due within a day is known before: nobody has to look once more."""
    calendar.plan(young, NOW + DAY / 2)
    calendar.times.refresh(NOW)
    moments = [NOW, NOW + DAY / 2 - SECOND, NOW + DAY / 2]
    assert [calendar.times.is_fresh(young, None, each) for each in moments] == [True, True, False]
    overdue = [calendar.times.is_overdue(young.fingerprint, each) for each in moments]
    assert overdue == [False, False, True]


class TestOutlook:
    """When a client is to ask again, and when its chain is to be renewed."""

    def outlook(
        self, calendar: Calendar, chain: Chain, storage: Storage | None = None, now: datetime.datetime = NOW
    ) -> tuple[datetime.timedelta, datetime.timedelta]:
        calendar.times.refresh(now)
        calendar.times.is_fresh(chain, None, now)
        found = calendar.times.outlook(chain, storage or SqlStorage("s", renews_ahead=False), now)
        return found.due - now, found.useful - now

    def test_by_the_lifetime(self, calendar: Calendar, young: Chain) -> None:
        """A third of it is left, or what the storage says; nobody stays away for longer than a day."""
        third = young.renewal_time(None) - NOW
        assert self.outlook(calendar, young) == (third, DAY)
        short = SqlStorage("s", 10 * DAY, renews_ahead=False)
        assert self.outlook(calendar, young, short) == (young.not_after - NOW - 10 * DAY, DAY)
        now = young.renewal_time(None) - 2 * SECOND
        assert self.outlook(calendar, young, now=now) == (2 * SECOND, 2 * SECOND)

    def test_by_the_word_of_the_ca(self, calendar: Calendar, young: Chain, old: Chain) -> None:
        """Earlier than the lifetime tells, or later."""
        moment = (NOW + DAY / 4).replace(microsecond=0)
        calendar.plan(young, moment)
        calendar.plan(old, moment)
        assert self.outlook(calendar, young) == self.outlook(calendar, old) == (moment - NOW, moment - NOW)

    def test_far_away(self, calendar: Calendar, young: Chain, old: Chain) -> None:
        """A CA that wants it later than in a day may change its mind: within a day it is asked for again."""
        moment = (NOW + 5 * DAY).replace(microsecond=0)
        calendar.plan(young, moment)
        calendar.plan(old, moment)
        assert self.outlook(calendar, young) == (young.renewal_time(None) - NOW, DAY)
        assert self.outlook(calendar, old) == (moment - NOW, DAY)

    def test_renewed_ahead(self, calendar: Calendar, young: Chain) -> None:
        """There it is useful once the next chain is there, some minutes after the renewal is due."""
        moment = (NOW + DAY / 4).replace(microsecond=0)
        calendar.plan(young, moment)
        ahead = SqlStorage("s", renews_ahead=True)
        assert self.outlook(calendar, young, ahead) == (moment - NOW, moment - NOW + AHEAD_REST)

    def test_a_mass_revocation(self, calendar: Calendar, young: Chain) -> None:
        """A window that was moved into the past: the next question is useful."""
        calendar.plan(young, NOW - DAY)
        due, useful = self.outlook(calendar, young)
        assert due == useful < datetime.timedelta(0)

    def test_no_look_into_the_state(
        self, calendar: Calendar, young: Chain, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Chains are delivered from memory."""
        monkeypatch.setattr(calendar.plans, "of", None)
        assert self.outlook(calendar, young)[1] == DAY


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
