"""A disk that fails: what stands between a program and its files, and does as it is told meanwhile.

    disk = Disk(folder)
    with Acmems(settings, disk.env) as acmems:
        with disk.fault(FULL, settings.folder / "storage"):
            ...

It is a library that the loader puts before the C library (LD_PRELOAD), because that works everywhere: for any
user, in any container, on any file system. A file system of its own would need FUSE's device or a namespace
in which it may be mounted, a device that fails needs root and modules of the kernel, and strace needs ptrace.
The programs under test do their disk work through the C library: Python and SQLite alike.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import functools
import glob
import hashlib
import mmap
import os
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.peers.process import FETCHED, ROOT, PeerFailed, environment, program

_SOURCE = Path(__file__).with_name("disk.c")
_RULES = 16
_FORM = struct.Struct("=IIIiIIIII476s")  # struct rule
_SEEN: Final = 32  # where it has the number of calls


class Call(enum.IntFlag):
    """What programs do with files."""

    READ = 1
    WRITE = 2
    EXTEND = 4
    SYNC = 8
    NAME = 16  # rename, link, mkdir: the new name counts
    OPEN = 32  # to write
    REMOVE = 64


class Action(enum.IntEnum):
    """What becomes of the program."""

    GO_ON = 0
    DIE_BEFORE = 1
    DIE_AFTER = 2


@dataclass(frozen=True)
class DiskFault:
    """A way in which disks fail.

    Args:
        name: for tables and test names.
        calls: that fail, or are slow.
        error: what they fail with, 0 for nothing.
        milliseconds: that they take longer.
        halves: whether every other write takes a half before one fails.
        times: how many calls fail; 0 for all of them.
    """

    name: str
    calls: Call
    error: int = 0
    milliseconds: int = 0
    halves: bool = False
    times: int = 0

    def __str__(self) -> str:
        return self.name


_CHANGES = Call.WRITE | Call.EXTEND | Call.NAME | Call.OPEN | Call.REMOVE

FULL = DiskFault("full disk", Call.WRITE | Call.EXTEND, errno.ENOSPC, halves=True)
BROKEN = DiskFault("I/O error", Call.READ | Call.WRITE | Call.EXTEND | Call.SYNC, errno.EIO)
UNSYNCED = DiskFault("failing sync", Call.SYNC, errno.EIO)
UNSYNCED_ONCE = DiskFault("one failed sync", Call.SYNC, errno.EIO, times=1)
READ_ONLY = DiskFault("read-only disk", _CHANGES, errno.EROFS)
SLOW = DiskFault("slow sync", Call.SYNC, milliseconds=700)


class Disk:
    """The disk of the programs that run with its `env`.

    Args:
        folder: where the rules are kept.
        trace: where what is written, cut and synced is noted, for `tests.power_cut`; None for nowhere.

    Attributes:
        env: variables for the programs.
    """

    def __init__(self, folder: Path, trace: Path | None = None) -> None:
        path = folder / "disk-faults"
        path.write_bytes(bytes(_RULES * _FORM.size))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)
        self.env: Mapping[str, str] = {
            "LD_PRELOAD": str(library()),
            "DISK_FAULTS": str(path),
            **({} if trace is None else {"DISK_TRACE": str(trace)}),
        }

    @contextlib.contextmanager
    def fault(self, fault: DiskFault, place: Path | str) -> Iterator[DiskRule]:
        """Have files fail, and heal them.

        Args:
            fault: how.
            place: a file or a folder, with all that is within; as text, a pattern of their paths.
        """
        rule = self._rule(place, fault)
        try:
            yield rule
        finally:
            rule.end()

    def fault_after(self, fault: DiskFault, place: Path | str, skipped: int) -> DiskRule:
        """Have files fail after so many fitting calls, until `heal`."""
        return self._rule(place, fault, skipped=skipped)

    def kill_at(self, call: Call, place: Path | str, *, after: bool = False, nth: int = 1) -> DiskRule:
        """Have the next program that does something to a file end there, as by kill -9.

        Args:
            call: what it does.
            place: as for `fault`.
            after: whether it was done then.
            nth: which of them it is.
        """
        action = Action.DIE_AFTER if after else Action.DIE_BEFORE
        return self._rule(place, DiskFault("kill", call, times=1), action, nth - 1)

    def heal(self) -> None:
        """Forget all rules."""
        for number in range(_RULES):
            DiskRule(self._memory, number).end()

    def _rule(
        self, place: Path | str, fault: DiskFault, action: Action = Action.GO_ON, skipped: int = 0
    ) -> DiskRule:
        pattern = place if isinstance(place, str) else glob.escape(str(place))
        number = next(number for number in range(_RULES) if not DiskRule(self._memory, number).is_on)
        rule = DiskRule(self._memory, number)
        rule.begin(
            _FORM.pack(
                *(0, fault.calls, action, fault.error, fault.milliseconds, fault.halves, skipped),
                *(fault.times, 0, os.fsencode(pattern)),
            )
        )
        return rule


class DiskRule:
    """What happens to some calls; `Disk` makes it.

    Args:
        memory: what programs look at.
        number: of the rule.
    """

    def __init__(self, memory: mmap.mmap, number: int) -> None:
        self._memory = memory
        self._offset = number * _FORM.size

    @property
    def is_on(self) -> bool:
        """Whether it is in force."""
        return self._word(0) != 0

    @property
    def seen(self) -> int:
        """How many calls it was for so far."""
        return self._word(_SEEN)

    def begin(self, packed: bytes) -> None:
        """Put it in force, whole."""
        self._memory[self._offset : self._offset + _FORM.size] = packed
        self._memory[self._offset : self._offset + 4] = struct.pack("=I", 1)

    def end(self) -> None:
        """Put it out of force."""
        self._memory[self._offset : self._offset + 4] = bytes(4)

    def _word(self, at: int) -> int:
        (word,) = struct.unpack_from("=I", self._memory, self._offset + at)
        return int(word)


@functools.cache
def library() -> Path:
    """Return the library, compiled anew where its source has changed.

    Raises:
        PeerFailed: there is no compiler, or it does not take the source.
    """
    digest = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]
    built = ROOT / ".cache" / "disk" / f"{digest}.so"
    if not built.exists():
        built.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=built.parent) as name:
            made = Path(name) / "disk.so"
            libraries = ("-ldl", "-lpthread")
            command = [*_compiler(), "-shared", "-fPIC", "-o", str(made), str(_SOURCE), *libraries]
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
            if done.returncode:
                raise PeerFailed(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
            made.rename(built)  # whole: other test processes may want it at the same moment
    return built


def _compiler() -> list[str]:
    """Return the command of a C compiler: the machine's, else what `scripts/peers` fetched."""
    fetched = FETCHED / "usr/bin/tcc"
    if not fetched.exists():
        return [program("cc")]
    (libraries,) = FETCHED.glob("usr/lib/*-linux-gnu*/tcc")
    triple = libraries.parent.name
    return [
        *(str(fetched), f"-B{libraries}"),
        *(f"-I{FETCHED / 'usr/include' / triple}", f"-I{FETCHED / 'usr/include'}"),
        *(f"-L{libraries.parent}", f"-L/usr/lib/{triple}", f"-L/lib/{triple}"),
    ]
