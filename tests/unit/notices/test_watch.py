"""What the state tells of what fails is told once, whatever happens between."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.monitoring import Moment
from tests.noticing import DAY, DIRECTORY, HOUR, NOW, Recorder, keep_failing, mend

from acmems.issuing.limits.gcra import Rate
from acmems.issuing.limits.limit import Counted, Limit
from acmems.notices.counts import NoticeCounts
from acmems.notices.options import NoticeRoute, WeeklyMoment
from acmems.notices.outbox import Outbox
from acmems.notices.watch import NoticeWatch, nearly_full
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.state.events import EventRecord, EventRecords
from acmems.state.limits.buckets import BucketRecord
from acmems.state.notices.causes import CauseRecords
from acmems.state.notices.outbox import NoticeRecords
from acmems.state.notices.sightings import SightingRecord, SightingRecords

WEEKLY = WeeklyMoment.parse("monday 08:00")


class Lookout:
    """A watch and an outbox on a real state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.moment = Moment(wall=NOW)
        self.ops = Recorder("ops")
        self.targets = {"ops": self.ops}
        self.limits: list[Limit] = []
        self.open()

    def open(self) -> None:
        clock = self.moment.clock()
        self.database = SqliteDatabase.open(self.folder / "state.sqlite")
        self.watch = NoticeWatch(
            self.database, lambda: self.targets, lambda: self.limits, clock, server="host"
        )
        self.outbox = Outbox(NoticeRecords(self.database), lambda: self.targets, clock, NoticeCounts())

    def restart(self) -> None:
        self.database.close()
        self.open()

    def look(self, **after: float) -> None:
        self.moment.pass_by(**after)
        self.watch.look()
        self.watch.summarize()
        self.outbox.turn()

    def fail(self, number: int, **known: Any) -> None:
        keep_failing(self.database, number, now=self.moment.wall, **known)

    def sight(self, kind: str, *, began: datetime.timedelta = 2 * HOUR) -> None:
        now = self.moment.wall
        record = SightingRecord(
            subject=f"{kind} {DIRECTORY}",
            kind=kind,
            directory=DIRECTORY,
            began=now - began,
            seen=now,
            reason="it says no",
        )
        SightingRecords(self.database).note([record], []).result(20)


@pytest.fixture
def lookout(tmp_path: Path) -> Iterator[Lookout]:
    made = Lookout(tmp_path)
    yield made
    made.database.close()


def test_a_thousand_certificates(lookout: Lookout) -> None:
    """They fail for one reason, and are one notice; and one more when they do not any more."""
    lookout.fail(1000)
    for _ in range(10):
        lookout.look(minutes=1)
        lookout.restart()
    assert lookout.ops.subjects == [("begun", "renewal")]
    notice = lookout.ops.got[0]
    assert (notice.facts["certificates"], notice.severity, notice.server) == (1000, "warning", "host")
    assert notice.subject == "1,000 certificates are not renewed; the first ends in 8 days"
    mend(lookout.database)
    lookout.look(minutes=1)
    lookout.look(minutes=1)
    assert lookout.ops.subjects[1:] == [("ended", "renewal")]
    over = lookout.ops.got[1]
    assert over.cause == notice.cause
    assert over.id != notice.id
    assert over.subject == "no renewal fails for this reason any more"
    assert CauseRecords(lookout.database).all() == []


def test_the_time_runs_out(lookout: Lookout) -> None:
    """It is told at each halving of what is left, and critical in the end; of the end itself, too."""
    lookout.fail(3, ends=19 * DAY)
    for _ in range(20 * 24):
        lookout.look(hours=1)
    told = [
        ((NOW + 19 * DAY - each.at).total_seconds() / 3600, each.severity)
        for each in lookout.ops.got
        if each.phase != "ended"
    ]
    # Reminders come one, two and four days later, while nothing else is told; this test looks each hour.
    assert [left for left, _ in told] == [455, 431, 383, 287, 240, 120, 60, 30, 15, 7, 3, 1, 0]
    assert [severity for _, severity in told] == ["warning"] * 5 + ["critical"] * 8
    assert lookout.ops.got[-1].subject.startswith("3 certificates are not renewed; the first has ended")


