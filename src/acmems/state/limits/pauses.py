"""Pauses after failures: a restart does not end them, and servers that share a state share them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from acmems.exceptions import AcmeException
from acmems.state import errors
from acmems.state.engines.contract import Database, Transaction, Value, marks

_PUT = """
    INSERT INTO pauses (subject, error, failures, until) VALUES (?, ?, ?, acmems_now() + ?)
    ON CONFLICT (subject) DO UPDATE SET error = excluded.error, failures = excluded.failures,
        until = excluded.until
"""
_LAST = "WHERE until > acmems_now() - ? ORDER BY until DESC LIMIT ?"
_MOST = 10_000  # that are loaded
_AT_ONCE = 500  # subjects in one statement


@dataclass(frozen=True, slots=True)
class PauseRecord:
    """A pause, or failures that have not led to one yet.

    Args:
        subject: what failed, as a text.
        error: how.
        failures: how often in a row.
        length: how long the pause is, in seconds.
        left: how much of it is left, in seconds; less than none where it is over.
    """

    subject: str
    error: AcmeException
    failures: int
    length: float
    left: float


class PauseRecords:
    """Keeps pauses by what failed. Times are by the clock of the database.

    Args:
        database: where they are kept.
        remembered: for how many seconds after its end a pause counts.
    """

    def __init__(self, database: Database, remembered: float = 3600.0) -> None:
        self._database = database
        self._remembered = int(remembered)

    def load(self) -> list[PauseRecord]:
        """Return the pauses that count still, the first to end first; of very many, the last to end.

        Raises:
            StateUnavailable: they cannot be read.
        """
        return self._database.read(
            lambda transaction: list(_select(transaction, _LAST, self._remembered, _MOST))[::-1]
        )

    def find(self, transaction: Transaction, subjects: Sequence[str]) -> list[PauseRecord]:
        """Return the pauses of some subjects that count still.

        Args:
            transaction: a transaction of `Database`.
            subjects: what may have failed.
        """
        found: list[PauseRecord] = []
        for start in range(0, len(subjects), _AT_ONCE):
            some = subjects[start : start + _AT_ONCE]
            condition = f"WHERE subject IN ({marks(some)}) AND until > acmems_now() - ?"
            found += _select(transaction, condition, *some, self._remembered)
        return found

    def put(self, pause: PauseRecord) -> None:
        """Keep a pause, in place of the last one of its subject.

        Where nobody shares the state it is not urgent: it is written with the next change.
        """
        row = (pause.subject, _document(pause), pause.failures, math.ceil(pause.left))

        def change(transaction: Transaction) -> None:
            transaction.execute(_PUT, row)

        self._database.write(change, soon=self._database.is_shared)

    def remove(self, subjects: Sequence[str]) -> None:
        """Forget the failures of some subjects, as urgently as `put`."""

        def change(transaction: Transaction) -> None:
            transaction.executemany("DELETE FROM pauses WHERE subject = ?", [(each,) for each in subjects])

        self._database.write(change, soon=self._database.is_shared)

    def clean(self) -> None:
        """Forget pauses that do not count any more, with the next change; called from time to time."""

        def change(transaction: Transaction) -> None:
            transaction.execute("DELETE FROM pauses WHERE until <= acmems_now() - ?", (self._remembered,))

        self._database.write(change, soon=False)


def _select(transaction: Transaction, condition: str, *row: Value) -> Iterator[PauseRecord]:
    columns = "subject, error, failures, until - acmems_now()"
    rows = transaction.execute(f"SELECT {columns} FROM pauses {condition}", row)  # noqa: S608 - constants
    for subject, document, failures, left in rows.fetchall():
        length, error = _read(document)
        # A clock that was ahead when it began may say that more is left of it than there was.
        yield PauseRecord(subject, error, failures, length, min(left, length))


def _document(pause: PauseRecord) -> str:
    return json.dumps({"length": pause.length, "error": errors.encoded(pause.error)}, ensure_ascii=False)


def _read(document: str) -> tuple[float, AcmeException]:
    found = json.loads(document)
    return found["length"], errors.decoded(found["error"])
