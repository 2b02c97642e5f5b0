"""What is done for requests whose answer is fetched later, and what is noted."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.chains import make_chain, make_request
from tests.deferring import SECONDS, Desk
from tests.sharing import count
from tests.steps import settle, wait_for

from acmems.events import FailedEvent
from acmems.exceptions import ChallengeFailed, ClientGone, DeadlinePassed, QueueFull, StateUnavailable
from acmems.state import deferred
from acmems.state.chains import ChainRecord
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.storages import NoStorage


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    opened = SqliteDatabase.open(tmp_path / "state.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def desk(database: SqliteDatabase) -> Iterator[Desk]:
    made = Desk(database)
    yield made
    made.house.close()


class TestOutcomes:
    def test_a_chain(self, desk: Desk) -> None:
        """It is found with the request."""
        running, name = desk.begin()
        assert desk.find(name).chain is None
        desk.house.authority.go.set()
        chain = running.future.result(20).chain
        wait_for(lambda: desk.has_outcome(name))
        record = desk.find(name).chain
        assert record is not None
        assert record.fingerprint == chain.fingerprint
        assert desk.deferrals._running == {}

    def test_a_failure(self, desk: Desk) -> None:
        """Status and reason are kept; the operator is told even if nobody fetches them."""
        desk.house.authority.error = ChallengeFailed("not found", "a.example.org", "")
        running, name = desk.begin()
        desk.house.authority.go.set()
        assert running.future.exception(20)
        wait_for(lambda: desk.has_outcome(name))
        request = desk.find(name).request
        assert request is not None
        assert request.outcome is not None
        assert (request.outcome.status, request.outcome.fingerprint) == (421, None)
        assert "not found" in (request.outcome.reason or "")
        told = [each for each in desk.house.events if isinstance(each, FailedEvent)]
        assert [(each.stage, each.status, each.bug) for each in told] == [("deferred", 421, None)]

    def test_a_bug(self, desk: Desk) -> None:
        """The client reads a reference, and the log has the traceback."""
        desk.house.authority.error = KeyError("secret")
        running, name = desk.begin(dataclasses.replace(desk.accepted(), reference="c0ffee00"))
        desk.house.authority.go.set()
        assert running.future.exception(20)
        wait_for(lambda: desk.has_outcome(name))
        request = desk.find(name).request
        assert request is not None
        assert request.outcome is not None
        assert request.outcome.status == 500
        assert "c0ffee00" in (request.outcome.reason or "")
        assert "secret" not in (request.outcome.reason or "")
        [told] = [each for each in desk.house.events if isinstance(each, FailedEvent)]
        assert isinstance(told.bug, KeyError)

    def test_before_it_is_noted_that_it_is_deferred(self, desk: Desk) -> None:
        """What ends while its client is being told to come again is noted then."""
        running = desk.deferrals.join(desk.accepted())
        desk.house.authority.go.set()
        running.future.result(20)
        name = desk.deferrals.defer(running).result(20)
        wait_for(lambda: desk.has_outcome(name))

    def test_who_gets_its_answer_at_once_leaves_nothing(self, desk: Desk, database: SqliteDatabase) -> None:
        """Neither in memory nor in the state."""
        running = desk.deferrals.join(desk.accepted())
        desk.house.authority.go.set()
        running.future.result(20)
        wait_for(lambda: not desk.deferrals._running)
        assert count(database, "requests") == 0

    def test_an_older_chain_is_none(self, desk: Desk) -> None:
        """What was there before the request is no answer to it, unless it was given as that."""
        request = make_request()
        desk.house.authority.go.set()
        old = desk.house.ask(request, NoStorage("none"))
        desk.house.authority.go.clear()
        running, name = desk.begin(dataclasses.replace(desk.accepted(request), storage=NoStorage("none")))
        desk.database.write(lambda transaction: transaction.execute("UPDATE requests SET begun = begun + 9"))
        desk.database.check().result(20)
        assert desk.find(name).chain is None
        desk.records.end(
            name, deferred.DeferredOutcome(old.chain.fingerprint), desk.house.clock.now()
        ).result(20)
        found = desk.find(name).chain
        assert found is not None
        assert found.fingerprint == old.chain.fingerprint
        desk.house.authority.go.set()
        assert running.future.result(20).chain.fingerprint != old.chain.fingerprint

    def test_a_chain_of_another_account(self, desk: Desk) -> None:
        """Where the CA of the first one has failed, its answer is what another one has got."""
        _, name = desk.begin()
        chain, now = make_chain(make_request()), desk.house.clock.now()
        other = ChainRecord.of(chain, identity="another", directory="d", profile=None, issued=now)
        desk.chains.add(other).result(20)
        assert desk.find(name).chain is None
        desk.records.end(name, deferred.DeferredOutcome(chain.fingerprint), now).result(20)
        found = desk.find(name).chain
        assert found is not None
        assert (found.identity, found.fingerprint) == ("another", chain.fingerprint)

    def test_a_revoked_chain_is_none(self, desk: Desk) -> None:
        """It is never delivered again."""
        running, name = desk.begin()
        desk.house.authority.go.set()
        chain = running.future.result(20).chain
        wait_for(lambda: desk.find(name).chain is not None)
        desk.chains.revoking(chain.fingerprint, "superseded").result(20)
        assert desk.find(name).chain is None

    def test_what_ends_between_two_looks(self, desk: Desk) -> None:
        """Nothing is done twice because somebody has looked into the state a moment too early."""
        accepted = dataclasses.replace(desk.accepted(), storage=NoStorage("none"))
        running, name = desk.begin(accepted)
        early = desk.find(name)
        desk.house.authority.go.set()
        running.future.result(20)
        wait_for(lambda: not desk.deferrals._running)
        assert desk.deferrals._named == {}
        assert desk.deferrals.join(accepted, early).future.result(20) == running.future.result(20)
        assert desk.orders == 1


class TestWaiting:
    def test_one_client_however_often_it_asks(self, desk: Desk) -> None:
        """Asking again joins what is being done, and costs nothing."""
        accepted = desk.accepted()
        running, name = desk.begin(accepted)
        found = desk.find(name)
        assert found.running is running
        assert all(desk.deferrals.join(accepted) is running for _ in range(50))
        assert all(desk.deferrals.join(accepted, found) is running for _ in range(50))
        assert (desk.waiting, len(desk.deferrals._running)) == (1, 1)

    def test_who_comes_again_waits_on(self, desk: Desk) -> None:
        """Each time from then on: as long as somebody comes, the request has its place."""
        accepted = desk.accepted()
        running, name = desk.begin(accepted)
        wait_for(lambda: desk.orders == 1)
        futures = [running.future]
        for _ in range(5):
            desk.pass_time(0.6 * SECONDS)
            again = desk.deferrals.join(accepted)
            assert again is not running
            assert again.id == name
            futures.append(again.future)
            # This one and the one before it wait; the others have been told, and nothing else goes on.
            wait_for(lambda: all(each.done() for each in futures[:-2]) and desk.waiting == 2)
            running = again
        assert desk.house.issuance.workload.running == 1
        desk.house.authority.go.set()
        running.future.result(20)
        wait_for(lambda: desk.has_outcome(name))
        assert desk.orders == 1

    def test_who_does_not_come_again(self, desk: Desk) -> None:
        """Its order goes on without a place, as of one that has hung up; it has no outcome meanwhile."""
        running, name = desk.begin()
        wait_for(lambda: desk.orders == 1)
        desk.pass_time(SECONDS)
        assert isinstance(running.future.exception(20), DeadlinePassed)
        assert (desk.house.issuance.workload.running, desk.house.issuance.workload.behind) == (0, 1)
        assert not desk.has_outcome(name)
        assert desk.deferrals._running == {}
        desk.house.authority.go.set()
        wait_for(lambda: not desk.house.issuance._table)
        desk.database.flush()  # as is done from time to time
        wait_for(lambda: desk.find(name).chain is not None)

    def test_the_turn_of_who_was_told_to_come_again(self, database: SqliteDatabase) -> None:
        """It keeps its place in the queue, although it has no connection; who never comes again loses it."""
        desk = Desk(database, most_at_once=1)
        try:
            first, _ = desk.begin()
            wait_for(lambda: desk.orders == 1)
            second, _ = desk.begin(desk.accepted(make_request("b.example.org")))
            desk.pass_time(SECONDS / 2)
            third, _ = desk.begin(desk.accepted(make_request("c.example.org")))
            desk.pass_time(SECONDS / 4)
            assert [each.future.done() for each in (first, second, third)] == [False] * 3
            desk.pass_time(SECONDS / 4)  # the first one falls behind, the second one is late
            assert isinstance(second.future.exception(20), DeadlinePassed)
            wait_for(lambda: desk.orders == 2)
            desk.house.authority.go.set()
            third.future.result(20)
        finally:
            desk.house.close()

    def test_who_hangs_up_before(self, desk: Desk) -> None:
        """Whoever was not told anything yet counts as others do that hang up."""
        is_gone = False
        running = desk.deferrals.join(dataclasses.replace(desk.accepted(), gone=lambda: is_gone))
        [client] = next(iter(desk.house.issuance._table._running.values())).waiting
        assert not client.is_gone
        is_gone = True
        assert client.is_gone
        desk.deferrals.defer(running).result(20)
        assert not client.is_gone

    def test_a_stop_waits_for_nobody_who_comes_again(self, desk: Desk) -> None:
        """The next process, or another server, answers."""
        running, name = desk.begin()
        wait_for(lambda: desk.orders == 1)
        desk.is_stopping = True
        desk.house.issuance.let_go()
        assert isinstance(running.future.exception(20), ClientGone)
        assert not desk.house.issuance._table.is_waited_for
        assert not desk.has_outcome(name)

    def test_many_who_are_told_at_once(self, desk: Desk, database: SqliteDatabase) -> None:
        """What they wait for is noted once."""
        gate = threading.Event()
        database.write(lambda _: gate.wait(20))
        running = desk.deferrals.join(desk.accepted())
        noted = [desk.deferrals.defer(running) for _ in range(5)]
        gate.set()
        assert len({*map(id, noted)}) == 1
        assert desk.deferrals.defer(running).result(20) == noted[0].result(20)

    def test_who_is_told_where_the_answer_will_be(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever asks from then on is told the same place."""
        written, told = Future[str](), list[bool]()
        written.add_done_callback(lambda _: told.append(noted.done()))
        monkeypatch.setattr(desk.records, "begin", lambda *_: written)
        running = desk.deferrals.join(desk.accepted())
        noted = desk.deferrals.defer(running)
        written.set_result("name")
        assert told == [False]
        assert (noted.result(0), running.id) == ("name", "name")

    def test_the_longer_it_takes_the_longer_the_pause(self, desk: Desk) -> None:
        """Nobody has to guess; where others are before it, a little longer."""
        running, _ = desk.begin()
        pauses = []
        for seconds in (0, 10, 20, 200):
            desk.house.time.seconds += seconds
            pauses.append(desk.deferrals.pause(running))
        assert pauses == [2, 5, 15, 30]