def test_a_crash_between_looking_and_writing(lookout: Lookout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is it lost, nor told twice: what was told is written with the notice or not at all."""
    lookout.fail(1)
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "keep", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            lookout.look()
    lookout.restart()
    lookout.look()
    assert lookout.ops.subjects == [("begun", "renewal")]


class TestRoutes:
    @pytest.mark.parametrize(
        ("kinds", "least", "count"),
        [
            ((), "warning", 2),
            (("renewal",), "warning", 1),
            (("ca", "state"), "warning", 0),
            ((), "critical", 1),
            (("renewal",), "critical", 0),
        ],
    )
    def test_who_gets_what(self, lookout: Lookout, kinds: Any, least: Any, count: int) -> None:
        """By kind and severity."""
        lookout.ops.route = NoticeRoute(frozenset(kinds), least)
        lookout.fail(1)
        lookout.sight("account")
        lookout.look()
        assert len(lookout.ops.got) == count

    def test_whoever_was_told_is_told_of_the_end(self, lookout: Lookout) -> None:
        """Also whoever wants only what is critical, and nobody who was told nothing."""
        critical, others = Recorder("critical", NoticeRoute(least="critical")), Recorder("others")
        lookout.targets = {"critical": critical, "others": others}
        lookout.fail(1, ends=3 * DAY)
        lookout.look()
        mend(lookout.database)
        lookout.look()
        assert critical.subjects == others.subjects == [("begun", "renewal"), ("ended", "renewal")]
        lookout.fail(1, ends=9 * DAY)
        lookout.look()
        mend(lookout.database)
        lookout.look()
        assert (len(critical.got), len(others.got)) == (2, 4)


@pytest.mark.parametrize(
    ("kind", "first", "last", "severity"),
    [
        (
            "account",
            "the CA refuses the account: nothing can be ordered",
            "the CA takes the account again",
            "critical",
        ),
        (
            "ca",
            "the CA has not answered for 2 hours, while certificates are due",
            "the CA answers again",
            "warning",
        ),
        (
            "clock",
            "the clocks of this server and the CA differ: nothing is ordered",
            "the clocks of this server and the CA agree again",
            "warning",
        ),
    ],
)
def test_what_orders_tell(lookout: Lookout, kind: str, first: str, last: str, severity: str) -> None:
    """It is told with the CA's words, and when it is over."""
    lookout.sight(kind)
    lookout.look()
    SightingRecords(lookout.database).note([], [f"{kind} {DIRECTORY}"]).result(20)
    lookout.look(minutes=1)
    told = [(each.subject, each.severity) for each in lookout.ops.got]
    assert told == [(first, severity), (last, severity)]
    assert all("Reason: it says no" in each.text and DIRECTORY in each.text for each in lookout.ops.got)


@pytest.mark.parametrize(("kind", "minutes"), [("account", 0), ("ca", 60), ("clock", 10)])
def test_how_long_it_may_last(lookout: Lookout, kind: str, minutes: int) -> None:
    """A CA may not answer for an hour; the account is refused at once."""
    length = datetime.timedelta(minutes=minutes)
    for began, is_told in ((length - datetime.timedelta(seconds=1), minutes == 0), (length, True)):
        lookout.sight(kind, began=max(began, datetime.timedelta()))
        lookout.look()
        assert bool(lookout.ops.got) is is_told
        SightingRecords(lookout.database).note([], [f"{kind} {DIRECTORY}"]).result(20)


def test_what_nobody_has_seen_for_a_week(lookout: Lookout) -> None:
    """It is over: that CA is not asked any more."""
    lookout.sight("ca")
    lookout.look()
    lookout.look(days=6)
    assert [each.phase for each in lookout.ops.got] == ["begun", "continues"]
    lookout.look(days=2)
    assert lookout.ops.got[-1].phase == "ended"


class TestSummaries:
    def test_each_week(self, lookout: Lookout) -> None:
        """At its moment, once; the first one at the first moment that comes, also after a time out."""
        lookout.ops.route = NoticeRoute(weekly=WEEKLY)
        lookout.moment.wall = NOW - HOUR
        lookout.look()
        assert lookout.ops.got == []
        lookout.look(minutes=59)
        assert lookout.ops.got == []
        for _ in range(3):
            lookout.look(minutes=1)
            lookout.restart()
        assert lookout.ops.subjects == [("once", "summary")]
        lookout.look(days=9)
        lookout.look(minutes=1)
        assert len(lookout.ops.got) == 2

    def test_a_clock_that_was_ahead(self, lookout: Lookout) -> None:
        """Once it is right, there is one each week again."""
        lookout.ops.route = NoticeRoute(weekly=WEEKLY)
        lookout.moment.wall = NOW + 365 * DAY
        lookout.look()
        lookout.moment.wall = NOW - HOUR
        lookout.look()
        lookout.look(hours=1)
        assert lookout.ops.subjects == [("once", "summary")]

    def test_what_it_says(self, lookout: Lookout) -> None:
        """How certificates are, what has happened, what ends, who was refused, and what is nearly full."""
        lookout.ops.route = NoticeRoute(weekly=WEEKLY)
        lookout.moment.wall = NOW - DAY
        lookout.fail(3)
        lookout.limits = [Limit("orders", Counted.ORDERS, Rate(10, 10_000_000))]
        lookout.look()
        at = lookout.moment.wall
        events = [
            EventRecord(id=f"{each}", at=at, word="refused", client=f"192.0.2.{each}", count=each)
            for each in range(1, 8)
        ]
        failed = EventRecord(id="f", at=at, word="not issued", client="192.0.2.1", count=17)
        old = EventRecord(id="o", at=at - 8 * DAY, word="refused", client="192.0.2.99", count=99)
        EventRecords(lookout.database).add([*events, failed, old]).result(20)
        bucket = (int(NOW.timestamp() + 9000) * 1000,)
        lookout.database.write(
            lambda transaction: (
                transaction.execute(
                    "INSERT INTO buckets (name, account, limited, subject, instant) "
                    "VALUES ('b', 'a', 'orders', '', ?)",
                    bucket,
                ).rowcount
            )
        ).result(20)
        lookout.look(days=1)
        (summary,) = [each for each in lookout.ops.got if each.kind == "summary"]
        facts = summary.facts
        assert facts["certificates"] == {"fresh": 0, "due": 3, "failing": 3, "expired": 0}
        assert (facts["issued"], facts["renewed"], facts["failed_orders"]) == (3, 0, 17)
        clients = [each["client"] for each in facts["refused"]]
        assert clients == [f"192.0.2.{each}" for each in (7, 6, 5, 4, 3)]
        assert facts["limits"] == [{"limit": "orders", "subject": None, "used": 9, "most": 10}]
        ends = [each["names"] for each in facts["ends"]]
        assert ends == [[f"machine{each}.example.org"] for each in range(3)]
        assert len(facts["open"]) == 1
        assert summary.subject == "3 certificates, 0 renewed this week, 3 failing"
        for line in (
            "- due:     3, of which the renewal of 3 fails",
            "- 192.0.2.7: 7 times",
            "- orders for the account: 9 of 10",
        ):
            assert line in summary.text

    def test_whoever_wants_none(self, lookout: Lookout) -> None:
        """They get none."""
        lookout.look()
        lookout.look(days=8)
        assert lookout.ops.got == []


def test_limits_that_are_nearly_full() -> None:
    """Those of which four fifths are used, the fullest first."""
    limit = Limit("domains", Counted.DOMAIN, Rate(10, 10_000))
    now = int(NOW.timestamp()) * 1000
    buckets = [BucketRecord(str(each), "a", "domains", f"d{each}", now + 1000 * each) for each in (7, 8, 10)]
    buckets.append(BucketRecord("x", "a", "former", "d", now + 10_000))
    found = nearly_full([limit], buckets, NOW)
    assert [(each.subject, each.used) for each in found] == [("d10", 10), ("d8", 8)]
