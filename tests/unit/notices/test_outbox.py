"""Notices are delivered once each, whatever becomes of the target or of the process."""

from __future__ import annotations

import datetime
import itertools
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.monitoring import Moment
from tests.noticing import NOW, Recorder, make_notice
from tests.sharing import unwritable

from acmems.exceptions import StateUnavailable
from acmems.notices import outbox
from acmems.notices.counts import NoticeCounts
from acmems.notices.notice import Notice
from acmems.notices.outbox import GIVEN_UP, LONGEST_PAUSE, Outbox, pause_after
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.state.notices.outbox import NoticeRecords


class Office:
    """An outbox on a real state, and two targets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.moment = Moment(wall=NOW)
        self.mail, self.hook = Recorder("mail"), Recorder("hook")
        self.targets = {"mail": self.mail, "hook": self.hook}
        self.open()

    def open(self) -> None:
        self.database = SqliteDatabase.open(self.folder / "state.sqlite")
        self.records = NoticeRecords(self.database)
        self.counts = NoticeCounts()
        self.outbox = Outbox(self.records, lambda: self.targets, self.moment.clock(), self.counts)

    def restart(self) -> None:
        self.database.close()
        self.open()

    def keep(self, *notices: Notice, targets: tuple[str, ...] = ("mail",)) -> None:
        kept, now = [(each, targets) for each in notices], self.moment.wall
        self.database.write(lambda transaction: Outbox.keep(transaction, kept, now)).result(20)

    def turn(self, **after: float) -> None:
        self.moment.pass_by(**after)
        self.outbox.turn()


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    yield made
    made.database.close()


def test_to_each_target_once(office: Office) -> None:
    """It comes as it was made."""
    notice = make_notice()
    office.keep(notice, targets=("mail", "hook"))
    office.turn()
    office.turn(hours=1)
    assert office.mail.got == office.hook.got == [notice]
    assert office.counts.deliveries == {("mail", "delivered"): 1, ("hook", "delivered"): 1}


def test_a_restart_before_it_is_delivered(office: Office) -> None:
    """Nothing is lost."""
    office.keep(make_notice())
    office.restart()
    office.turn()
    assert [each.id for each in office.mail.got] == ["id-1"]


def test_a_restart_after_it_was_delivered(office: Office) -> None:
    """Nothing is told twice."""
    office.keep(make_notice())
    office.turn()
    office.restart()
    office.turn(hours=1)
    assert len(office.mail.got) == 1


def test_a_crash_right_after_it_was_delivered(office: Office) -> None:
    """It is delivered again, with the same id."""
    office.keep(make_notice())
    with unwritable(office.database), pytest.raises(StateUnavailable):
        office.turn()
    office.restart()
    office.turn(minutes=1)
    office.turn(minutes=1)
    assert [each.id for each in office.mail.got] == ["id-1", "id-1"]


def test_a_server_that_stops(office: Office) -> None:
    """What is being delivered is, and nothing more; the rest is delivered by the next one."""
    office.keep(*(make_notice(f"id-{each}", cause=f"c{each}") for each in range(3)))
    office.mail.before = lambda: setattr(office.outbox, "_is_stopped", True)
    office.turn()
    assert len(office.mail.got) == 1
    office.restart()
    office.mail.before = lambda: None
    office.turn()
    assert [each.id for each in office.mail.got] == ["id-0", "id-1", "id-2"]


def test_a_target_that_takes_long(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others get their notices meanwhile, and it is not told the same twice."""
    monkeypatch.setattr(outbox, "PATIENCE_SECONDS", 0.01)
    entered, leaving = threading.Event(), threading.Event()

    def take_long() -> None:
        entered.set()
        assert leaving.wait(60)

    office.mail.before = take_long
    office.keep(make_notice("id-1"))
    office.turn()
    assert entered.wait(60)
    monkeypatch.undo()
    office.keep(make_notice("id-2", cause="another"), targets=("mail", "hook"))
    office.turn()
    assert ([each.id for each in office.hook.got], office.mail.tries) == (["id-2"], 1)
    leaving.set()
    office.outbox.stop()
    assert [each.id for each in office.mail.got] == ["id-1"]


