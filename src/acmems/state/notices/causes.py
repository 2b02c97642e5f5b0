"""What has been told, and is not over."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from acmems.state.engines.contract import Database, Transaction, Value, marks


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseRecord:
    """A cause for notices, as it was when it was last told; all times are aware.

    Args:
        cause: what makes it the same.
        kind: of what kind it is.
        began: when it began, as far as that is known.
        seen: when it was last seen to be so.
        told: when it was last told.
        times: how often it was told.
        stage: how bad it was then; a larger number is worse.
        number: of what it is about, then.
        severity: the worst that was told.
        directory: the URL of the CA's directory; empty where it is about none.
        reason: what was told of it, in one line.
    """

    cause: str
    kind: str
    began: datetime.datetime
    seen: datetime.datetime
    told: datetime.datetime
    times: int
    stage: int
    number: int
    severity: str
    directory: str
    reason: str


_COLUMNS = tuple(each.name for each in dataclasses.fields(CauseRecord))
_TIMES = ("began", "seen", "told")
_PUT = (
    f"INSERT INTO causes ({', '.join(_COLUMNS)}) VALUES ({marks(_COLUMNS)}) "  # noqa: S608 - names of columns
    "ON CONFLICT (cause) DO UPDATE SET " + ", ".join(f"{each} = excluded.{each}" for each in _COLUMNS[1:])
)


class CauseRecords:
    """Keeps causes; for any thread.

    Args:
        database: where they are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[CauseRecord]:
        """Return all of them, the oldest first.

        Raises:
            StateUnavailable: they cannot be read.
        """

        def query(transaction: Transaction) -> list[CauseRecord]:
            rows = transaction.execute(f"SELECT {', '.join(_COLUMNS)} FROM causes ORDER BY began, cause")  # noqa: S608 - names of columns
            return [_cause(row) for row in rows.fetchall()]

        return self._database.read(query)

    @staticmethod
    def put(transaction: Transaction, causes: Sequence[CauseRecord]) -> None:
        """Keep causes, in place of what was known of them, in a transaction of `Database.write`."""
        transaction.executemany(_PUT, [_cause_row(each) for each in causes])

    @staticmethod
    def remove(transaction: Transaction, causes: Sequence[str]) -> None:
        """Forget causes that are over, in a transaction of `Database.write`."""
        transaction.executemany("DELETE FROM causes WHERE cause = ?", [(each,) for each in causes])


def _cause_row(record: CauseRecord) -> tuple[Value, ...]:
    return tuple(
        int(value.timestamp()) if isinstance(value := getattr(record, column), datetime.datetime) else value
        for column in _COLUMNS
    )


def _cause(row: Sequence[Any]) -> CauseRecord:
    fields = dict(zip(_COLUMNS, row, strict=True))
    times = {column: datetime.datetime.fromtimestamp(fields[column], datetime.UTC) for column in _TIMES}
    return CauseRecord(**fields | times)
