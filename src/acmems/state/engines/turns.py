"""Taking turns in writing to a file that several processes share."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from acmems.system.clock import SYSTEM, Clock

_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 0.0002, 0.005, 1.5  # seconds between two looks whether it is free


class WritingTurns:
    """Lets one of several processes write at a time; who dies or closes gives the turn back.

    Args:
        path: the file that they write to; what is locked lies beside it.
        clock: for waits.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, clock: Clock = SYSTEM) -> None:
        # Each has a description of its own, also where one process has opened the file twice.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._file = f"{path}.writing"
        self._descriptor = os.open(self._file, flags, 0o600)
        self._clock = clock

    @contextlib.contextmanager
    def turn(self, seconds: float) -> Iterator[None]:
        """Have the turn, for one thread of this process.

        Args:
            seconds: for how long to wait for it.

        Raises:
            TimeoutError: another process has it all the time.
        """
        self._take(seconds)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)

    def _take(self, seconds: float) -> None:
        deadline, pause = self._clock.deadline(seconds), _FIRST_PAUSE
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if deadline.passed:
                    reason = f"another process has been writing for {seconds:g} seconds"
                    raise TimeoutError(errno.ETIMEDOUT, reason, self._file) from None
            else:
                return
            self._clock.sleep(pause)
            pause = min(pause * _GROWTH, _LONGEST_PAUSE)
