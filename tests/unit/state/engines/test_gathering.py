"""Changes of one kind that come together: made at once, and each with its own outcome."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.sharing import unwritable

from acmems.exceptions import StateUnavailable
from acmems.state.engines import gathering
from acmems.state.engines.contract import Transaction
from acmems.state.engines.gathering import GatheredChanges
from acmems.state.engines.sqlite import SqliteDatabase


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    opened = SqliteDatabase.open(tmp_path / "state.sqlite")
    yield opened
    opened.close()


class Doubling:
    """Doubles numbers, and keeps which were doubled together."""

    def __init__(self, database: SqliteDatabase) -> None:
        self.database = database
        self.calls: list[list[int]] = []
        self.refused: set[int] = set()
        self.changes = GatheredChanges(database, self.double)

    def double(self, _: Transaction, numbers: Sequence[int]) -> list[int]:
        self.calls.append(list(numbers))
        if self.refused.intersection(numbers):
            raise ValueError("refused")
        return [2 * each for each in numbers]

    def hold(self) -> threading.Event:
        """Let the database wait until the event is set."""
        entered, go = threading.Event(), threading.Event()

        def wait(_: Transaction) -> None:
            entered.set()
            assert go.wait(20)

        self.database.write(wait)
        assert entered.wait(20)
        return go


@pytest.fixture
def doubling(database: SqliteDatabase) -> Doubling:
    return Doubling(database)


def test_one_that_comes_alone(doubling: Doubling) -> None:
    """It waits for nobody."""
    assert [doubling.changes.write(number).result(20) for number in (1, 2)] == [2, 4]
    assert doubling.calls == [[1], [2]]


def test_those_that_come_while_others_are_written(doubling: Doubling) -> None:
    """They are made by one call, in their order."""
    go = doubling.hold()
    futures = [doubling.changes.write(number) for number in (3, 1, 2)]
    go.set()
    assert [each.result(20) for each in futures] == [6, 2, 4]
    assert doubling.calls == [[3, 1, 2]]


def test_one_that_has_time(doubling: Doubling) -> None:
    """It waits for another change, and one of the same kind that has no time does not wait with it."""
    later = doubling.changes.write(1, soon=False)
    doubling.database.read(lambda _: None)
    assert not later.done()
    assert doubling.changes.write(2).result(20) == 4
    assert later.result(20) == 2
    assert doubling.calls == [[1, 2]]


def test_very_many(doubling: Doubling, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement takes only so many values; the others come next."""
    monkeypatch.setattr(gathering, "_MOST", 2)
    go = doubling.hold()
    futures = [doubling.changes.write(number) for number in range(5)]
    go.set()
    assert [each.result(20) for each in futures] == [0, 2, 4, 6, 8]
    assert doubling.calls == [[0, 1], [2, 3], [4]]


def test_one_that_cannot_be_made(doubling: Doubling) -> None:
    """The others are made all the same."""
    doubling.refused.add(2)
    go = doubling.hold()
    futures = [doubling.changes.write(number) for number in (1, 2, 3)]
    go.set()
    assert [futures[0].result(20), futures[2].result(20)] == [2, 6]
    with pytest.raises(ValueError, match="refused"):
        futures[1].result(20)


def test_a_second_try_of_a_transaction(doubling: Doubling) -> None:
    """Another change of it has failed: those that were made together are made again, and no others."""
    go = doubling.hold()
    futures = [doubling.changes.write(number) for number in (1, 2)]

    def fail(transaction: Transaction) -> None:
        if len(futures) == 2:
            futures.append(doubling.changes.write(3))
        transaction.execute("nonsense")

    failing = doubling.database.write(fail)
    go.set()
    assert failing.exception(20) is not None
    assert [each.result(20) for each in futures] == [2, 4, 6]
    assert doubling.calls == [[1, 2], [1, 2], [3]]


def test_a_database_that_cannot_be_written(doubling: Doubling) -> None:
    """All hear of it, and later ones are made."""
    with unwritable(doubling.database):
        futures = [doubling.changes.write(number) for number in (1, 2)]
        for each in futures:
            with pytest.raises(StateUnavailable, match="the disk is full"):
                each.result(20)
    assert doubling.changes.write(3).result(20) == 6


def test_a_database_that_is_closed(doubling: Doubling) -> None:
    """Nobody waits for ever."""
    doubling.database.close()
    with pytest.raises(StateUnavailable, match="closed"):
        doubling.changes.write(1).result(20)


def test_alone(doubling: Doubling) -> None:
    """It comes after all that was to be written before it."""
    go = doubling.hold()
    first = doubling.changes.write(1)
    alone = doubling.changes.write_alone(2)
    go.set()
    assert (first.result(20), alone.result(20)) == (2, 4)
    assert doubling.calls == [[1], [2]]
