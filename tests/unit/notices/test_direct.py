"""That the state cannot be written is told past the state."""

from __future__ import annotations

import pytest
from tests.monitoring import Moment
from tests.noticing import NOW, Recorder

from acmems.exceptions import StateUnavailable
from acmems.notices.counts import NoticeCounts
from acmems.notices.direct import StateAlarm
from acmems.notices.options import NoticeRoute

FULL = StateUnavailable("the disk is full")


class Watched:
    def __init__(self) -> None:
        self.moment = Moment(wall=NOW)
        self.ops, self.others = Recorder("ops"), Recorder("others", NoticeRoute(frozenset({"renewal"})))
        self.targets = {"ops": self.ops, "others": self.others}
        self.counts = NoticeCounts()
        self.alarm = StateAlarm(lambda: self.targets, self.moment.clock(), self.counts, server="host")

    def look(self, failure: Exception | None, **after: float) -> None:
        self.moment.pass_by(**after)
        self.alarm.look(failure)
        self.alarm.deliver()


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_from_its_beginning_to_its_end(watched: Watched) -> None:
    """After two minutes, and when it is over; to those only who want to hear of it."""
    for minutes in range(6):
        watched.look(FULL, minutes=1)
        assert len(watched.ops.got) == (minutes >= 2)
    watched.look(None)
    watched.look(None, minutes=1)
    assert watched.ops.subjects == [("begun", "state"), ("ended", "state")]
    first, last = watched.ops.got
    assert first.cause == last.cause
    assert (first.severity, first.subject) == ("critical", "the state cannot be written: nothing is ordered")
    assert "Reason: the disk is full" in first.text
    assert watched.others.got == []


def test_a_restart_of_the_database(watched: Watched) -> None:
    """It takes less than two minutes, and is not told."""
    for failure in (FULL, None, FULL, None):
        watched.look(failure, seconds=100)
    assert watched.ops.tries == 0


def test_a_target_that_fails(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    """It is tried again, less and less often; the log tells once."""
    watched.ops.fail("no route")
    for _ in range(30):
        watched.look(FULL, minutes=1)
    assert watched.ops.tries == 6
    assert caplog.messages == ["notice ops: not delivered, and tried again: no route"]
    watched.ops.error = None
    watched.look(FULL, hours=1)
    assert watched.ops.subjects == [("begun", "state")]
    assert watched.counts.deliveries == {("ops", "failed"): 6, ("ops", "delivered"): 1}


def test_what_lasts(watched: Watched) -> None:
    """It is told again after a day, two and four."""
    for _ in range(8 * 24):
        watched.look(FULL, hours=1)
    assert [each.phase for each in watched.ops.got] == ["begun", *["continues"] * 3]


def test_a_target_that_is_gone(watched: Watched) -> None:
    """A reload has taken it away."""
    watched.ops.fail()
    for _ in range(3):
        watched.look(FULL, minutes=1)
    watched.targets = {}
    watched.look(FULL, hours=1)
    assert watched.ops.tries == 1
