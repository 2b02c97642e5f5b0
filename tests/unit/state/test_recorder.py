"""What becomes of events: rows of the state, few of them, whoever causes them."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from acmems import events, exceptions
from acmems.events import (
    AdministeredEvent,
    AnsweredEvent,
    Bus,
    DeliveredEvent,
    Event,
    FailedEvent,
    IssuedEvent,
    NotIssuedEvent,
    RefusedEvent,
    RequestedEvent,
)
from acmems.exceptions import StateUnavailable
from acmems.state import recorder as recorders
from acmems.state.allowance import Allowance
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.state.events import PAGE, EventFilter, EventRecord, EventRecords
from acmems.state.recorder import OTHERS, REPEAT_SECONDS, TOLD, EventRecorder
from acmems.system.clock import Clock

NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
KEPT = datetime.timedelta(days=400)
KNOWN = {"reference": "9f3a", "client": "192.0.2.7", "names": ("www.example.org",), "block": "web"}
DIRECTORY = "https://ca.example/directory"


class Records(EventRecords):
    """Events in a state, which can be made to fail or to hang."""

    hangs = False
    fails = False

    def __init__(self, database: SqliteDatabase) -> None:
        super().__init__(database)
        self.hanging: list[Future[None]] = []
        self.tries = 0

    def add(self, records: list[EventRecord]) -> Future[None]:  # type: ignore[override]  # a list is enough here
        self.tries += 1
        failed: Future[None] = Future()
        if self.hangs:
            self.hanging.append(failed)
            return failed
        if self.fails:
            failed.set_exception(StateUnavailable("the disk is full"))
            return failed
        added = super().add(records)
        added.result()
        return added


class Bench:
    """A recorder, whose time the test moves, and what it has written."""

    def __init__(self, database: SqliteDatabase) -> None:
        self.seconds = 0.0
        self.records = Records(database)
        clock = Clock(
            monotonic=lambda: self.seconds, now=lambda: NOW + datetime.timedelta(seconds=self.seconds)
        )
        self.recorder = EventRecorder(self.records, lambda: KEPT, node="host", clock=clock)

    def happen(self, event: Event, times: int = 1) -> None:
        for _ in range(times):
            self.recorder(event)

    def turn(self, seconds: float = 5.0) -> None:
        self.seconds += seconds
        self.recorder.turn()

    @property
    def rows(self) -> list[EventRecord]:
        """Oldest first."""
        return [*self.records.search(EventFilter())][::-1]

    @property
    def told(self) -> list[tuple[object, ...]]:
        return [(each.word, each.client, each.count) for each in self.rows]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    database = SqliteDatabase.open(tmp_path / "state.sqlite")
    yield Bench(database)
    database.close()


def refusal(client: str = "192.0.2.66", reason: str = "no", block: str | None = None) -> RefusedEvent:
    return RefusedEvent(reference="-", client=client, status=403, reason=reason, block=block)


def delivery(name: str = "www.example.org", reference: str = "9f3a") -> DeliveredEvent:
    known = {**KNOWN, "names": (name,), "reference": reference}
    return DeliveredEvent(status=200, source="stored", seconds=0.1, **known)  # type: ignore[arg-type]  # of all types


class TestRows:
    """What each kind of event becomes."""

    @pytest.mark.parametrize(
        ("event", "row"),
        [
            (RequestedEvent(**KNOWN), ("requested", None, None, None)),  # type: ignore[arg-type]  # of all types
            (refusal(reason="no block"), ("refused", 403, None, "no block")),
            (delivery(), ("delivered", 200, "stored", None)),
            (
                IssuedEvent(directory=DIRECTORY, not_after=NOW, seconds=1.0, **KNOWN),  # type: ignore[arg-type]  # of all types
                ("issued", None, None, None),
            ),
            (
                FailedEvent(stage="store", status=200, reason="disk", **KNOWN),  # type: ignore[arg-type]  # of all types
                ("failed", 200, "store", "disk"),
            ),
            (
                NotIssuedEvent(
                    directory=DIRECTORY,
                    error=exceptions.ValidatorUnavailable("no answer", advice="look at it"),
                    seconds=1.0,
                    **KNOWN,  # type: ignore[arg-type]  # of all types
                ),
                ("not issued", None, None, "no answer; look at it"),
            ),
            (
                AdministeredEvent(
                    act="revoke",
                    who="0 (root)",
                    outcome="done",
                    reason="keyCompromise",
                    **KNOWN,  # type: ignore[arg-type]  # of all types
                ),
                ("administered", None, "done", "revoke by 0 (root): keyCompromise"),
            ),
            (
                NotIssuedEvent(directory=DIRECTORY, error=KeyError("secret"), seconds=1.0, **KNOWN),  # type: ignore[arg-type]  # of all types
                ("not issued", None, None, "a bug: KeyError"),
            ),
        ],
        ids=lambda value: value.word if isinstance(value, Event) else "",
    )
    def test_a_kind(self, bench: Bench, event: Event, row: tuple[object, ...]) -> None:
        """Its row has who, what, which block, and how it ended."""
        bench.happen(event)
        bench.turn()
        (found,) = bench.rows
        assert (found.word, found.status, found.outcome, found.reason) == row
        assert (found.client, found.names, found.block) == (event.client, event.names, event.block)
        assert (found.at, found.count, found.node) == (NOW, 1, "host")

    def test_every_kind_is_decided(self) -> None:
        """Whatever is logged is kept, and what is only counted is not, but for orders that have failed."""
        kinds = {each for each in vars(events).values() if isinstance(each, type) and issubclass(each, Event)}
        logged = {each for each in kinds if each.is_logged} - {Event}
        assert set(TOLD) == logged | {NotIssuedEvent}

    def test_what_is_only_counted(self, bench: Bench) -> None:
        """Answers to challenges leave nothing."""
        bench.happen(AnsweredEvent(reference="-", client="192.0.2.66", status=200))
        bench.turn()
        assert bench.rows == []

    def test_texts_of_strangers(self, bench: Bench) -> None:
        """What would break a line or a terminal, or go on for ever, never reaches the state."""
        bench.happen(refusal("192.0.2.66\r\nx", "one\r\ntwo\x1b[31m\0 " + "x" * 5000, block="web"))
        bench.turn()
        (found,) = bench.rows
        assert found.client == "192.0.2.66 x"
        assert found.reason is not None
        assert found.reason.startswith("one two [31m xxx")
        assert len(found.reason) <= 2000

    def test_what_is_said_twice_in_a_way(self, bench: Bench) -> None:
        """The same events become one row with their number, and the reference of the first."""
        bench.happen(delivery(reference="first"))
        bench.happen(delivery(reference="second"), 2)
        bench.happen(delivery("mail.example.org"))
        bench.turn()
        assert [(each.count, each.reference) for each in bench.rows] == [(3, "first"), (1, "9f3a")]

    def test_what_goes_on(self, bench: Bench) -> None:
        """It has one row at once, and one a minute from then on."""
        for _ in range(24):
            bench.happen(delivery(), 10)
            bench.turn()
        assert [each.count for each in bench.rows] == [10, 120]
        bench.recorder.close()
        assert sum(each.count for each in bench.rows) == 240

    def test_a_burst(self, bench: Bench) -> None:
        """Thousands of different events are not kept waiting in memory for the next turn."""
        for number in range(recorders._FULL):
            bench.happen(delivery(f"n{number}.example.org"))
        assert len(bench.rows) == recorders._FULL
        assert bench.records.tries == 1

    def test_nothing_has_happened(self, bench: Bench) -> None:
        """Nothing is written then."""
        bench.turn()
        assert bench.records.tries == 0

    def test_many_of_them_in_a_transaction(self, bench: Bench) -> None:
        """However many there are, a turn writes once."""
        for number in range(100):
            bench.happen(delivery(f"n{number}.example.org"))
        bench.turn()
        assert (len(bench.rows), bench.records.tries) == (100, 1)

    def test_it_listens_to_the_bus(self, bench: Bench) -> None:
        """It is a subscriber."""
        bus = Bus()
        bus.subscribe(bench.recorder)
        bus.emit(delivery())
        bench.turn()
        assert bench.told == [("delivered", "192.0.2.7", 1)]


class TestStrangers:
    """Whom no auth block accepts can leave few rows."""

    @pytest.mark.threat("fair shares", "refusals without end")
    def test_one(self, bench: Bench) -> None:
        """Ten rows are his own, whatever he sends, and further refusals are one row."""
        for number in range(5000):
            bench.happen(refusal(reason=f"no {number}"))
        bench.turn()
        assert len(bench.rows) == 11
        assert bench.told[-1] == ("refused", OTHERS, 4990)
        bench.happen(refusal("192.0.2.67"))
        bench.turn()
        assert bench.told[-1] == ("refused", "192.0.2.67", 1)

    @pytest.mark.threat("fair shares", "refusals without end")
    def test_many(self, bench: Bench) -> None:
        """All together have a thousand rows at once; an IPv6 network counts as one."""
        for number in range(3000):
            bench.happen(refusal(f"10.0.{number // 250}.{number % 250}"))
        bench.turn()
        assert len(bench.rows) == Allowance.AT_ONCE + 1
        assert sum(each.count for each in bench.rows) == 3000

    @pytest.mark.threat("fair shares", "refusals without end")
    def test_a_day_of_them(self) -> None:
        """However many there are, the state grows by a few thousand rows a day."""
        allowance = Allowance()
        admitted = [allowance.admits(f"10.{second % 256}.0.1", float(second)) for second in range(86400)]
        assert 2500 < sum(admitted) < 4000

    def test_the_same_again(self, bench: Bench) -> None:
        """A client that is refused again and again for the same uses up nothing."""
        names = tuple(f"n{number}.example.org" for number in range(50))
        event = RefusedEvent(reference="-", client="192.0.2.66", status=403, reason="no", names=names)
        bench.happen(event, 100)
        bench.turn()
        assert bench.told == [("refused", "192.0.2.66", 100)]
        assert bench.rows[0].names == names[:10]

    def test_an_ipv6_network(self) -> None:
        """It is one machine."""
        allowance = Allowance()
        assert [allowance.admits(f"2001:db8::{number:x}", 0.0) for number in range(12)].count(True) == 10

    def test_an_hour_later(self) -> None:
        """An address may have rows again."""
        allowance = Allowance()
        assert [allowance.admits("192.0.2.66", 0.0) for _ in range(11)][-1] is False
        assert allowance.admits("192.0.2.66", 3600.0)

    def test_clients_of_a_block(self, bench: Bench) -> None:
        """What an auth block has accepted is not limited."""
        for number in range(1500):
            bench.happen(refusal(reason=f"no {number}", block="web"))
        bench.turn()
        assert len(bench.rows) == 1500


class TestFailures:
    """While the state cannot be written."""

    def test_it_can_be_written_again(self, bench: Bench) -> None:
        """Everything is written then, once, with the times of when it happened."""
        bench.records.fails = True
        bench.happen(delivery())
        bench.turn()
        bench.happen(delivery("mail.example.org"))
        bench.turn()
        assert bench.rows == []
        bench.records.fails = False
        bench.turn()
        bench.turn()
        assert [(each.names, each.at.second) for each in bench.rows] == [
            (("www.example.org",), 0),
            (("mail.example.org",), 5),
        ]

    def test_for_too_long(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Refusals are forgotten first, the oldest before others, and the log says how many, once."""
        monkeypatch.setattr(recorders, "_MOST", 20)
        bench.records.fails = True
        bench.happen(delivery("first.example.org"))
        for number in range(25):
            bench.happen(refusal(reason=f"no {number}", block="web"), 2)
            if number % 5 == 0:
                bench.turn()
        assert caplog.messages == []
        bench.records.fails = False
        bench.turn()
        bench.turn()
        kept = [each.reason for each in bench.rows if each.word == "refused"]
        assert kept == [f"no {number}" for number in range(25 - len(kept), 25)]
        assert bench.rows[0].names == ("first.example.org",)
        assert len(bench.rows) <= 20
        lost = 2 * (25 - len(kept))
        assert caplog.messages == [f"{lost} events are lost: the state could not be written for too long"]
        assert caplog.records[0].levelno == logging.WARNING

    def test_where_there_are_no_refusals(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        """The oldest events go."""
        monkeypatch.setattr(recorders, "_MOST", 20)
        bench.records.fails = True
        for number in range(40):
            bench.happen(delivery(f"n{number}.example.org"))
            bench.turn()
        bench.records.fails = False
        bench.turn()
        assert 18 <= len(bench.rows) <= 20
        assert bench.rows[-1].names == ("n39.example.org",)

    def test_while_a_transaction_hangs(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        """No further one is begun, and memory is bounded; it all goes on when that has ended."""
        monkeypatch.setattr(recorders, "_MOST", 20)
        monkeypatch.setattr(recorders, "_FULL", 5)
        bench.records.hangs = True
        for number in range(100):
            bench.happen(delivery(f"n{number}.example.org"))
        bench.turn()
        assert bench.records.tries == 1
        bench.records.hangs = False
        bench.records.hanging[0].set_exception(StateUnavailable("the connection is gone"))
        bench.turn()
        assert len(bench.rows) <= 5 + 20
        names = {each.names for each in bench.rows}
        assert {("n0.example.org",), ("n99.example.org",)} <= names

    def test_a_bug(self, bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
        """What can never be written is not tried for ever."""
        bench.records.hangs = True
        bench.happen(delivery())
        bench.turn()
        bench.records.hangs = False
        bench.records.hanging[0].set_exception(KeyError("x"))
        bench.turn()
        assert (bench.records.tries, bench.rows) == (1, [])
        assert caplog.messages == ["1 rows of events are lost by a bug"]

    def test_a_stop(self, bench: Bench) -> None:
        """What could not be written is tried once more."""
        bench.records.fails = True
        bench.happen(delivery())
        bench.turn()
        bench.records.fails = False
        bench.recorder.close()
        assert len(bench.rows) == 1


def test_what_is_too_old(bench: Bench) -> None:
    """It is removed, a page a turn while there is more, and looked for once a minute."""
    old = NOW - KEPT - datetime.timedelta(days=1)
    bench.records.add(
        [EventRecord(id=f"{number:06}", at=old, word="refused", client="-") for number in range(PAGE + 10)]
    )
    left = []
    for _ in range(2):
        bench.turn()
        bench.records.forget(old - KEPT).result()  # what was asked for before is done then
        left.append(len(bench.rows))
    assert left == [10, 0]
    bench.records.add([EventRecord(id="again", at=old, word="refused", client="-")])
    bench.turn()
    bench.records.forget(old - KEPT).result()
    assert len(bench.rows) == 1
    bench.turn(REPEAT_SECONDS)
    bench.records.forget(old - KEPT).result()
    assert bench.rows == []
