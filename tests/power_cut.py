"""What a power cut would leave of files, told from what a program has written, cut, synced and removed.

A disk keeps what was synced. Of what was not, it keeps any part: nothing, all, or some of the writes, the
last of them perhaps in part. A sync that fails is worse: the kernel takes the pages for clean all the same.
Later syncs say nothing of what was written before then, and only what is written again is safe.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Fate = Literal["nothing", "everything", "anything"]
"""What of the writes that were not synced is on the disk after a power cut."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a program did to a file.

    Args:
        operation: `W` for a write, `T` for a new length, `S` for a sync, `U` for a removal.
        path: the file.
        offset: where it was written, or the new length.
        data: what was written.
        is_done: whether it worked.
    """

    operation: str
    path: str
    offset: int
    data: bytes
    is_done: bool

    def apply(self, content: bytearray) -> None:
        """Do it to the content of a file."""
        if self.operation == "W":
            content.extend(bytes(max(0, self.offset - len(content))))
            content[self.offset : self.offset + len(self.data)] = self.data
        else:
            del content[self.offset :]
            content.extend(bytes(self.offset - len(content)))


@dataclass(slots=True)
class _File:
    """What is certainly on the disk, what may be, and what will not be unless it is written again."""

    synced: bytearray = field(default_factory=bytearray)
    pending: list[Step] = field(default_factory=list)


class Platter:
    """A disk, as it would be after a power cut at this moment.

    Args:
        dice: decide what is kept that need not be.
    """

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._files: dict[str, _File] = {}

    def take(self, step: Step) -> None:
        """Take note of what a program did."""
        file = self._files.setdefault(step.path, _File())
        if step.operation == "U":  # journals of file systems put it before later syncs
            self._files.pop(step.path)
        elif step.operation == "S":
            for each in file.pending:
                if step.is_done or self._dice.random() < 0.5:
                    each.apply(file.synced)
            file.pending.clear()
        elif step.is_done:
            file.pending.append(step)

    def left(self, path: str, fate: Fate) -> bytes:
        """Return what is left of a file."""
        file = self._files.get(path, _File())
        content = bytearray(file.synced)
        for each in file.pending:
            if fate == "everything" or (fate == "anything" and self._dice.random() < 0.5):
                each.apply(content)
        if fate == "anything" and file.pending and file.pending[-1].operation == "W":
            last = file.pending[-1]
            part = last.data[: self._dice.randrange(len(last.data) + 1)]
            Step("W", last.path, last.offset, part, is_done=True).apply(content)
        return bytes(content)


def steps(trace: Path) -> Iterator[Step]:
    """Yield what programs did, in their order, as `tests.peers.disk` has noted it."""
    with trace.open("rb") as file:
        while line := file.readline():
            operation, *numbers = line.decode().split()
            offset, size, result, length = map(int, numbers)
            path = file.read(length).decode()
            yield Step(operation, path, offset, file.read(size), is_done=result == 0)
