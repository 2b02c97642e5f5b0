"""What a process uses, as the kernel counts it."""

from __future__ import annotations

import os
import re
from dataclasses import astuple, dataclass
from pathlib import Path

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Cost:
    """The CPU time that chains cost, in seconds.

    Args:
        chains: how many chains.
        server: of the server, or of the floor.
        ca: of its CA.
        client: of the client that asked the server.
    """

    chains: int = 0
    server: float = 0.0
    ca: float = 0.0
    client: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    @property
    def each(self) -> tuple[float, float, float]:
        """Milliseconds a chain: of the server, its CA, the client."""
        server, ca, client = (
            seconds / max(1, self.chains) * 1000 for seconds in (self.server, self.ca, self.client)
        )
        return server, ca, client


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process used so far, in seconds.

    Args:
        pid: the process.
    """
    # The second field is the program's name, in parentheses, and may contain anything.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """Return the memory that a process has resident now, in megabytes.

    Args:
        pid: the process.
    """
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 / MEGABYTE if found else 0.0
