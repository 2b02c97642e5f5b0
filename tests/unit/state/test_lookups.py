"""What other nodes present is looked up by one read at a time, which nobody who asks has to wait for."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from tests.fake_ca import Time
from tests.peers import wait_until
from tests.sharing import ENGINES, GatedDatabase, server_for, sharing

from acmems.exceptions import StateUnavailable
from acmems.state.engines.contract import Database
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.state.proofs import Found, FoundProof, ProofLookups, ProofRecord, ProofRecords
from acmems.state.proofs.lookups import MOST_WAITING, SLOW_SECONDS
from acmems.system.clock import SYSTEM, Clock

PLACE = "http://a.example.org/token"


class Desk:
    """A node that presents, and another that looks up through a gate."""

    def __init__(self, presenter: ProofRecords, database: Database, node: str, clock: Clock) -> None:
        self.presenter = presenter
        self.database = GatedDatabase(database)
        self.lookups = ProofLookups(clock)
        self.lookups.attach(self.database, node)  # type: ignore[arg-type] # as much of one as is used

    def present(self, number: str, place: str = PLACE, key: str = "token.thumbprint") -> None:
        record = ProofRecord(number, "web", "http-01", "a.example.org", "token", key, place=place)
        self.presenter.add([record], is_answered=True).result(20)

    def find(self, *places: str) -> Future[Found | None]:
        future: Future[Found | None] = Future()
        self.lookups.find(places or (PLACE,), future.set_result)
        return future


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture(params=ENGINES)
def desk(request: pytest.FixtureRequest, tmp_path: Path, time: Time) -> Iterator[Desk]:
    with sharing(tmp_path, server=server_for(request)) as (first, second):
        presenter = ProofRecords(first.database, first.name, first.leases)
        made = Desk(presenter, second.database, second.name, time.clock())
        yield made
        made.database.let(10)
        made.lookups.close()


def found(key: str = "token.thumbprint") -> list[FoundProof]:
    return [FoundProof("a.example.org", key)]


def test_what_another_node_presents(desk: Desk) -> None:
    """It is found by its place, the newest last, until it is withdrawn."""
    desk.present("1")
    desk.present("2", "http://b.example.org/token")
    desk.database.let(3)
    assert desk.find(PLACE, "http://c.example.org/token").result(20) == {PLACE: found()}
    desk.presenter.remove(["1"], soon=True)
    desk.presenter.give_up(["2"])
    desk.present("3", "elsewhere")
    assert desk.find(PLACE, "http://b.example.org/token").result(20) == {}


def test_what_this_node_presents(desk: Desk, tmp_path: Path) -> None:
    """It is in a table of its own, and is not looked up: there it is gone as soon as it is withdrawn."""
    desk.present("1")
    lookups = ProofLookups()
    lookups.attach(desk.database.database, desk.presenter._node)
    future: Future[Found | None] = Future()
    lookups.find([PLACE], future.set_result)
    assert future.result(20) == {}
    lookups.close()


def test_a_read_that_has_begun_is_not_shared(desk: Desk) -> None:
    """Whoever asks during a read waits for the next, which sees what was presented meanwhile."""
    early = desk.find()
    assert desk.database.entered.acquire(timeout=20)
    desk.present("1")
    late = desk.find()
    assert not early.done()
    desk.database.let(2)
    assert late.result(20) == {PLACE: found()}


def test_a_flood_of_strangers(desk: Desk) -> None:
    """However many ask during a read, the next one is for all of them; beyond a number nothing is known."""
    first = desk.find()
    assert desk.database.entered.acquire(timeout=20)
    flood = [desk.find(f"http://a.example.org/{number}") for number in range(MOST_WAITING)]
    beyond = [desk.find(f"http://b.example.org/{number}") for number in range(100)]
    assert {each.result(0) for each in beyond} == {None}
    desk.database.let(2)
    assert [each.result(20) for each in [first, *flood]] == [{}] * (1 + MOST_WAITING)
    assert desk.database.reads == 2


def test_a_database_that_takes_long(desk: Desk, time: Time) -> None:
    """When somebody asks while a read takes long, nobody waits for it any more."""
    first = desk.find()
    assert desk.database.entered.acquire(timeout=20)
    second = desk.find()
    time.clock().sleep(SLOW_SECONDS + 1)
    assert [desk.find().result(0), second.result(0), first.result(0)] == [None] * 3
    desk.database.let(2)
    wait_until(lambda: not desk.lookups._is_due, "the read is over")
    assert desk.find().result(20) == {}


def test_a_database_that_is_away(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is known then; the log says it once, and once when it is over."""
    caplog.set_level("INFO")
    desk.database.error = StateUnavailable("no database; start it")
    desk.database.let(4)
    assert [desk.find().result(20) for _ in range(2)] == [None, None]
    assert [record.getMessage() for record in caplog.records] == [
        "proofs that other nodes present are not found: no database; start it"
    ]
    desk.database.error = None
    assert [desk.find().result(20) for _ in range(2)] == [{}, {}]
    assert len(caplog.records) == 2


def test_a_bug_of_one_who_asks(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """The others are answered all the same."""

    def broken(_: Found | None) -> None:
        raise ZeroDivisionError

    desk.lookups.find([PLACE], broken)
    desk.database.let(2)
    assert desk.find().result(20) == {}
    assert "a proof of another node cannot be shown" in caplog.text


def test_a_state_that_nobody_shares(tmp_path: Path) -> None:
    """Nothing is looked up, and there is no thread for it."""
    database = SqliteDatabase.open(tmp_path / "state.sqlite")
    lookups = ProofLookups(SYSTEM)
    told: list[Found | None] = []
    lookups.attach(database, "node")
    assert not lookups.is_active
    lookups.find([PLACE], told.append)
    assert told == [None]
    assert not _threads({"acmems-lookups"})
    lookups.close()
    database.close()


def test_after_the_end(desk: Desk) -> None:
    """Whoever asks when the server stops is told that nothing is known."""
    desk.lookups.close()
    assert not desk.lookups.is_active
    assert desk.find().result(0) is None


def _threads(names: Collection[str]) -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith(tuple(names))]
