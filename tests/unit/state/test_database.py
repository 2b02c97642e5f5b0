"""The file that keeps what must survive: for one server, migrated, written to in shared transactions."""

from __future__ import annotations

import functools
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
from acmems.state import database
from acmems.state.database import Database, StateInUse, file_system
from acmems.state.migrations import MIGRATIONS

COUNT = "SELECT count(*) FROM orders"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


@pytest.fixture
def state(path: Path) -> Iterator[Database]:
    opened = Database.open(path)
    yield opened
    opened.close()


def insert(connection: sqlite3.Connection, identity: str = "one") -> str:
    connection.execute("INSERT INTO orders (identity, csr, begun) VALUES (?, x'00', 0)", (identity,))
    return identity


def count(state: Database) -> int:
    found: int = state.write(lambda connection: connection.execute(COUNT).fetchone()[0]).result(20)
    return found


class TestOpen:
    """A file is made, migrated, or refused with words."""

    def test_a_new_file(self, path: Path, state: Database) -> None:
        """It has the tables of the last revision, and is its owner's alone."""
        assert count(state) == 0
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file

    def test_the_same_again(self, path: Path) -> None:
        """What was written is there when the file is opened again."""
        for identity in ("one", "two"):
            opened = Database.open(path)
            opened.write(functools.partial(insert, identity=identity)).result()
            opened.close()
        opened = Database.open(path)
        assert count(opened) == 2
        opened.close()

    def test_another_server(self, path: Path, state: Database) -> None:
        """A file that a server uses is left alone until that ends."""
        with pytest.raises(StateInUse):
            Database.open(path)
        state.write(insert).result()

    def test_a_newer_file(self, path: Path) -> None:
        """A file with a revision that this version does not know is not touched."""
        with sqlite3.connect(path) as connection:
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
        before = path.read_bytes()
        with pytest.raises(StateUnavailable, match="newer version of acmems"):
            Database.open(path)
        assert path.read_bytes() == before

    @pytest.mark.parametrize("content", [b"no database" * 100, b"SQLite format 3\0" + b"\xff" * 4000])
    def test_a_damaged_file(self, path: Path, content: bytes) -> None:
        """A file that is none is refused, and the text says what to do."""
        path.write_bytes(content)
        with pytest.raises(StateUnavailable, match=r"state.sqlite cannot be used as the state: .*Restore it"):
            Database.open(path)
        with pytest.raises(StateUnavailable):  # and the lock was let go
            Database.open(path)

    def test_a_directory_that_is_not_there(self, path: Path) -> None:
        """The system's reason is told, with the name."""
        with pytest.raises(StateUnavailable, match=r"nowhere.*: No such file or directory"):
            Database.open(path.parent / "nowhere" / "state.sqlite")

    def test_a_network_file_system(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """SQLite's locks do not hold there."""
        monkeypatch.setattr(database, "file_system", lambda _: "nfs4")
        with pytest.raises(StateUnavailable, match=r"network file system \(nfs4\)"):
            Database.open(path)
        assert not path.exists()

    def test_the_type_of_a_file_system(self) -> None:
        """The mount that is nearest to the file says it."""
        assert file_system(Path("/proc/self/state.sqlite")) == "proc"
        assert file_system(Path("/state.sqlite")) not in {"", "proc"}

    def test_a_migration_that_fails(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A step that does not work leaves the file at the revision before."""
        Database.open(path).close()
        monkeypatch.setattr(
            database, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE more (x)", "CREATE TABLE more (y)")
        )
        with pytest.raises(StateUnavailable, match="table more already exists"):
            Database.open(path)
        with sqlite3.connect(path) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)


class TestWrite:
    """A future is done when a change is durable."""

    def test_changes_share_transactions(self, state: Database) -> None:
        """What comes while a transaction is being committed goes into the next one, all of it."""
        entered, go = threading.Event(), threading.Event()

        def hold(_: sqlite3.Connection) -> None:
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

    def test_a_change_that_fails_spoils_no_other(self, state: Database) -> None:
        """Of a batch only the change that cannot be made fails."""
        entered, go = threading.Event(), threading.Event()

        def hold(_: sqlite3.Connection) -> None:
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
        opened = Database.open(path)
        written = opened.write(insert)
        opened.close()
        assert written.result() == "one"
        with pytest.raises(StateUnavailable, match="stopping"):
            opened.write(insert).result(20)

    def test_a_disk_that_is_full(self, path: Path) -> None:
        """A change that finds no place fails alone, and the next works once there is place."""
        opened = Database.open(path)
        try:
            limit = "PRAGMA max_page_count = {}"
            opened._connection.execute(limit.format(10))
            big = opened.write(functools.partial(insert, identity="x" * 1_000_000))
            with pytest.raises(StateUnavailable, match="full"):
                big.result(20)
            opened._connection.execute(limit.format(1_000_000))
            assert opened.write(insert).result(20) == "one"
        finally:
            opened.close()

    def test_a_kill(self, path: Path) -> None:
        """What a future has said is written is there after kill -9."""
        code = (
            "import os, signal, sys\n"
            "from pathlib import Path\n"
            "from acmems.state.database import Database\n"
            "state = Database.open(Path(sys.argv[1]))\n"
            "insert = \"INSERT INTO orders (identity, csr, begun) VALUES ('one', x'00', 0)\"\n"
            "state.write(lambda connection: connection.execute(insert) and None).result()\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        ended = subprocess.run([sys.executable, "-c", code, str(path)], env=dict(os.environ), check=False)
        assert ended.returncode == -9
        opened = Database.open(path)
        assert count(opened) == 1
        opened.close()