def test_a_state_that_cannot_be_written(desk: Desk, database: SqliteDatabase) -> None:
    """Nobody is told to come again; who waits gets its chain."""
    running = desk.deferrals.join(desk.accepted())
    database._connection.execute("PRAGMA query_only = ON")
    assert isinstance(desk.deferrals.defer(running).exception(20), StateUnavailable)
    database._connection.execute("PRAGMA query_only = OFF")
    desk.house.authority.go.set()
    running.future.result(20)


@pytest.mark.threat("issuing", "thousands of requests to be fetched later")
def test_thousands_of_one_client(database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take its share of queue and state, and no more; another client has its chain meanwhile."""
    monkeypatch.setattr(deferred, "MOST_OF_CLIENT", 50)
    desk = Desk(database, most_at_once=4, most_waiting=100)
    key = ec.generate_private_key(ec.SECP256R1())
    try:
        asked = [
            desk.begin(desk.accepted(make_request(f"host{number}.example.org", key=key)))
            for number in range(2000)
        ]
        assert count(database, "requests") == 50
        assert desk.waiting <= 104
        refused = [each for each, _ in asked if each.future.done()]
        assert {type(each.future.exception()) for each in refused} == {QueueFull}
        wait_for(lambda: len(desk.deferrals._running) <= 104)
        other, name = desk.begin(desk.accepted(make_request("other.example.org"), client="192.0.2.2"))
        settle(desk.house.loop)
        wait_for(lambda: any(each.names == ("other.example.org",) for each in desk.house.authority.orders))
        desk.house.authority.go.set()
        other.future.result(20)
        wait_for(lambda: desk.has_outcome(name))
    finally:
        desk.house.close()
