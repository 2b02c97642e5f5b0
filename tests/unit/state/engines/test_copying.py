"""Copies of a SQLite file: whole ones beside a server, and what is left of a damaged one."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from acmems.exceptions import StateUnavailable
from acmems.state.engines import copying
from acmems.state.engines.contract import Transaction
from acmems.state.engines.copying import back_up, salvage
from acmems.state.engines.sqlite import SqliteDatabase, StateInUse

PAGE = 4096
MANY = 3000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


@pytest.fixture
def state(path: Path) -> Iterator[SqliteDatabase]:
    opened = SqliteDatabase.open(path)
    yield opened
    opened.close()


def insert(state: SqliteDatabase, count: int, start: int = 0) -> None:
    """Note as many orders, each with a CSR of its own."""

    def change(transaction: Transaction) -> None:
        transaction.executemany(
            "INSERT INTO orders (identity, csr, begun) VALUES (?, ?, 0)",
            [(f"{number:064}", str(number).encode() * 50) for number in range(start, start + count)],
        )

    state.write(change).result(20)


def orders(path: Path) -> dict[str, bytes]:
    opened = SqliteDatabase.open(path)
    try:
        return dict(opened.read(lambda each: each.execute("SELECT identity, csr FROM orders").fetchall()))
    finally:
        opened.close()


class TestBackup:
    def test_beside_a_server(self, path: Path, state: SqliteDatabase) -> None:
        """It is a whole state of its own, in one file that is its owner's alone; the server goes on."""
        insert(state, 10)
        target = path.with_name("copy")
        back_up(path, target)
        insert(state, 10, start=10)
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
        assert not list(path.parent.glob("copy-*"))
        assert not list(path.parent.glob(".acmems*"))
        assert len(orders(target)) == 10

    def test_nothing_is_overwritten(self, path: Path, state: SqliteDatabase) -> None:
        """Whatever has the name already stays, a link to nowhere too."""
        target = path.with_name("copy")
        target.write_text("mine")
        with pytest.raises(FileExistsError):
            back_up(path, target)
        assert target.read_text() == "mine"
        link = path.with_name("link")
        link.symlink_to(path.with_name("nowhere"))
        with pytest.raises(FileExistsError):
            back_up(path, link)

    def test_what_comes_meanwhile_is_not_overwritten(
        self, path: Path, state: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Something that gets the name while the copy is made stays, and nothing is left of the copy."""
        target = path.with_name("copy")
        monkeypatch.setattr(os, "fsync", lambda _: target.write_text("mine"))
        with pytest.raises(FileExistsError):
            back_up(path, target)
        assert target.read_text() == "mine"
        assert not list(path.parent.glob(".acmems*"))

    def test_a_directory_that_is_not_there(self, path: Path, state: SqliteDatabase) -> None:
        """The error names that, and no file that nobody knows."""
        with pytest.raises(FileNotFoundError) as raised:
            back_up(path, path.with_name("nowhere") / "copy")
        assert raised.value.filename == str(path.with_name("nowhere"))

    def test_a_disk_without_room(
        self, path: Path, state: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is told which of the two disks is full."""
        (path.parent / "full").mkdir()
        target = path.parent / "full" / "copy"
        monkeypatch.setattr(copying, "is_full", lambda place: place == target)

        def fail(_: object) -> NoReturn:
            raise sqlite3.OperationalError("disk I/O error")

        monkeypatch.setattr(copying, "_read_only", fail)
        with pytest.raises(StateUnavailable, match=f"disk I/O error: make room on the disk of {target}"):
            back_up(path, target)

    def test_no_state(self, path: Path) -> None:
        """There is nothing to copy, and nothing is made."""
        with pytest.raises(StateUnavailable, match="no state at"):
            back_up(path, path.with_name("copy"))
        assert not list(path.parent.iterdir())

    def test_a_damaged_state(self, path: Path) -> None:
        """It is not taken for a backup."""
        fill(path)
        damage(path, 5)
        target = path.with_name("copy")
        with pytest.raises(StateUnavailable, match="state check"):
            back_up(path, target)
        assert not target.exists()


def fill(path: Path) -> None:
    state = SqliteDatabase.open(path)
    insert(state, MANY)
    state.close()


def damage(path: Path, *pages: int) -> None:
    """Put garbage into pages, and leave the first one alone."""
    garbage = random.Random(1)  # noqa: S311 - garbage
    with path.open("r+b") as file:
        for page in pages:
            file.seek(page * PAGE)
            file.write(garbage.randbytes(PAGE))


class TestSalvage:
    """What can be read of a damaged file is put into a new one; the old one stays, aside."""

    def test_damaged_pages(self, path: Path) -> None:
        """Rows on other pages are saved, also between two damages; what is saved is right."""
        fill(path)
        before = orders(path)
        total = path.stat().st_size // PAGE
        damage(path, total // 4, total // 2, 3 * total // 4)
        damaged = path.read_bytes()
        saved = salvage(path)
        after = orders(path)
        assert saved.rows["orders"] == len(after) >= 0.8 * MANY
        assert after.items() <= before.items()
        assert saved.aside.read_bytes() == damaged
        with contextlib.closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    def test_what_is_in_the_log_only(self, path: Path, state: SqliteDatabase) -> None:
        """A crash leaves a log beside the file: its rows are saved, and it is not that of the new file."""
        insert(state, 20)
        crashed = path.with_name("crashed")
        for end in ("", "-wal"):
            Path(f"{crashed}{end}").write_bytes(Path(f"{path}{end}").read_bytes())
        saved = salvage(crashed)
        assert saved.rows["orders"] == 20
        assert not Path(f"{crashed}-wal").exists()
        assert Path(f"{saved.aside}-wal").exists()
        assert len(orders(crashed)) == 20

    def test_a_sound_file(self, path: Path) -> None:
        """Nothing is lost, again and again; each time the file of before gets a name of its own."""
        fill(path)
        before = orders(path)
        first, second = salvage(path).aside, salvage(path).aside
        assert orders(path) == before
        assert first != second

    def test_a_file_that_is_none(self, path: Path) -> None:
        """There is nothing to save, and the file stays where it is."""
        path.write_bytes(b"SQLite format 3\0" + bytes(5000))
        with pytest.raises(StateUnavailable, match="restore it from a backup"):
            salvage(path)
        assert path.exists()

    def test_a_server_uses_it(self, path: Path, state: SqliteDatabase) -> None:
        """Nothing is moved under its feet."""
        with pytest.raises(StateInUse):
            salvage(path)

    def test_a_file_of_an_older_version(self, path: Path) -> None:
        """Columns that it lacks are filled as a migration does."""
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE orders (identity TEXT PRIMARY KEY, csr BLOB, begun BIGINT)")
            connection.execute("INSERT INTO orders VALUES ('one', x'00', 1)")
            connection.execute("INSERT INTO orders VALUES ('two', NULL, 1)")  # by the damage
            connection.commit()
        assert salvage(path).rows["orders"] == 1
        assert orders(path) == {"one": b"\0"}


def test_a_disk_that_fails(path: Path, state: SqliteDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup that is not durable is none."""

    def fail(_: int) -> None:
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        back_up(path, path.with_name("copy"))
    assert not path.with_name("copy").exists()
