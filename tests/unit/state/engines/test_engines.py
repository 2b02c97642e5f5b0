"""What every database does alike."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from acmems.exceptions import StateUnavailable
from acmems.state.engines.contract import Change, Database, Transaction
from acmems.state.engines.postgresql import PostgresDatabase
from acmems.state.engines.sqlite import SqliteDatabase

INSERT = "INSERT INTO orders (identity, csr, begun) VALUES (?, ?, ?)"


def insert(transaction: Transaction, identity: str = "one") -> str:
    transaction.execute(INSERT, (identity, b"csr", 0))
    return identity


def found(database: Database, query: str, *row: str | int | bytes | None) -> list[Any]:
    return database.read(lambda transaction: transaction.execute(query, row).fetchall())


def identities(database: Database) -> list[str]:
    return [identity for (identity,) in found(database, "SELECT identity FROM orders ORDER BY begun")]


@contextmanager
def held(database: Database) -> Iterator[None]:
    """Have the writer do nothing, so that what is written within waits for one transaction."""
    entered, go = threading.Event(), threading.Event()

    def hold(_: Transaction) -> None:
        entered.set()
        assert go.wait(20)

    database.write(hold)
    assert entered.wait(20)
    try:
        yield
    finally:
        go.set()


class TestValues:
    """Values come back as they were written, and statements mean the same."""

    @pytest.mark.parametrize(
        ("text", "octets", "number"),
        [("", b"", 0), ("é %s ? '", bytes(range(256)), 2**62), ("x" * 100_000, b"\0" * 100_000, -1)],
        ids=["empty", "strange", "large"],
    )
    def test_values(self, database: Database, text: str, octets: bytes, number: int) -> None:
        """Texts, octets and numbers are kept unchanged, and so is nothing."""
        row = (text, octets, number)
        database.write(lambda transaction: transaction.execute(INSERT, row).rowcount).result(20)
        assert found(database, "SELECT identity, csr, begun, block FROM orders") == [(*row, None)]
        assert found(database, "SELECT begun FROM orders WHERE identity = ?", text) == [(number,)]
        assert found(database, "SELECT sum(begun), count(*), max(block) FROM orders") == [(number, 1, None)]

    def test_signs_in_quotes(self, database: Database) -> None:
        """A mark in a text is no placeholder."""
        assert found(database, "SELECT '50% of ''?''', CAST(? AS TEXT) || '%'", "x") == [("50% of '?'", "x%")]

    def test_what_a_change_has_found(self, database: Database) -> None:
        """A change can go by what its statements have done so far."""

        def change(transaction: Transaction) -> list[object]:
            transaction.executemany(INSERT, [("one", b"", 1), ("two", b"", 2)])
            changed = transaction.execute("UPDATE orders SET begun = begun + 1").rowcount
            returned = transaction.execute("DELETE FROM orders WHERE begun = 2 RETURNING identity").fetchone()
            gone = transaction.execute("DELETE FROM orders WHERE begun = 2").rowcount
            left = [identity for (identity,) in transaction.execute("SELECT identity FROM orders")]
            return [changed, returned, gone, left]

        assert database.write(change).result(20) == [2, ("one",), 0, ["two"]]
        assert identities(database) == ["two"]

    def test_the_clock(self, database: Database) -> None:
        """The database tells the time."""
        [(now,)] = found(database, "SELECT acmems_now()")
        assert isinstance(now, int)
        assert abs(now - time.time()) < 3600


class TestWrite:
    """A future is done when a change is durable."""

    def test_changes_share_transactions(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        """What comes while a transaction is being committed goes into the next one, all of it."""
        assert isinstance(database, SqliteDatabase | PostgresDatabase)
        batches: list[int] = []
        transact = database._commits._transact

        def count(changes: Any) -> list[Any]:
            batches.append(len(changes))
            return transact(changes)

        monkeypatch.setattr(database._commits, "_transact", count)
        with held(database):
            others = [database.write(functools.partial(insert, identity=str(each))) for each in range(50)]
        assert [each.result(20) for each in others] == [str(each) for each in range(50)]
        assert batches == [1, 50]

    def test_a_change_that_fails_spoils_no_other(self, database: Database) -> None:
        """Of a batch only the change that cannot be made fails, and it does not tell which values it had."""
        with held(database):
            good, again, bug, last = (
                database.write(insert),
                database.write(insert),
                database.write(lambda _: 1 // 0),
                database.write(functools.partial(insert, identity="two")),
            )
        assert good.result(20) == "one"
        with pytest.raises(StateUnavailable, match=r"cannot be written.*(?i:unique constraint)") as caught:
            again.result(20)
        assert "=(one)" not in str(caught.value)
        with pytest.raises(ZeroDivisionError):
            bug.result(20)
        assert last.result(20) == "two"
        assert sorted(identities(database)) == ["one", "two"]

    def test_half_a_change(self, database: Database) -> None:
        """A change that fails leaves nothing, whatever it has done before."""

        def change(transaction: Transaction) -> None:
            insert(transaction, "half")
            insert(transaction, "half")

        with pytest.raises(StateUnavailable):
            database.write(change).result(20)
        assert identities(database) == []

    def test_a_change_that_is_not_urgent(self, database: Database) -> None:
        """It waits for another one, or until somebody asks for it."""
        for urgently in (database.flush, lambda: database.write(lambda _: None)):
            waiting = database.write(functools.partial(insert, identity=str(urgently)), soon=False)
            assert not waiting.done()
            urgently()
            assert waiting.result(20) == str(urgently)

    def test_whether_it_can_be_written(
        self, database: Database, unwritable: Callable[[], AbstractContextManager[None]]
    ) -> None:
        """It says why the last change could not be made, until one can."""
        assert database.failure is None
        with unwritable(), pytest.raises(StateUnavailable, match="the disk is full"):
            database.check().result(20)
        assert str(database.failure) == "the disk is full"
        database.check().result(20)
        assert database.failure is None

    def test_after_the_end(self, database: Database) -> None:
        """What was queued is written, and what comes later is refused."""
        written = database.write(insert)
        database.close()
        assert written.result(20) == "one"
        with pytest.raises(StateUnavailable, match="stopping"):
            database.write(insert).result(20)


class TestRead:
    """Reading waits for nobody who writes."""

    def test_beside_a_change(self, database: Database) -> None:
        """What is not committed is not seen."""
        entered, go = threading.Event(), threading.Event()

        def change(transaction: Transaction) -> None:
            assert transaction.execute(INSERT, ("one", b"", 0)).rowcount == 1
            entered.set()
            assert go.wait(20)

        written = database.write(change)
        assert entered.wait(20)
        assert identities(database) == []
        go.set()
        written.result(20)
        assert identities(database) == ["one"]

    @pytest.mark.parametrize("statement", ["SELECT nothing", "INSERT INTO probes (id, at) VALUES (2, 0)"])
    def test_what_cannot_be_read(self, database: Database, statement: str) -> None:
        """A query that fails, or would change something, is told; others work after it."""
        query: Change[object] = lambda transaction: transaction.execute(statement).rowcount  # noqa: E731 - typed
        with pytest.raises(StateUnavailable, match="cannot be read"):
            database.read(query)
        assert identities(database) == []

    def test_from_many_threads(self, database: Database) -> None:
        """More threads than connections come by turns."""
        database.write(insert).result(20)
        seen: list[list[str]] = []
        threads = [threading.Thread(target=lambda: seen.append(identities(database))) for _ in range(20)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(20)
        assert seen == [["one"]] * 20
