"""Files that are damaged, foreign, or open to others: refused with words, or used where that is safe."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from acmems.exceptions import StateUnavailable
from acmems.state.engines.contract import Transaction
from acmems.state.engines.soundness import told
from acmems.state.engines.sqlite import SqliteDatabase

PAGE = 4096
INSERT = "INSERT INTO orders (identity, csr, begun) VALUES (?, ?, 0)"
WHAT_TO_DO = r"run 'acmems state check'.*restore the file from a backup, or move it away"


def insert(transaction: Transaction) -> None:
    transaction.execute(INSERT, ("one", b"csr"))


def insert_many(transaction: Transaction) -> None:
    transaction.executemany(INSERT, [(str(number), b"csr" * 1000) for number in range(300)])


def empty_chains(transaction: Transaction) -> None:
    transaction.execute("DELETE FROM chains")


def count(state: SqliteDatabase) -> int:
    found: int = state.read(
        lambda transaction: transaction.execute("SELECT count(*) FROM orders").fetchone()[0]
    )
    return found


@pytest.mark.parametrize(
    ("code", "free", "advice"),
    [
        (sqlite3.SQLITE_IOERR_SHMSIZE, 0, "make room on its disk"),
        (sqlite3.SQLITE_IOERR_SHMSIZE, 1000, "the log of the kernel says more"),
        (sqlite3.SQLITE_FULL, 1000, "make room on its disk"),
    ],
)
def test_a_disk_without_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, free: int, advice: str
) -> None:
    """SQLite speaks of an error of the disk where there is no room for its shared memory."""
    disk = os.statvfs_result((4096, 4096, 1000, free, free, 1000, 1000, 1000, 0, 255))
    monkeypatch.setattr("os.statvfs", lambda _: disk)
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    assert told(tmp_path / "state.sqlite", error).endswith(advice)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A state with a few hundred orders, closed."""
    path = tmp_path / "state.sqlite"
    state = SqliteDatabase.open(path)
    state.write(insert_many).result(20)
    state.close()
    return path


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def root_page(path: Path, table: str) -> int:
    """Return where a table begins in a file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    return PAGE * (int(page) - 1)


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def cut_to_a_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(100)


def zero_the_header(path: Path) -> None:
    overwrite(path, 0, bytes(100))


def write_garbage_in_the_middle(path: Path) -> None:
    overwrite(path, root_page(path, "orders"), b"\xa5" * PAGE)


def write_garbage_after_the_header(path: Path) -> None:
    overwrite(path, 100, b"\xa5" * PAGE)


def put_something_else_there(path: Path) -> None:
    path.write_bytes(b"no database\n" * 1000)


@pytest.mark.threat("disk", "a damaged state")
@pytest.mark.parametrize(
    "damage",
    [
        cut,
        cut_to_a_header,
        zero_the_header,
        write_garbage_in_the_middle,
        write_garbage_after_the_header,
        put_something_else_there,
    ],
)
def test_a_damaged_file(path: Path, damage: Callable[[Path], None]) -> None:
    """It is refused each time, left as it is, and the text says what to do."""
    damage(path)
    before = path.read_bytes()
    for _ in range(2):  # the lock was let go
        with pytest.raises(
            StateUnavailable, match=rf"^the state cannot be used: .*state.sqlite.*{WHAT_TO_DO}"
        ):
            SqliteDatabase.open(path)
    assert path.read_bytes() == before


@pytest.mark.threat("disk", "a damaged state")
def test_damage_in_a_large_table(path: Path) -> None:
    """It is not looked for at the start; whoever reads it is told, and the rest works."""
    overwrite(path, root_page(path, "chains"), b"\xa5" * PAGE)
    state = SqliteDatabase.open(path)
    with pytest.raises(StateUnavailable, match=rf"cannot be read: .*malformed.*{WHAT_TO_DO}"):
        state.read(lambda transaction: transaction.execute("SELECT * FROM chains").fetchall())
    with pytest.raises(StateUnavailable, match=rf"cannot be written: .*malformed.*{WHAT_TO_DO}"):
        state.write(empty_chains).result(20)
    state.write(insert).result(20)
    assert count(state) == 301
    state.close()


@pytest.mark.threat("disk", "a damaged state")
def test_damage_that_a_batch_meets(path: Path) -> None:
    """Of changes that share a transaction only the one fails that needs the damaged table."""
    overwrite(path, root_page(path, "chains"), b"\xa5" * PAGE)
    state = SqliteDatabase.open(path)
    go = threading.Event()
    state.write(lambda _: go.wait(20))
    changes = [state.write(insert), state.write(empty_chains)]
    go.set()
    assert changes[0].exception(20) is None
    assert isinstance(changes[1].exception(20), StateUnavailable)
    state.close()


@pytest.mark.threat("disk", "a damaged state")
def test_a_log_that_ends_in_garbage(path: Path) -> None:
    """A crash leaves such an end: what was committed before it is there."""
    state = SqliteDatabase.open(path)
    state.write(insert).result(20)
    log = Path(f"{path}-wal")
    kept, content = log.read_bytes(), path.read_bytes()
    state.close()
    path.write_bytes(content)
    log.write_bytes(kept + b"\xa5" * 10_000)
    log.chmod(0o600)
    again = SqliteDatabase.open(path)
    assert count(again) == 301
    again.close()


@pytest.mark.threat("disk", "a damaged state")
def test_something_in_the_place_of_the_log(path: Path) -> None:
    """It is refused with words."""
    Path(f"{path}-wal").mkdir()
    with pytest.raises(
        StateUnavailable, match="unable to open database file: see that the folder and all files"
    ):
        SqliteDatabase.open(path)


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    """It is refused with words."""
    with pytest.raises(StateUnavailable, match=r"the state cannot be opened: .*: Is a directory"):
        SqliteDatabase.open(tmp_path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_may_read(path: Path, mode: int) -> None:
    """It is refused as an account key would be, and the text says what to do."""
    path.chmod(mode)
    with pytest.raises(
        StateUnavailable, match=rf"open to others than its owner \(mode 0{mode:o}\): chmod 600 it"
    ):
        SqliteDatabase.open(path)
    path.chmod(0o600)
    SqliteDatabase.open(path).close()
