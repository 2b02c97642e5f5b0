"""The library that makes disks fail: for the files that are meant, as long as it is told to."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.peers import environment
from tests.peers.disk import (
    BROKEN,
    FULL,
    READ_ONLY,
    SLOW,
    UNSYNCED,
    UNSYNCED_ONCE,
    Call,
    Disk,
    DiskFault,
)

WRITING = """
import os, sys
file = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
print("written", os.write(file, b"x" * 100), os.write(file, b"x" * 100))
os.fsync(file)
print("synced")
os.rename(sys.argv[1], sys.argv[2])
print("renamed")
"""


def write_on(disk: Disk, folder: Path) -> tuple[int, str]:
    """Run a program that writes, syncs and renames a file; return its exit code and the end of its output."""
    done = subprocess.run(
        [sys.executable, "-c", WRITING, folder / "new", folder / "old"],
        capture_output=True,
        text=True,
        check=False,
        env=environment(disk.env),
    )
    lines = (done.stdout + done.stderr).strip().splitlines()
    return done.returncode, lines[-1] if lines else ""


@pytest.mark.parametrize(
    ("fault", "last"),
    [
        (FULL, "OSError: [Errno 28] No space left on device"),
        (BROKEN, "OSError: [Errno 5] Input/output error"),
        (UNSYNCED, "OSError: [Errno 5] Input/output error"),
        (UNSYNCED_ONCE, "OSError: [Errno 5] Input/output error"),
        (READ_ONLY, "OSError: [Errno 30] Read-only file system: "),
        (SLOW, "renamed"),
    ],
    ids=str,
)
def test_a_disk_fails_as_told(tmp_path: Path, fault: DiskFault, last: str) -> None:
    """It fails for the files that are meant, while it is told to."""
    disk = Disk(tmp_path)
    with disk.fault(fault, tmp_path / "new") as rule:
        assert write_on(disk, tmp_path)[1].startswith(last)
        assert rule.seen > 0
    with disk.fault(fault, tmp_path / "another"):
        assert write_on(disk, tmp_path) == (0, "renamed")


@pytest.mark.parametrize(("after", "left"), [(False, "new"), (True, "old")])
def test_a_program_is_killed_at_a_step(tmp_path: Path, after: bool, left: str) -> None:
    """It ends before or after it renames a file; the next run is not killed."""
    disk = Disk(tmp_path)
    disk.kill_at(Call.NAME, tmp_path / "old", after=after)
    assert write_on(disk, tmp_path)[0] == -signal.SIGKILL
    assert {"new", "old"} & {path.name for path in tmp_path.iterdir()} == {left}
    assert write_on(disk, tmp_path) == (0, "renamed")