class TestFailures:
    def test_pauses(self, office: Office) -> None:
        """They grow, and are not forgotten by a restart."""
        office.keep(make_notice())
        office.mail.fail()
        tries = []
        for _ in range(3 * 60):
            before = office.mail.tries
            office.turn(minutes=1)
            if office.mail.tries > before:
                tries.append(office.moment.wall)
                office.restart()
        pairs = itertools.pairwise(tries)
        gaps = [round((later - earlier).total_seconds() / 60) for earlier, later in pairs]
        assert gaps == [1, 1, 2, 4, 8, 16, 32, 64]
        assert pause_after(30) == pause_after(10**6) == LONGEST_PAUSE

    def test_a_clock_that_was_ahead(self, office: Office) -> None:
        """What has failed by it is tried when the clock is right."""
        office.mail.fail()
        office.moment.wall += datetime.timedelta(days=365)
        office.keep(make_notice())
        office.turn()
        office.moment.wall = NOW
        office.mail.error = None
        office.turn()
        assert [each.id for each in office.mail.got] == ["id-1"]

    def test_the_log(self, office: Office, caplog: pytest.LogCaptureFixture) -> None:
        """It tells when a target begins to fail and when it works again, and not each try."""
        caplog.set_level(logging.INFO)
        office.keep(make_notice())
        office.mail.fail("the mail server is away")
        for _ in range(10):
            office.turn(hours=6)
        assert caplog.messages == [
            "notice mail: not delivered, and tried again for days: the mail server is away"
        ]
        office.mail.error = None
        office.turn(hours=6)
        assert caplog.messages[1:] == ["notice mail: delivers again, also what has waited"]
        assert office.counts.deliveries == {("mail", "failed"): 10, ("mail", "delivered"): 1}

    def test_others_go_on(self, office: Office) -> None:
        """A target that fails, or meets a bug, is in nobody's way."""
        office.keep(make_notice(), targets=("mail", "hook"))
        office.mail.error = RuntimeError("oh")
        office.turn()
        assert (len(office.hook.got), len(office.mail.got)) == (1, 0)
        assert office.counts.waiting == {"mail": 1}

    def test_one_try_for_all_that_waits(self, office: Office) -> None:
        """A target that does not answer is not asked for each notice."""
        office.keep(*(make_notice(f"id-{each}", cause=f"c{each}") for each in range(5)))
        office.mail.fail()
        office.turn()
        office.turn(seconds=1)
        assert office.mail.tries == 1
        office.mail.error = None
        office.turn(minutes=1)
        assert [each.id for each in office.mail.got] == [f"id-{each}" for each in range(5)]

    def test_given_up(self, office: Office, caplog: pytest.LogCaptureFixture) -> None:
        """What nobody takes for days is lost, and the log says what it was."""
        office.keep(make_notice())
        office.mail.fail("no such host")
        office.turn()
        office.turn(seconds=GIVEN_UP.total_seconds())
        assert office.records.all() == []
        assert caplog.messages[-1] == (
            'notice mail: lost after 5 days, because no such host: a "certificate" ends'
        )
        assert office.counts.deliveries["mail", "lost"] == 1


class TestReplaced:
    """Whoever comes back after days gets the last state of things, and not its history."""

    def test_while_it_waits(self, office: Office) -> None:
        """The later notice of a cause takes the place of the one before it."""
        office.mail.fail()
        office.keep(make_notice("id-1"))
        office.turn()
        office.keep(make_notice("id-2", phase="ended"), make_notice("id-3", cause="another"))
        office.mail.error = None
        office.turn(hours=1)
        assert sorted(each.id for each in office.mail.got) == ["id-2", "id-3"]

    def test_while_it_is_delivered(self, office: Office) -> None:
        """Both are delivered: the second one is not taken for the first."""
        office.mail.before = lambda: office.keep(make_notice("id-2")) if office.mail.tries == 1 else None
        office.keep(make_notice("id-1"))
        office.turn()
        office.turn()
        assert [each.id for each in office.mail.got] == ["id-1", "id-2"]


def test_another_description(office: Office) -> None:
    """What waits for a target whose section has changed is tried at once."""
    office.keep(make_notice())
    office.mail.fail()
    for _ in range(8):
        office.turn(hours=6)
    office.mail.error = None
    office.outbox.hasten(["mail"])
    office.turn()
    assert len(office.mail.got) == 1


def test_no_such_target_any_more(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    """What waits for it is forgotten, and the log says so."""
    office.keep(make_notice(), targets=("pager",))
    office.turn()
    assert office.records.all() == []
    assert caplog.messages == ['a notice is not delivered, because there is no [notice "pager"] any more']


def test_what_cannot_be_read(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    """It is forgotten, and the others are delivered."""
    office.keep(make_notice("id-1"), make_notice("id-2", cause="another"))
    office.database.write(
        lambda transaction: transaction.execute("UPDATE notices SET notice = '[]' WHERE id = 'id-1'").rowcount
    ).result(20)
    office.turn()
    assert [each.id for each in office.mail.got] == ["id-2"]
    assert office.records.all() == []
    assert caplog.messages[0].startswith("a notice is lost, which cannot be read")
