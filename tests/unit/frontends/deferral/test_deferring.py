"""Requests at a listener that are answered by where their answer will be, and requests for that."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.auth_blocks import block
from tests.chains import make_request
from tests.deferring import SECONDS, Desk
from tests.listening import Bench, Client
from tests.sharing import count
from tests.steps import wait_for

from acmems.auth import Authenticator
from acmems.events import AnsweredEvent, DeferredEvent, DeliveredEvent, Event, RefusedEvent
from acmems.exceptions import PayloadInvalid, StateUnavailable
from acmems.frontends.delivery import SigningPolicy
from acmems.frontends.sign import SignFrontEnd
from acmems.issuing.failover.issuances import Issuances
from acmems.net.http import HttpService
from acmems.state.engines.sqlite import SqliteDatabase

HERE, THERE = "192.0.2.7", "198.51.100.7"
REQUEST = make_request("www.example.org")
SENT = (DeferredEvent, DeliveredEvent, AnsweredEvent, RefusedEvent)


class Counter:
    """A listener for requests to sign, and the desk behind it."""

    def __init__(self, database: SqliteDatabase) -> None:
        self.desk = Desk(database)
        self.bench = Bench()
        here = block(("domain", "*.example.org"), ("ip", HERE), name="here")
        there = block(("domain", "*.example.com"), ("ip", THERE), name="there")
        policy = SigningPolicy(Authenticator((here, there)), SECONDS, "dropped")
        issuance = self.desk.house.issuance
        issuances = Issuances({"": issuance}, self.desk.house.clock)
        front_end = SignFrontEnd(
            lambda: policy, issuances, issuance.bus, self.desk.house.clock, self.desk.deferrals
        )
        self.bench.listener._service = HttpService(front_end)

    def ask(self, preference: str = "respond-async", body: bytes = REQUEST.pem) -> Client:
        client = self.bench.connect(HERE)
        head = (
            f"POST /sign HTTP/1.1\r\nHost: a\r\nPrefer: {preference}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        client.send(head.encode() + body)
        self.bench.go()
        return client

    def fetch(self, path: str, source: str = HERE, preference: str = "wait=0") -> Client:
        client = self.bench.connect(source)
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nPrefer: {preference}\r\n\r\n".encode())
        self.bench.go()
        return client

    def answer(self, client: Client) -> tuple[str, bytes]:
        """Return status and body of an answer that comes from other threads."""

        def has_come() -> bool:
            self.bench.go()
            return not client.silent

        wait_for(has_come)
        head, _, body = client.socket.recv(65536).partition(b"\r\n\r\n")
        return head.split()[1].decode(), body

    def tell(self, preference: str = "respond-async, wait=0") -> str:
        """Ask, and return where the answer will be."""
        client = self.ask(preference)
        self.pass_time(1)
        status, body = self.answer(client)
        assert status == "202", body
        return next(each for each in body.decode().split() if each.startswith("/requests/"))

    def pass_time(self, seconds: float) -> None:
        self.desk.pass_time(seconds)

    @property
    def events(self) -> list[Event]:
        return [each for each in self.desk.house.events if isinstance(each, SENT)]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    opened = SqliteDatabase.open(tmp_path / "state.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def counter(database: SqliteDatabase) -> Iterator[Counter]:
    made = Counter(database)
    yield made
    made.desk.house.close()


@pytest.mark.parametrize(
    ("preference", "before", "after"),
    [
        ("respond-async", 0.9, 0.2),
        ("respond-async, wait=0", 0.0, 0.2),
        ("respond-async, wait=30", 29.0, 2.0),
        ("respond-async, wait=5000", 98.0, 2.0),
    ],
)
def test_how_long_an_answer_is_waited_for(
    counter: Counter, preference: str, before: float, after: float
) -> None:
    """As long as the client says, within its time; a second where it does not say."""
    client = counter.ask(preference)
    counter.pass_time(before)
    counter.bench.go()
    assert client.silent
    counter.pass_time(after)
    assert counter.answer(client)[0] == "202"
    assert [type(each) for each in counter.events] == [DeferredEvent]


def test_only_who_asks_for_it_is_told_to_come_again(counter: Counter) -> None:
    """Whatever else it prefers."""
    client = counter.ask("wait=0, respond-asynchronously")
    counter.pass_time(SECONDS - 1)
    counter.bench.go()
    assert client.silent


def test_one_answer_and_one_event(counter: Counter, database: SqliteDatabase) -> None:
    """A chain that comes in time is the answer, and nothing follows when the time is over."""
    client = counter.ask("respond-async, wait=30")
    counter.desk.house.authority.go.set()
    assert counter.answer(client)[0] == "200"
    counter.pass_time(31)
    database.check().result(20)
    counter.bench.go()
    assert client.silent
    assert [type(each) for each in counter.events] == [DeliveredEvent]
    assert count(database, "requests") == 0


def test_a_chain_that_comes_while_its_request_is_noted(counter: Counter, database: SqliteDatabase) -> None:
    """It is the answer, and the only one."""
    gate = threading.Event()
    database.write(lambda _: gate.wait(20))
    client = counter.ask("respond-async, wait=0")
    counter.pass_time(1)
    counter.desk.house.authority.go.set()
    assert counter.answer(client)[0] == "200"
    gate.set()
    database.check().result(20)
    counter.bench.go()
    assert client.silent
    assert [type(each) for each in counter.events] == [DeliveredEvent]


def test_the_time_of_who_joins_late_may_end_first(counter: Counter) -> None:
    """Then it is told to come again, and not that there is no certificate."""
    counter.tell()
    counter.pass_time(0.4 * SECONDS)
    client = counter.ask("respond-async, wait=90")  # joins, although the first one has less time left
    counter.pass_time(0.6 * SECONDS)
    assert counter.answer(client)[0] == "202"


def test_a_state_that_cannot_be_written(counter: Counter, database: SqliteDatabase) -> None:
    """The preference is not applied: the client has to wait, and gets its chain."""
    database._connection.execute("PRAGMA query_only = ON")
    client = counter.ask("respond-async, wait=0")
    counter.pass_time(1)
    database.check().exception(20)
    counter.bench.go()
    assert client.silent
    database._connection.execute("PRAGMA query_only = OFF")
    counter.desk.house.authority.go.set()
    assert counter.answer(client)[0] == "200"


def test_what_is_refused_is_refused_at_once(counter: Counter) -> None:
    """No CSR, no promise."""
    assert counter.answer(counter.ask(body=b"nonsense"))[0] == "415"


@pytest.mark.threat("issuing", "requests that hang and are abandoned")
def test_who_hangs_up_leaves_nothing(counter: Counter) -> None:
    """Whoever asks, hangs up and asks again takes no memory for long; who waits goes on waiting."""
    path = counter.tell()
    waiting = counter.fetch(path, preference="wait=60")
    for _ in range(20):
        counter.fetch(path, preference="wait=60").socket.close()
        counter.ask("respond-async, wait=60").socket.close()
    waiters = counter.desk.deferrals.waiting

    def are_gone() -> bool:
        counter.bench.go()
        counter.pass_time(0.1)
        return len(waiters) == 1

    wait_for(are_gone)
    counter.desk.house.authority.go.set()
    assert counter.answer(waiting)[0] == "200"
    wait_for(lambda: len(waiters) == 0)
    assert counter.desk.waiting == 0


class TestFetching:
    def test_while_it_runs(self, counter: Counter) -> None:
        """202 again, or the chain if it comes while the client wants to wait."""
        path = counter.tell()
        client = counter.fetch(path)
        wait_for(lambda: len(counter.desk.deferrals._threads._queue) == 0)
        counter.bench.go()

        def is_answered() -> bool:
            counter.pass_time(0.2)
            counter.bench.go()
            return not client.silent

        wait_for(is_answered)
        assert counter.answer(client)[0] == "202"
        patient = counter.fetch(path, preference="wait=60")
        counter.desk.house.authority.go.set()
        assert counter.answer(patient)[0] == "200"
        assert counter.answer(counter.fetch(path))[0] == "200"
        assert counter.desk.orders == 1

    @pytest.mark.threat("auth", "the answer to another one's request")
    def test_who_may_not(self, counter: Counter) -> None:
        """All learn the same; the operator learns why."""
        path = counter.tell()
        before = len(counter.events)
        answers = [
            counter.answer(counter.fetch(path, THERE)),
            counter.answer(counter.fetch(path, "203.0.113.9")),
            counter.answer(counter.fetch("/requests/" + "x" * 32)),
            counter.answer(counter.fetch("/requests/" + "x" * 31)),
        ]
        assert {status for status, _ in answers} == {"404"}
        assert len(set(answers)) == 1
        told = [each.reason for each in counter.events[before:] if isinstance(each, RefusedEvent)]
        assert told == [
            "block there: www.example.org matches no domain of it",
            "no block takes this address with no well-formed HMAC claim",
            "there is no such request, or it was forgotten",
            "this is not the path of a request",
        ]
        assert {each.names for each in counter.events[before:]} == {()}

    def test_nobody_looks_into_the_state_for_a_stranger(
        self, counter: Counter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """First is seen who asks."""
        monkeypatch.setattr(counter.desk.records, "find", None)
        assert counter.answer(counter.fetch("/requests/" + "x" * 32, "203.0.113.9"))[0] == "404"

    def test_what_is_not_acceptable_any_more(self, counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
        """A configuration may have changed what a CSR may hold."""
        path = counter.tell()

        def refuse(*_: object) -> None:
            raise PayloadInvalid("no more")

        monkeypatch.setattr("acmems.auth.processor.read_request", refuse)
        assert counter.answer(counter.fetch(path))[0] == "404"

    def test_another_ca_by_now(self, counter: Counter, database: SqliteDatabase) -> None:
        """What was to come from one is not answered with what comes from another."""
        path = counter.tell()
        database.write(
            lambda transaction: transaction.execute("UPDATE requests SET identity = ?", ("other",))
        ).result(20)
        assert counter.answer(counter.fetch(path))[0] == "404"

    def test_a_state_that_cannot_be_read(self, counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
        """503: another server may be able to."""
        path = counter.tell()

        def fail(*_: object) -> None:
            raise StateUnavailable("away")

        monkeypatch.setattr(counter.desk.records, "find", fail)
        assert counter.answer(counter.fetch(path))[0] == "503"

    def test_a_bug(self, counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever is wrong in here, who asks hears of it."""
        monkeypatch.setattr(counter.desk.records, "find", None)
        assert counter.answer(counter.fetch("/requests/" + "x" * 32))[0] == "500"
