"""What orders tell of the CA and the account is written down for all processes."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.monitoring import Moment
from tests.noticing import DIRECTORY, NOW
from tests.sharing import unwritable

from acmems.events import Event, IssuedEvent, NotIssuedEvent
from acmems.exceptions import (
    AccountError,
    AcmeException,
    CAProblem,
    CAUnavailable,
    ChallengeFailed,
    ClocksDiffer,
    FateUnknown,
    LimitReached,
    NeedToAgreeToTOS,
    PayloadInvalid,
    QueueFull,
    RateLimited,
    StateUnavailable,
    ValidatorUnavailable,
)
from acmems.notices.troubles.sightings import Sightings
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.state.notices.sightings import SightingRecords

ACCOUNT = "https://ca.example/account/1"
KNOWN: dict[str, Any] = {"reference": "r", "client": "c", "directory": DIRECTORY, "seconds": 1.0}
LIMIT = LimitReached("full", limit="l", subject="", used=1, most=1, retry_after=1.0)


class Process:
    """One of those that share a state."""

    def __init__(self, database: SqliteDatabase, moment: Moment) -> None:
        self.database = database
        self.records = SightingRecords(database)
        self.sightings = Sightings(self.records, moment.clock())

    def fail(self, error: Exception, account: str | None = ACCOUNT) -> None:
        self.hear(NotIssuedEvent(error=error, account=account, **KNOWN))

    def issue(self, account: str = ACCOUNT) -> None:
        self.hear(IssuedEvent(not_after=NOW, account=account, **KNOWN))

    def hear(self, event: Event) -> None:
        self.sightings(event)
        self.sightings.publish()

    @property
    def kinds(self) -> list[str]:
        return [each.kind for each in self.records.all()]


@pytest.fixture
def moment() -> Moment:
    return Moment(wall=NOW)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    opened = SqliteDatabase.open(tmp_path / "state.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def process(database: SqliteDatabase, moment: Moment) -> Process:
    return Process(database, moment)


@pytest.mark.parametrize(
    ("error", "kinds"),
    [
        (CAUnavailable("away"), ["ca"]),
        (FateUnknown("lost"), ["ca"]),
        (ClocksDiffer(NOW, NOW), ["clock"]),
        (AccountError("gone"), ["account"]),
        (NeedToAgreeToTOS("https://ca.example/terms"), ["account"]),
        (RateLimited("slow down"), []),
        (LIMIT, []),
        (ValidatorUnavailable("no DNS"), []),
        (PayloadInvalid("no CSR"), []),
        (RuntimeError("a bug"), []),
    ],
)
def test_what_failures_tell(process: Process, error: Exception, kinds: list[str]) -> None:
    """Of the CA, its clock, and the account."""
    process.fail(error)
    assert process.kinds == kinds


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (None, []),
        (ChallengeFailed("a", "no", "u"), []),
        (CAProblem(403, "t", "no"), ["account"]),
        (RateLimited("slow down"), ["account"]),
        (ClocksDiffer(NOW, NOW), ["account", "clock"]),
        (QueueFull("full"), ["account", "ca", "clock"]),
        (LIMIT, ["account", "ca", "clock"]),
        (ValidatorUnavailable("no DNS"), ["account", "ca", "clock"]),
    ],
)
def test_what_works_again(process: Process, error: AcmeException | None, left: list[str]) -> None:
    """What only the CA can have said ends what was said of it; only an order that it takes ends more."""
    for each in (ClocksDiffer(NOW, NOW), CAUnavailable("away"), AccountError("gone")):
        process.fail(each)
    if error is None:
        process.issue()
    else:
        process.fail(error)
    assert process.kinds == left


def test_when_it_began(process: Process, moment: Moment) -> None:
    """It is remembered over processes, with the reason that was seen last."""
    process.fail(CAUnavailable("away"))
    moment.pass_by(hours=3)
    Process(process.database, moment).fail(CAUnavailable("still away"))
    (seen,) = process.records.all()
    assert (seen.began, seen.seen) == (NOW, NOW + datetime.timedelta(hours=3))
    assert seen.reason == "still away"


def test_seen_by_one_and_ended_by_another(process: Process, moment: Moment) -> None:
    """A process that has seen nothing of it."""
    process.fail(CAUnavailable("away"))
    Process(process.database, moment).issue()
    assert process.kinds == []


def test_a_state_that_cannot_be_written(process: Process) -> None:
    """What was seen is kept until it can."""
    with unwritable(process.database), pytest.raises(StateUnavailable):
        process.fail(CAUnavailable("away"))
    assert process.kinds == []
    process.sightings.publish()
    assert process.kinds == ["ca"]


class TestAccount:
    def test_one_of_two_at_the_same_ca(self, process: Process) -> None:
        """That the other one works says nothing of it."""
        process.fail(AccountError("gone"))
        process.issue("https://ca.example/account/2")
        assert process.kinds == ["account"]
        process.issue()
        assert process.kinds == []

    def test_one_whose_url_was_not_known(self, process: Process) -> None:
        """It is by now."""
        process.fail(AccountError("gone"), None)
        process.issue()
        assert process.kinds == []

    def test_refused_for_orders(self, process: Process) -> None:
        """That the CA knows the account says nothing: it may want new terms of service to be accepted."""
        process.fail(NeedToAgreeToTOS("https://ca.example/terms"))
        process.sightings.note_account(DIRECTORY, ACCOUNT)
        process.sightings.publish()
        assert process.kinds == ["account"]

    def test_not_known(self, process: Process) -> None:
        """It is over when it is known."""
        process.sightings.fails(DIRECTORY, None, AccountError("gone"))
        process.sightings.publish()
        assert process.kinds == ["account"]
        process.sightings.note_account(DIRECTORY, ACCOUNT)
        process.sightings.publish()
        assert process.kinds == []

    def test_after_a_restart_or_a_reload(self, process: Process, moment: Moment) -> None:
        """What was refused before that is over if the account is known; what is refused after it is not."""
        process.fail(AccountError("gone"))
        moment.pass_by(minutes=1)
        later = Process(process.database, moment)
        for is_anew in (False, True):
            if is_anew:
                later.fail(AccountError("gone"))
                moment.pass_by(minutes=1)
                later.sightings.begin_anew()
            later.sightings.forget_former(later.records.all(), DIRECTORY, ACCOUNT)
            later.sightings.publish()
            assert later.kinds == []
        later.fail(AccountError("gone"))
        later.sightings.forget_former(later.records.all(), DIRECTORY, ACCOUNT)
        later.sightings.publish()
        assert later.kinds == ["account"]
