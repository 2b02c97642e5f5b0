"""Processes that get a share of a processor each, by control groups of the kernel, as if it were slower."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.peers import PeerFailed

PERIOD_MICROSECONDS = 4000
"""In each of which a process gets its share, which the kernel wants to be a millisecond at least.

It is so short that nobody who waits for the process notices the pauses.
"""
FIRST, SECOND = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
"""Where the controller of processors is, by the version of control groups."""


@contextlib.contextmanager
def slowed(pids: Sequence[int], share: float) -> Iterator[None]:
    """Let each of some processes use no more than a share of one processor, all its threads together.

    Args:
        pids: the processes.
        share: between zero and one.

    Raises:
        PeerFailed: this user may not limit processes here.
    """
    with contextlib.ExitStack() as stack:
        for pid in pids:
            stack.enter_context(_slowed(pid, round(PERIOD_MICROSECONDS * share)))
        yield


@contextlib.contextmanager
def _slowed(pid: int, quota: int) -> Iterator[None]:
    root, limits = _controller(quota)
    group = root / f"acmems-bench-{uuid.uuid4().hex}"
    try:
        home = root / _group_of(pid, is_first=root == FIRST).lstrip("/")
        group.mkdir()
    except OSError as error:
        raise PeerFailed(f"a process can be slowed by root alone: {error}") from error
    try:
        for name, value in limits.items():
            (group / name).write_text(value, encoding="ascii")
        _move(pid, group)
        yield
    finally:
        with contextlib.suppress(OSError):  # it has ended
            _move(pid, home)
        group.rmdir()


def _controller(quota: int) -> tuple[Path, dict[str, str]]:
    """Return where groups are made, and what is written to files of one."""
    if (FIRST / "cgroup.procs").exists():
        return FIRST, {"cpu.cfs_period_us": str(PERIOD_MICROSECONDS), "cpu.cfs_quota_us": str(quota)}
    control = SECOND / "cgroup.subtree_control"
    if control.exists() and "cpu" in control.read_text(encoding="ascii").split():
        return SECOND, {"cpu.max": f"{quota} {PERIOD_MICROSECONDS}"}
    raise PeerFailed("a process cannot be slowed: there are no control groups for processors")


def _group_of(pid: int, *, is_first: bool) -> str:
    """Return the group that a process is in now."""
    for line in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, group = line.split(":", 2)
        if "cpu" in controllers.split(",") if is_first else not controllers:
            return group
    return "/"


def _move(pid: int, group: Path) -> None:
    descriptor = os.open(group / "cgroup.procs", os.O_WRONLY)
    try:
        os.write(descriptor, str(pid).encode())
    finally:
        os.close(descriptor)
