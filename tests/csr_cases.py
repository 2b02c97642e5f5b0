"""Certificate requests as tools make them, and the status that each deserves: `cases/csr/expected.tsv`.

They come from tools that people use, or are made as those do. The table says what is odd about each.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "cases" / "csr"


@dataclass(frozen=True)
class Case:
    """A body, and what is to become of it.

    Args:
        name: the name of its file.
        statuses: the statuses of HTTP that are right.
        what: what it is.
    """

    name: str
    statuses: frozenset[int]
    what: str

    @property
    def path(self) -> Path:
        """The file."""
        return FOLDER / self.name


def read_cases() -> list[Case]:
    """Return all cases, in the order in which they are to be sent."""
    with (FOLDER / "expected.tsv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.reader(table, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    return [Case(name, frozenset(map(int, statuses.split(","))), what) for name, statuses, what in rows]


CASES = read_cases()
