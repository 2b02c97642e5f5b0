"""What happened, as rows that can be looked at."""

from __future__ import annotations

import dataclasses
import datetime
import operator
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from acmems.state.engines.contract import Database, Transaction, Value, marks

PAGE = 500
"""Rows that are read, or removed, at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """Something that happened, once or several times in the same way.

    Args:
        id: grows with the time at which the row was made; the same row has the same, however often it is
            written.
        at: when it happened, for the first time (aware).
        word: what happened, as the log calls it.
        client: the address that asked.
        block: the auth block that accepted the request, None while none did.
        names: what a certificate was asked for.
        account: the URL of the ACME account.
        reference: names the request in the log; of several, the first one.
        status: the HTTP status answered.
        outcome: where the chain came from, the stage that failed, or how an act ended.
        reason: why, in words for the operator.
        count: how often it happened.
        node: the process that took note of it.
    """

    id: str
    at: datetime.datetime
    word: str
    client: str
    block: str | None = None
    names: tuple[str, ...] = ()
    account: str | None = None
    reference: str | None = None
    status: int | None = None
    outcome: str | None = None
    reason: str | None = None
    count: int = 1
    node: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events are looked for; what is None does not matter.

    Args:
        since: not before this time (aware).
        word: what happened.
        client: exactly this address.
        block: this auth block.
        names: a pattern of SQL's `LIKE` for all names together, one a line; a backslash stands before
            what is meant literally.
        status: this HTTP status.
    """

    since: datetime.datetime | None = None
    word: str | None = None
    client: str | None = None
    block: str | None = None
    names: str | None = None
    status: int | None = None


_COLUMNS = tuple(field.name for field in dataclasses.fields(EventRecord))
_fields = operator.attrgetter(*_COLUMNS)
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM events"  # noqa: S608 - names of columns
_INSERT = (
    f"INSERT INTO events ({', '.join(_COLUMNS)}) VALUES ({marks(_COLUMNS)}) "  # noqa: S608 - names of columns
    "ON CONFLICT (id) DO NOTHING"
)
_FORGET = "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE at < ? ORDER BY at LIMIT ?)"
_CONDITIONS = {
    "since": "at >= ?",
    "word": "word = ?",
    "client": "client = ?",
    "block": "block = ?",
    "names": "names LIKE ? ESCAPE '\\'",
    "status": "status = ?",
}


class EventRecords:
    """Keeps events.

    The futures are done when a change is durable, and hold a `StateUnavailable` where it cannot be made.

    Args:
        database: where they are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, records: Sequence[EventRecord]) -> Future[None]:
        """Keep events; those that are kept already stay as they are."""

        def change(transaction: Transaction) -> None:
            transaction.executemany(_INSERT, map(_row, records))

        return self._database.write(change)

    def forget(self, before: datetime.datetime) -> Future[int]:
        """Remove some of the events that happened before a time, the oldest first.

        Args:
            before: the time (aware).

        Returns:
            a future with the number of those that were removed: as many as `PAGE` where more may be left.
        """
        row = (int(before.timestamp()), PAGE)
        return self._database.write(lambda transaction: transaction.execute(_FORGET, row).rowcount)

    def search(self, wanted: EventFilter, *, newest_first: bool = True) -> Iterator[EventRecord]:
        """Yield events, newest first or oldest first, without reading all of them at once.

        Raises:
            StateUnavailable: they cannot be read.
        """
        found = [(name, getattr(wanted, name)) for name in _CONDITIONS]
        given = [(name, _value(value)) for name, value in found if value is not None]
        conditions = [_CONDITIONS[name] for name, _ in given]
        values = [value for _, value in given]
        order, beyond = ("at DESC, id DESC", "<") if newest_first else ("at, id", ">")
        page = self._select(conditions, values, order)
        while page:
            yield from page
            if len(page) < PAGE:
                return
            place = [_value(page[-1].at), _value(page[-1].at), page[-1].id]
            rest = f"at {beyond}= ? AND (at {beyond} ? OR id {beyond} ?)"
            page = self._select([*conditions, rest], [*values, *place], order)

    def written_after(self, id: str) -> list[EventRecord]:  # noqa: A002 - the name of the column
        """Return the events whose rows were made after one with this id, oldest first; at most `PAGE`.

        Raises:
            StateUnavailable: they cannot be read.
        """
        return self._select(["id > ?"], [id], "id")

    def _select(self, conditions: Sequence[str], values: Sequence[Value], order: str) -> list[EventRecord]:
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        statement = f"{_SELECT}{where} ORDER BY {order} LIMIT {PAGE}"
        return self._database.read(
            lambda transaction: [_record(each) for each in transaction.execute(statement, values).fetchall()]
        )


def event_id(at: datetime.datetime, number: int, node: str) -> str:
    """Return the id of a row: later ones are greater, and no two are the same.

    Args:
        at: when the row is made (aware).
        number: of the row among those of the same process.
        node: a few characters that no other process has.
    """
    return f"{int(at.timestamp() * 1000):012x}-{number % 0x1000000:06x}-{node}"


def id_before(id: str, seconds: float) -> str:  # noqa: A002 - the name of the column
    """Return an id that is smaller than those of rows made up to so many seconds before another one."""
    return f"{max(0, int(id.partition('-')[0], 16) - int(seconds * 1000)):012x}"


def _row(record: EventRecord) -> tuple[Value, ...]:
    values = dict(zip(_COLUMNS, _fields(record), strict=True))
    return tuple((values | {"at": _value(record.at), "names": _value(record.names)}).values())


def _value(field: Any) -> Value:
    if isinstance(field, datetime.datetime):
        return int(field.timestamp())
    if isinstance(field, tuple):
        return "\n".join(field)
    value: Value = field
    return value


def _record(row: Sequence[Any]) -> EventRecord:
    fields = dict(zip(_COLUMNS, row, strict=True))
    names = fields["names"]
    fields["names"] = tuple(names.split("\n")) if names else ()
    fields["at"] = datetime.datetime.fromtimestamp(fields["at"], datetime.UTC)
    return EventRecord(**fields)
