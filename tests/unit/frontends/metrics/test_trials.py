"""Whether storages can be written and the CA answers, as it is tried in the background."""

from __future__ import annotations

import concurrent.futures
import datetime
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.monitoring import TEXT, Stand
from tests.peers import wait_until

from acmems.events import IssuedEvent, NotIssuedEvent
from acmems.exceptions import (
    AcmeException,
    CAUnavailable,
    ChallengeFailed,
    ClocksDiffer,
    FateUnknown,
    StateUnavailable,
    StorageUnavailable,
)
from acmems.frontends.metrics.trials import CA_SECONDS, PATIENCE_SECONDS, CATrials, StateTrials, StorageTrials
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.storages import FileStorage

NOW = datetime.datetime(2026, 11, 26, tzinfo=datetime.UTC)
CA = "https://acme-staging-v02.api.letsencrypt.org/directory"
KNOWN: dict[str, Any] = {
    "reference": "r",
    "client": "192.0.2.1",
    "directory": CA,
    "seconds": 1.0,
}
FULL = "storage 'disk' cannot be written"


def failing(monkeypatch: pytest.MonkeyPatch, check: Callable[[FileStorage], None]) -> None:
    monkeypatch.setattr(FileStorage, "check", check)


def turn(trials: StorageTrials) -> dict[str, str | None]:
    """Have every storage tried, wait for the outcome, and return what is lacking."""
    trials.turn()
    wait_until(lambda: all(trial.began is None for trial in trials._trials.values()), "the trials have ended")
    return dict(trials.failures())


