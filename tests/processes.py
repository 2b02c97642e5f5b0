"""A server of several processes, as its machine sees it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.peers import Acmems, wait_until

_ESTABLISHED = "01"  # proc_pid_net_tcp(5)


def workers(acmems: Acmems) -> list[int]:
    """Return the process IDs of the workers."""
    pid = acmems.process.pid
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for_workers(acmems: Acmems, count: int, *, without: int | None = None) -> list[int]:
    """Wait until there are so many workers, and none that should be gone; return their process IDs."""
    found: list[int] = []

    def are_there() -> bool:
        found[:] = workers(acmems)
        return len(found) == count and without not in found

    wait_until(are_there, "there are as many workers as there should be")
    return found


def has_ended(pid: int) -> bool:
    """Tell whether a process is no more, or waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def connections(pid: int, port: int) -> int:
    """Return how many connections of clients a process has at a port of 127.0.0.1."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *fields = line.split()
        if int(local.partition(":")[2], 16) == port and state == _ESTABLISHED:
            inodes.add(f"socket:[{fields[5]}]")
    found = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found += str(descriptor.readlink()) in inodes
    return found
