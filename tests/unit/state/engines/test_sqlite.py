"""The file that keeps what must survive: for one server, migrated, written to in shared transactions."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from acmems.exceptions import StateUnavailable
from acmems.state.engines import migrations, places, sqlite
from acmems.state.engines.contract import Transaction
from acmems.state.engines.migrations import MIGRATIONS
from acmems.state.engines.places import file_system
from acmems.state.engines.sqlite import SqliteDatabase, StateInUse, take_lock

COUNT = "SELECT count(*) FROM orders"
EPOCH = "SELECT epoch FROM orders"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


@pytest.fixture
def state(path: Path) -> Iterator[SqliteDatabase]:
    opened = SqliteDatabase.open(path)
    yield opened
    opened.close()


def insert(transaction: Transaction, identity: str = "one") -> str:
    transaction.execute("INSERT INTO orders (identity, csr, begun) VALUES (?, ?, 0)", (identity, b"csr"))
    return identity


def count(state: SqliteDatabase) -> int:
    found: int = state.write(lambda connection: connection.execute(COUNT).fetchone()[0]).result(20)
    return found


class TestOpen:
    """A file is made, migrated, or refused with words."""

    def test_a_new_file(self, path: Path, state: SqliteDatabase) -> None:
        """It has the tables of the last revision, and is its owner's alone."""
        assert count(state) == 0
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file

    def test_the_same_again(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """What was written is there when the file is opened again; the log tells of the first time."""
        caplog.set_level(logging.INFO)
        for identity in ("one", "two"):
            opened = SqliteDatabase.open(path)
            opened.write(functools.partial(insert, identity=identity)).result()
            opened.close()
        opened = SqliteDatabase.open(path)
        assert count(opened) == 2
        opened.close()
        assert caplog.messages == [f"the state {path} has been made (revision {len(MIGRATIONS)})"]

    def test_another_server(self, path: Path, state: SqliteDatabase) -> None:
        """A file that a server uses is left alone until that ends."""
        with pytest.raises(StateInUse):
            SqliteDatabase.open(path)
        state.write(insert).result()

    def test_a_newer_file(self, path: Path) -> None:
        """A file with a revision that this version does not know is not touched."""
        with sqlite3.connect(path) as connection:
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
        path.chmod(0o600)
        before = path.read_bytes()
        with pytest.raises(StateUnavailable, match="newer version of acmems"):
            SqliteDatabase.open(path)
        assert path.read_bytes() == before

    def test_a_directory_that_is_not_there(self, path: Path) -> None:
        """The system's reason is told, with the name."""
        with pytest.raises(StateUnavailable, match=r"nowhere.*: No such file or directory"):
            SqliteDatabase.open(path.parent / "nowhere" / "state.sqlite")

    def test_a_network_file_system(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """SQLite's locks do not hold there."""
        monkeypatch.setattr(places, "file_system", lambda _: "nfs4")
        with pytest.raises(StateUnavailable, match=r"network file system \(nfs4\)"):
            SqliteDatabase.open(path)
        assert not path.exists()

    def test_the_type_of_a_file_system(self) -> None:
        """The mount that is nearest to the file says it."""
        assert file_system(Path("/proc/self/state.sqlite")) == "proc"
        assert file_system(Path("/state.sqlite")) not in {"", "proc"}

    def test_a_migration_that_fails(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Where a step does not work, the file stays as it was, and nothing else is told."""
        SqliteDatabase.open(path).close()
        caplog.set_level(logging.INFO)
        monkeypatch.setattr(
            migrations, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE more (x)", "CREATE TABLE more (y)")
        )
        with pytest.raises(StateUnavailable, match="table more already exists"):
            SqliteDatabase.open(path)
        with sqlite3.connect(path) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert caplog.messages == []

    def test_the_file_of_an_earlier_version(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """The orders of revision 1 are there after the tables of later ones were added, as the log says."""
        caplog.set_level(logging.INFO)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            (_, statements), *_ = migrations.steps(0, migrations.Dialect("BLOB"))
            for statement in statements:
                connection.execute(statement)
            connection.execute("PRAGMA user_version = 1")
            insert(connection)
            connection.commit()
        path.chmod(0o600)
        opened = SqliteDatabase.open(path)
        assert count(opened) == 1
        assert opened.read(lambda transaction: transaction.execute(EPOCH).fetchall()) == [(0,)]
        opened.close()
        assert caplog.messages == [f"the state {path} has been brought from revision 1 to {len(MIGRATIONS)}"]


class TestBeside:
    """Beside a server, commands look at its file, and its own processes write to it."""

    def test_a_command(self, path: Path, state: SqliteDatabase) -> None:
        """It sees what is committed, cannot write, and hinders nobody."""
        state.write(insert).result(20)
        beside = SqliteDatabase.look(path)
        assert beside.read(lambda transaction: transaction.execute(COUNT).fetchone()) == (1,)
        with pytest.raises(StateUnavailable, match="only read here"):
            beside.write(insert).result(20)
        state.write(functools.partial(insert, identity="two")).result(20)
        assert beside.read(lambda transaction: transaction.execute(COUNT).fetchone()) == (2,)
        beside.close()
        state.write(functools.partial(insert, identity="three")).result(20)
        assert count(state) == 3

    def test_no_state_yet(self, path: Path) -> None:
        """A command that looks makes no file."""
        with pytest.raises(StateUnavailable, match="start the server once"):
            SqliteDatabase.look(path)
        assert not path.exists()

    def test_an_older_state(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A command that looks changes no table."""
        SqliteDatabase.open(path).close()
        monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE more (x)"))
        with pytest.raises(StateUnavailable, match="acmems state migrate"):
            SqliteDatabase.look(path)

    def test_processes(self, path: Path) -> None:
        """Those that share the lock write at the same time; another server does not."""
        lock = take_lock(path)
        try:
            both = [SqliteDatabase.open(path, lock=lock, is_shared=True) for _ in range(2)]
            written = [
                both[number % 2].write(functools.partial(insert, identity=str(number)))
                for number in range(100)
            ]
            assert all(each.result(60) for each in written)
            assert [count(each) for each in both] == [100, 100]
            with pytest.raises(StateInUse):
                SqliteDatabase.open(path)
            for each in both:
                each.close()
        finally:
            os.close(lock)
        SqliteDatabase.open(path).close()

    def test_processes_take_turns_in_writing(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """While one process writes, another one waits; one that waits for too long says so."""
        lock = take_lock(path)
        one, other = (SqliteDatabase.open(path, lock=lock, is_shared=True) for _ in range(2))
        entered, go = threading.Event(), threading.Event()

        def hold(_: Transaction) -> None:
            entered.set()
            assert go.wait(20)

        held = one.write(hold)
        assert entered.wait(20)
        monkeypatch.setattr(sqlite, "_BUSY_SECONDS", 0.01)
        with pytest.raises(StateUnavailable, match=r"writing: another process has been writing for 0\.01"):
            other.write(insert).result(20)
        monkeypatch.undo()
        waiting = other.write(insert)
        go.set()
        assert (held.result(20), waiting.result(20)) == (None, "one")
        for each in one, other:
            each.close()
        os.close(lock)


class TestWrite:
    """A future is done when a change is durable."""

    def test_changes_share_transactions(self, state: SqliteDatabase) -> None:
        """What comes while a transaction is being committed goes into the next one, all of it."""
        entered, go = threading.Event(), threading.Event()

        def hold(_: Transaction) -> None:
            entered.set()
            assert go.wait(20)

        state.write(hold)
        assert entered.wait(20)
        seen: list[str] = []
        state._connection.set_trace_callback(seen.append)
        others = [state.write(functools.partial(insert, identity=str(number))) for number in range(50)]
        go.set()
        assert [each.result(20) for each in others] == [str(number) for number in range(50)]
        assert seen.count("BEGIN IMMEDIATE") == 1

    def test_a_change_that_fails_spoils_no_other(self, state: SqliteDatabase) -> None:
        """Of a batch only the change that cannot be made fails."""
        entered, go = threading.Event(), threading.Event()

        def hold(_: Transaction) -> None:
            entered.set()
            assert go.wait(20)

        state.write(hold)
        assert entered.wait(20)
        good, again, bug, last = (
            state.write(insert),
            state.write(insert),
            state.write(lambda _: 1 // 0),
            state.write(functools.partial(insert, identity="two")),
        )
        go.set()
        assert good.result(20) == "one"
        with pytest.raises(StateUnavailable, match="UNIQUE constraint failed"):
            again.result(20)
        with pytest.raises(ZeroDivisionError):
            bug.result(20)
        assert last.result(20) == "two"
        assert count(state) == 2

    def test_after_the_end(self, path: Path) -> None:
        """What comes after the end is refused, and what was queued is written."""
        opened = SqliteDatabase.open(path)
        written = opened.write(insert)
        opened.close()
        assert written.result() == "one"
        with pytest.raises(StateUnavailable, match="stopping"):
            opened.write(insert).result(20)

    def test_a_disk_that_is_full(self, path: Path) -> None:
        """A change that finds no place fails alone, and the next works once there is place."""
        opened = SqliteDatabase.open(path)
        try:
            limit = "PRAGMA max_page_count = {}"
            pages = opened._connection.execute("PRAGMA page_count").fetchone()[0]
            opened._connection.execute(limit.format(pages + 1))
            big = opened.write(functools.partial(insert, identity="x" * 1_000_000))
            with pytest.raises(StateUnavailable, match="full"):
                big.result(20)
            assert opened.failure is not None
            opened._connection.execute(limit.format(1_000_000))
            assert opened.check().result(20) is None
            assert opened.failure is None
            assert opened.write(insert).result(20) == "one"
        finally:
            opened.close()

    def test_a_kill(self, path: Path) -> None:
        """What a future has said is written is there after kill -9."""
        code = (
            "import os, signal, sys\n"
            "from pathlib import Path\n"
            "from acmems.state.engines.sqlite import SqliteDatabase\n"
            "state = SqliteDatabase.open(Path(sys.argv[1]))\n"
            "insert = \"INSERT INTO orders (identity, csr, begun) VALUES ('one', 'csr', 0)\"\n"
            "state.write(lambda connection: connection.execute(insert) and None).result()\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        ended = subprocess.run([sys.executable, "-c", code, str(path)], env=dict(os.environ), check=False)
        assert ended.returncode == -9
        opened = SqliteDatabase.open(path)
        assert count(opened) == 1
        opened.close()
