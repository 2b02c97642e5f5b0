"""Child processes: those that this one has started and waits for itself, and orphans that it has to reap."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

_PR_GET_CHILD_SUBREAPER = 37  # prctl(2)
_PROC = Path("/proc")


class Children:
    """The processes that this one has started and waits for itself.

    Where it has to reap orphans, as the first process of a container does, it must leave alone what others
    here wait for: they would never learn how those have ended.
    """

    def __init__(self) -> None:
        self._lock = (
            threading.Lock()
        )  # guards `_own`: held while a process is started, so that none is missed
        self._own: set[int] = set()

    @contextlib.contextmanager
    def started(self, start: Callable[[], subprocess.Popen[bytes]]) -> Iterator[subprocess.Popen[bytes]]:
        """Start a process, and wait for it at the end of the context.

        Args:
            start: starts it.
        """
        with self._lock:
            process = start()
            self._own.add(process.pid)
        try:
            with process:
                yield process
        finally:
            with self._lock:
                self._own.discard(process.pid)

    def reap(self) -> int:
        """Reap the children that have ended and nobody waits for; return how many they were."""
        reaped = 0
        with self._lock:
            for process in _zombies():
                if process not in self._own:
                    with contextlib.suppress(ChildProcessError):
                        reaped += os.waitpid(process, os.WNOHANG)[0] == process
        return reaped


CHILDREN = Children()
"""Those of this process. There is one list of them, as there is one process."""


def reaps_orphans() -> bool:
    """Tell whether the kernel makes orphans children of this process: it is the first one, or a subreaper."""
    if os.getpid() == 1:
        return True
    flag = ctypes.c_int()
    asked = ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(flag), 0, 0, 0)
    return bool(asked == 0 and flag.value)


def _zombies() -> Iterator[int]:
    """Yield the children of this process that have ended (proc_pid_stat(5))."""
    ours = str(os.getpid()).encode()
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            try:
                # The name of the program stands in parentheses, and may hold blanks and parentheses.
                state, parent, *_ = (folder / "stat").read_bytes().rpartition(b")")[2].split()
            except (OSError, ValueError):
                continue  # it is gone
            if (state, parent) == (b"Z", ours):
                yield int(folder.name)
