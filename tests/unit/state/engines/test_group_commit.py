"""What is known of a state by the changes that were made, and by those that were not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from acmems.exceptions import StateUnavailable
from acmems.state.engines.contract import Change
from acmems.state.engines.group_commit import GroupCommit


class Engine:
    """In the place of an engine: makes no change, fails or waits as told, and counts."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.error: Exception | None = None
        self.go = threading.Event()
        self.go.set()
        self.entered = threading.Event()
        self.changes = 0
        self.commits = GroupCommit(self._transact, lambda: self.now)

    def _transact(self, changes: Sequence[Change[Any]]) -> list[Any]:
        self.entered.set()
        assert self.go.wait(20)
        if self.error is not None:
            raise self.error
        self.changes += len(changes)
        return [None] * len(changes)

    def write(self) -> None:
        self.commits.write(lambda _: None).result(20)


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine()
    yield made
    made.go.set()
    made.commits.close()


def test_a_check_is_spared_after_a_change(engine: Engine) -> None:
    """What was written this moment has shown it; later it is tried."""
    engine.commits.check().result(20)
    assert engine.changes == 1
    engine.commits.check().result(20)
    assert engine.changes == 1
    engine.now += 1
    engine.write()
    engine.commits.check().result(20)
    assert engine.changes == 2
    engine.now += 1
    engine.commits.check().result(20)
    assert engine.changes == 3


def test_one_check_for_all_who_ask_at_once(engine: Engine) -> None:
    """Hundreds of orders that begin together write one row."""
    engine.go.clear()
    checks = [engine.commits.check() for _ in range(300)]
    engine.go.set()
    for check in checks:
        check.result(20)
    assert engine.changes == 1


def test_a_failure_is_told_once_until_it_ends(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """The log has a line when it begins and one when it is over; each check tries anew meanwhile."""
    caplog.set_level(logging.INFO)
    engine.write()
    assert engine.commits.failure is None
    engine.error = StateUnavailable("the state cannot be written: full")
    for _ in range(100):
        with pytest.raises(StateUnavailable):
            engine.write()
        with pytest.raises(StateUnavailable):
            engine.commits.check().result(20)
    assert engine.commits.failure is engine.error
    engine.error = None
    engine.commits.check().result(20)
    assert engine.commits.failure is None
    engine.write()
    assert [(each.levelname, each.message) for each in caplog.records] == [
        ("ERROR", "nothing is ordered until this is mended: the state cannot be written: full"),
        ("INFO", "the state can be written again"),
    ]


def test_a_change_that_is_at_fault_itself(engine: Engine) -> None:
    """It says nothing about the state."""
    engine.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        engine.write()
    assert engine.commits.failure is None
