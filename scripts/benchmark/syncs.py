"""The figure of disk syncs: how often a server waits for its disk while many certificates are issued."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from scripts.benchmark.rows import Measured, Row, Target, at_most
from scripts.benchmark.stage import Stage
from tests.peers.disk import Call, Disk, DiskFault
from tests.peers.server import FILES

SQL = '\n[storage "state"]\ntype = sql\n'
STORAGES: Mapping[str, tuple[str, Target | None]] = {"sql": (SQL, at_most(1.0)), "file": (FILES, None)}
"""By type: the section of a storage, and what its syncs for a certificate should be."""
BURSTS = (50, 200)
WARM_UP = 20
AFTERWARDS = 6.0
"""Seconds after the last answer in which a server writes what had time: it does so every five seconds."""

_COUNTED = DiskFault("counted", Call.SYNC)
_ANYWHERE = "*"


def syncs(stage: Stage, rounds: int) -> Measured:
    """Count the syncs (fsync and fdatasync, of files and folders) for each certificate of a burst.

    Args:
        stage: where to measure.
        rounds: bursts of each size; all of them count.
    """
    rows, notes = [], []
    for name, (section, target) in STORAGES.items():
        for size, during, later in _counts(stage, section, rounds):
            what = f"{size} names at once, storage of type {name}: syncs a certificate"
            rows.append(Row(what, "", (during + later) / (size * rounds), target=target))
            each = f"{during / rounds:.0f} syncs until the last answer, {later / rounds:.0f} after it"
            notes.append(f"{size} names, {name}: {each}")
    return Measured(rows, notes=notes)


def _counts(stage: Stage, storage: str, rounds: int) -> Iterator[tuple[int, int, int]]:
    """Yield the sizes of bursts, each with the syncs of all of them until the answers, and after those."""
    with tempfile.TemporaryDirectory(prefix="acmems-bench-") as folder:
        disk = Disk(Path(folder))
        with stage.acmems(calm=True, storage=storage, env=disk.env) as (ours, _):
            ours.warm(WARM_UP)
            for size in BURSTS:
                during = later = 0
                for _ in range(rounds):
                    time.sleep(AFTERWARDS)
                    with disk.fault(_COUNTED, _ANYWHERE) as counted:
                        ours.sign(size, size)
                        answered = counted.seen
                        time.sleep(AFTERWARDS)
                        during += answered
                        later += counted.seen - answered
                yield size, during, later