class TestStorages:
    def test_before_the_first_trial(self, stand: Stand) -> None:
        """What the start has tried can be written until something else shows; `none` is not tried."""
        assert dict(StorageTrials(stand).failures()) == {"disk": None}

    def test_a_trial_leaves_nothing(self, stand: Stand) -> None:
        """A trial writes a file, and removes it."""
        trials = StorageTrials(stand)
        assert turn(trials) == {"disk": None}
        assert [path.name for path in (stand.folder / "disk").iterdir()] == ["identities"]

    def test_a_failure_is_told_once(
        self, stand: Stand, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The log tells when a storage begins to fail, and when it works again, however often it is tried."""
        caplog.set_level("INFO")
        trials = StorageTrials(stand)
        with monkeypatch.context() as patched:

            def check(_: FileStorage) -> None:
                raise StorageUnavailable("No space left on device (/srv/secret)")

            failing(patched, check)
            assert [turn(trials) for _ in range(3)] == [{"disk": FULL}] * 3
        assert [turn(trials) for _ in range(2)] == [{"disk": None}] * 2
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
            ("WARNING", "not ready: storage 'disk': No space left on device (/srv/secret)"),
            ("INFO", "storage 'disk' can be written again"),
        ]

    def test_a_bug(
        self, stand: Stand, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What nobody foresaw is a failure, too, and its traceback is in the log."""

        def check(_: FileStorage) -> None:
            raise ZeroDivisionError

        failing(monkeypatch, check)
        trials = StorageTrials(stand)
        assert turn(trials) == turn(trials) == {"disk": FULL}
        [record] = caplog.records
        assert record.exc_info is not None

    def test_a_disk_that_hangs(self, stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
        """A storage that does not answer is not tried again meanwhile, and lacking after some time."""
        go_on, calls = threading.Event(), []

        def check(_: FileStorage) -> None:
            calls.append(1)
            assert go_on.wait(30)

        failing(monkeypatch, check)
        trials = StorageTrials(stand)
        trials.turn()
        stand.moment.pass_by(seconds=PATIENCE_SECONDS)
        trials.turn()
        assert dict(trials.failures()) == {"disk": None}
        stand.moment.pass_by(seconds=1)
        assert dict(trials.failures()) == {"disk": "storage 'disk' has not answered for 31 seconds"}
        go_on.set()
        wait_until(lambda: dict(trials.failures()) == {"disk": None}, "it has answered")
        assert calls == [1]

    def test_other_storages_than_before(self, stand: Stand) -> None:
        """Where the configuration is replaced, those are tried that it has now."""
        trials = StorageTrials(stand)
        (stand.folder / "other").mkdir()
        stand.config = stand.configured(TEXT.replace("disk", "other"))
        assert turn(trials) == {"other": None}


class TestState:
    @pytest.fixture
    def state(self, stand: Stand, tmp_path: Path) -> Iterator[SqliteDatabase]:
        opened = SqliteDatabase.open(tmp_path / "state.sqlite")
        stand.state = opened
        yield opened
        opened.close()

    def test_none(self, stand: Stand) -> None:
        """Where another server has the state, nothing is lacking."""
        trials = StateTrials(stand)
        trials.turn()
        assert trials.failure is None

    def test_one_that_cannot_be_written(
        self,
        stand: Stand,
        state: SqliteDatabase,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """It is told once, without its reason to strangers, and is well again by itself."""
        caplog.set_level(logging.INFO)
        trials = StateTrials(stand)

        def turn() -> str | None:
            trials.turn()
            assert trials._trial is not None
            concurrent.futures.wait([trials._trial], 20)
            return trials.failure

        def fail(_: object) -> list[object]:
            raise StateUnavailable("disk full: /var/lib/secret")

        assert turn() is None
        with monkeypatch.context() as patch:
            patch.setattr(state._commits, "_transact", fail)
            assert [turn(), turn()] == ["the state cannot be written: nothing is ordered"] * 2
        assert turn() is None
        assert caplog.messages[-2:] == [
            "nothing is ordered until this is mended: disk full: /var/lib/secret",
            "the state can be written again",
        ]

    def test_one_that_hangs(self, stand: Stand, state: SqliteDatabase) -> None:
        """One that does not answer for long is not ready, and is not asked again meanwhile."""
        go = threading.Event()
        state.write(lambda _: go.wait(20))
        trials = StateTrials(stand)
        trials.turn()
        first = trials._trial
        assert trials.failure is None
        stand.moment.pass_by(seconds=PATIENCE_SECONDS + 1)
        assert trials.failure == "the state has not answered for 31 seconds: nothing is ordered"
        trials.turn()
        assert trials._trial is first
        go.set()
        assert first is not None
        first.result(20)
        assert trials.failure is None


class TestCA:
    def test_one_that_answers(self, stand: Stand) -> None:
        """It is asked every five minutes."""
        trials = CATrials(stand)
        before = trials.answers
        for _ in range(3):
            trials.turn()
            stand.moment.pass_by(seconds=CA_SECONDS / 2)
        assert (before, trials.answers, stand.stub.probes) == ({}, {CA: True}, 2)

    def test_one_that_does_not(self, stand: Stand) -> None:
        """It is asked at each turn, until it answers."""
        trials = CATrials(stand)
        stand.stub.answers = False
        for _ in range(3):
            trials.turn()
        assert (trials.answers, stand.stub.probes) == ({CA: False}, 3)
        stand.stub.answers = True
        for _ in range(3):
            trials.turn()
        assert (trials.answers, stand.stub.probes) == ({CA: True}, 4)

    @pytest.mark.parametrize(
        ("error", "probes"),
        [
            (CAUnavailable("down"), 2),
            (FateUnknown("lost"), 2),
            (ClocksDiffer(NOW, NOW), 1),
            (ChallengeFailed("a.example.org", "no route", ""), 1),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_an_order_that_failed(self, stand: Stand, error: AcmeException, probes: int) -> None:
        """An order that could not reach the CA has it asked with the next turn; others tell nothing of it."""
        trials = CATrials(stand)
        trials.turn()
        trials.hear(NotIssuedEvent(error=error, **KNOWN))
        trials.turn()
        assert stand.stub.probes == probes

    def test_an_order_that_was_successful(self, stand: Stand) -> None:
        """A certificate shows that the CA is there."""
        trials = CATrials(stand)
        stand.stub.answers = False
        trials.turn()
        trials.hear(IssuedEvent(not_after=NOW, **KNOWN))
        assert trials.answers
