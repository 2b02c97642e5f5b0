"""Metrics of certificates go by the time for which their renewal is planned, where that counts."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chains import make_chain, make_request
from tests.monitoring import TEXT, Stand

from acmems.exceptions import StateUnavailable
from acmems.frontends.metrics.planned import PlannedTimes, number_of
from acmems.frontends.metrics.survey import CertificateSurvey
from acmems.state.chains.renewals import RenewalRecord, RenewalRecords
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.storages import FileStorage, IssuerIdentity
from acmems.x509.chain import Chain

DAY = datetime.timedelta(days=1)


@pytest.fixture
def database(stand: Stand, tmp_path: Path) -> Iterator[SqliteDatabase]:
    opened = SqliteDatabase.open(tmp_path / "state.sqlite")
    stand.state = opened
    yield opened
    opened.close()


def store(stand: Stand, name: str = "a.web.example.org", days: int = 60) -> Chain:
    """Store a chain of 90 days that expires in so many."""
    storage, request = stand.config.storages["disk"], make_request(name)
    assert isinstance(storage, FileStorage)
    chain = make_chain(request, days)
    storage.store(request, chain, IssuerIdentity("https://ca.example.org/directory"))
    return chain


def plan(
    stand: Stand, database: SqliteDatabase, chain: Chain, days: float, *, is_told: bool = True
) -> datetime.datetime:
    """Plan a renewal in so many days, by the word of the CA or by the lifetime."""
    due = (stand.moment.wall + days * DAY).replace(microsecond=0)
    made = RenewalRecord(
        fingerprint=chain.fingerprint,
        directory="d",
        ends_at=chain.not_after,
        due=due,
        starts=due if is_told else None,
        ends=due + DAY if is_told else None,
        next_question=due,
        next_try=due,
    )
    RenewalRecords(database).begin((), [made]).result(20)
    return due


def look(survey: CertificateSurvey) -> tuple[dict[str, int], float | None]:
    """Return the states of one block, and when the first renewal is due."""
    survey.look()
    block = survey.blocks["web"]
    return {str(state): count for state, count in block.states.items()}, block.first_due


def test_a_ca_that_moves_its_windows(stand: Stand, database: SqliteDatabase) -> None:
    """The next look knows; chains need not be read again for that."""
    survey, chain = CertificateSurvey(stand), store(stand)
    assert look(survey) == ({"fresh": 1}, int(chain.renewal_time(None).timestamp()))
    for days, state in ((50.0, "fresh"), (-1.0, "due"), (-70.0, "overdue"), (55.0, "fresh")):
        due = plan(stand, database, chain, days)
        assert look(survey) == ({state: 1}, due.timestamp())


def test_a_plan_that_does_not_count(stand: Stand, database: SqliteDatabase) -> None:
    """Where whoever asks gets another one by the lifetime."""
    chain = store(stand)
    plan(stand, database, chain, -1, is_told=False)
    assert look(CertificateSurvey(stand)) == ({"fresh": 1}, int(chain.renewal_time(None).timestamp()))


def test_what_is_renewed_ahead(stand: Stand, database: SqliteDatabase) -> None:
    """There every plan counts."""
    stand.config = stand.configured(TEXT.replace("/disk\n", "/disk\nrenew = ahead\n"))
    due = plan(stand, database, store(stand), -1, is_told=False)
    assert look(CertificateSurvey(stand)) == ({"due": 1}, due.timestamp())


def test_a_state_that_cannot_be_read(
    stand: Stand, database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Certificates are counted by their lifetimes."""
    chain = store(stand)
    plan(stand, database, chain, -1)

    def fail(_: object) -> None:
        raise StateUnavailable("away")

    monkeypatch.setattr(database, "read", fail)
    assert look(CertificateSurvey(stand)) == ({"fresh": 1}, int(chain.renewal_time(None).timestamp()))


def test_pages(database: SqliteDatabase, stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans come in the order of fingerprints, each once, however many a page has."""
    monkeypatch.setattr("acmems.state.chains.renewals._PAGE", 2)
    chains = [make_chain(make_request(f"{number}.example.org")) for number in range(5)]
    told = {}
    for number, chain in enumerate(chains):
        due = plan(stand, database, chain, number, is_told=bool(number % 2))
        told[chain.fingerprint] = (due, bool(number % 2))
    found = list(RenewalRecords(database).planned())
    assert found == [(name, *told[name]) for name in sorted(told)]


def test_very_many() -> None:
    """Each is found, and nothing else."""
    names = sorted(hashlib.sha256(str(number).encode()).hexdigest() for number in range(5000))
    start = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
    planned = PlannedTimes()
    for number, name in enumerate(names):
        planned.add(name, start + datetime.timedelta(seconds=number), bool(number % 3))
    for number in range(0, 5000, 7):
        assert planned.of(number_of(names[number])) == (int(start.timestamp()) + number, bool(number % 3))
    assert planned.of(number_of("0" * 64)) is None
    assert planned.of(number_of("f" * 64)) is None
    assert PlannedTimes().of(7) is None
