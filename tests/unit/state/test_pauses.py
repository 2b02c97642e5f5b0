"""Pauses that a restart does not end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.sharing import count

from acmems.exceptions import AcmeException, RateLimited
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.state.limits.pauses import PauseRecord, PauseRecords


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    opened = SqliteDatabase.open(tmp_path / "state.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def pauses(database: SqliteDatabase) -> PauseRecords:
    return PauseRecords(database)


def put(pauses: PauseRecords, subject: str, left: float = 30.0) -> None:
    pauses.put(PauseRecord(subject, RateLimited(subject, retry_after=7), 2, 60.0, left))


def settle(database: SqliteDatabase) -> None:
    database.write(lambda _: None).result(20)


def find(database: SqliteDatabase, pauses: PauseRecords, *subjects: str) -> list[str]:
    return sorted(
        each.subject for each in database.read(lambda transaction: pauses.find(transaction, subjects))
    )


def test_a_pause(database: SqliteDatabase, pauses: PauseRecords) -> None:
    """All of it is found again; the time that is left passes by the clock of the database."""
    put(pauses, "name:a")
    settle(database)
    (found,) = pauses.load()
    assert (found.subject, found.failures, found.length) == ("name:a", 2, 60.0)
    assert (type(found.error), str(found.error), vars(found.error)["retry_after"]) == (
        RateLimited,
        "name:a",
        7,
    )
    assert 0 < found.left <= 30
    database.write(
        lambda transaction: transaction.execute("UPDATE pauses SET until = until - 20").rowcount
    ).result()
    assert pauses.load()[0].left <= 10


def test_a_clock_that_was_ahead(database: SqliteDatabase, pauses: PauseRecords) -> None:
    """No more is left of a pause than it is long."""
    put(pauses, "name:a", 365 * 86_400)
    settle(database)
    assert pauses.load()[0].left == 60
    assert database.read(lambda transaction: pauses.find(transaction, ["name:a"]))[0].left == 60


def test_a_longer_pause(database: SqliteDatabase, pauses: PauseRecords) -> None:
    """It takes the place of the one before it."""
    for left in (30.0, 60.0):
        put(pauses, "name:a", left)
    settle(database)
    (found,) = pauses.load()
    assert found.left > 30


def test_it_is_not_urgent(database: SqliteDatabase, pauses: PauseRecords) -> None:
    """Where nobody shares the state, it is written with the next change."""
    put(pauses, "name:a")
    database.read(lambda _: None)
    assert count(database, "pauses") == 0
    settle(database)
    assert count(database, "pauses") == 1


def test_what_has_worked(database: SqliteDatabase, pauses: PauseRecords) -> None:
    """Its failures are forgotten, and no others."""
    for subject in ("name:a", "name:b", "name:c"):
        put(pauses, subject)
    pauses.remove(["name:a", "name:c", "name:d"])
    settle(database)
    assert [each.subject for each in pauses.load()] == ["name:b"]


def test_what_is_over(database: SqliteDatabase, pauses: PauseRecords) -> None:
    """It counts for an hour, so that the next pause is longer; then it is removed."""
    put(pauses, "name:a", -3000)
    put(pauses, "name:b", -3700)
    settle(database)
    assert [each.subject for each in pauses.load()] == ["name:a"]
    assert find(database, pauses, "name:a", "name:b") == ["name:a"]
    pauses.clean()
    settle(database)
    assert count(database, "pauses") == 1


def test_very_many(database: SqliteDatabase, pauses: PauseRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that end last are loaded, the first to end first; any number can be asked for."""
    monkeypatch.setattr("acmems.state.limits.pauses._MOST", 3)
    monkeypatch.setattr("acmems.state.limits.pauses._AT_ONCE", 2)
    for number in (4, 2, 1, 5, 3):
        put(pauses, f"name:{number}", 100.0 * number)
    settle(database)
    assert [each.subject for each in pauses.load()] == ["name:3", "name:4", "name:5"]
    wanted = [f"name:{number}" for number in range(2, 8)]
    assert find(database, pauses, *wanted) == wanted[:4]
    assert find(database, pauses) == []


def test_a_bug_is_no_reason_to_fail(database: SqliteDatabase, pauses: PauseRecords) -> None:
    """An error without words is kept as it is."""
    pauses.put(PauseRecord("everything:", AcmeException(), 1, 1.0, 1.0))
    settle(database)
    assert str(pauses.load()[0].error) == ""
