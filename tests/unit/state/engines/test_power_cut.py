"""Power cuts at each moment of a program that changes a state, also after syncs that have failed."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tests.peers.disk import BROKEN, UNSYNCED, Call, Disk, DiskFault
from tests.power_cut import Fate, Platter, steps

CHANGES = 60
# Changes that overwrite each other's pages, with checkpoints in between; what is confirmed goes to a file.
PROGRAM = """
import sys
from pathlib import Path
from acmems.exceptions import StateUnavailable
from acmems.state.engines.sqlite import SqliteDatabase

path, shared, changes = Path(sys.argv[1]), sys.argv[2] == "shared", int(sys.argv[3])
lock = open(f"{path}.lock", "w") if shared else None
state = SqliteDatabase.open(path, lock=lock.fileno() if lock else None, is_shared=shared)
state._connection.execute("PRAGMA wal_autocheckpoint = 7")
confirmed = open(path.with_name("confirmed"), "wb", buffering=0)

def insert(transaction, number):
    statement = "INSERT INTO orders (identity, csr, begun) VALUES (?, ?, 0) ON CONFLICT DO NOTHING"
    transaction.execute(statement, (str(number), bytes([number]) * (number * 997 % 9000)))

for number in range(changes):
    try:
        state.write(lambda transaction: insert(transaction, number)).result()
    except StateUnavailable:
        confirmed.write(b"-")
    else:
        confirmed.write(bytes([number + 48]))
state.close()
"""


def run(folder: Path, mode: str, fault: DiskFault | None, skipped: int) -> Path:
    """Run the program with a disk that fails at some moment, and return what it has done."""
    trace = folder / "trace"
    disk = Disk(folder, trace)
    if fault is not None:
        disk.fault_after(fault, f"{folder}/state.sqlite*", skipped)
    command = [sys.executable, "-c", PROGRAM, str(folder / "state.sqlite"), mode, str(CHANGES)]
    subprocess.run(command, env={**os.environ, **disk.env}, check=True, timeout=120)
    return trace


def rows(folder: Path, platter: Platter, state: Path, fate: Fate) -> set[str]:
    """Return what a start after a power cut finds.

    Raises:
        AssertionError: it finds a file that is damaged.
    """
    for end in ("", "-wal", "-journal"):
        (folder / f"state{end}").write_bytes(platter.left(f"{state}{end}", fate))
    with contextlib.closing(sqlite3.connect(folder / "state")) as left:
        assert left.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {identity for (identity,) in left.execute("SELECT identity FROM orders")}


@pytest.mark.parametrize("mode", ["alone", "shared"])
@pytest.mark.parametrize(
    ("fault", "skipped"),
    [
        (None, 0),
        (DiskFault("a failed sync", Call.SYNC, UNSYNCED.error, times=1), 20),
        (DiskFault("five failed syncs", Call.SYNC, UNSYNCED.error, times=5), 33),
        (DiskFault("I/O errors", BROKEN.calls, BROKEN.error, times=9), 240),
    ],
    ids=str,
)
def test_what_was_confirmed_is_there(
    tmp_path: Path, mode: str, fault: DiskFault | None, skipped: int
) -> None:
    """Wherever the power is cut, and whatever the disk makes of what was not synced, no change is lost."""
    dice = random.Random(f"{mode} {fault} {skipped}")  # noqa: S311 - no secrets here
    trace = run(tmp_path, mode, fault, skipped)
    state, after = tmp_path / "state.sqlite", tmp_path / "after"
    after.mkdir()
    platter, confirmed, failures, cuts = Platter(dice), set[str](), 0, 0
    for step in steps(trace):
        if step.path == str(tmp_path / "confirmed"):
            if step.data == b"-":
                failures += 1
            else:
                confirmed.add(str(step.data[0] - 48))
        else:
            platter.take(step)
            failures += not step.is_done
        if confirmed and dice.random() < 0.1:
            for fate in ("nothing", "everything", "anything"):
                assert confirmed <= rows(after, platter, state, fate), (fate, cuts)
                cuts += 1
    assert cuts > 50
    assert bool(failures) == (fault is not None)
    assert confirmed <= rows(after, platter, state, "nothing")
    assert str(CHANGES - 1) in confirmed  # it has recovered by itself
