"""When each current chain is to be renewed, and what has come of that."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple

from acmems.state.engines.contract import Database, Transaction, Value, marks


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalRecord:
    """The plan for one chain; all times are aware.

    Args:
        fingerprint: SHA-256 of the leaf, in hex.
        directory: the URL of its CA's directory.
        certificate: what the CA calls it (RFC 9773 section 4.1), None where it has no name for it.
        ends_at: when the chain expires.
        due: when it is to be renewed.
        starts: the first moment that the CA wants, None where it has told none.
        ends: the last moment that the CA wants, None where it has told none.
        explanation: the URL of a page that says why, None where there is none.
        next_question: when to ask the CA about it again.
        next_try: when to renew it, or to try again.
        failures: how often in a row that has failed.
        reason: why the last try has failed, None where none has.
        told: when it was told last that this chain is overdue, None while it was not.
        fault: the class of the error that the last try has met, None where none has failed.
    """

    fingerprint: str
    directory: str
    certificate: str | None = None
    ends_at: datetime.datetime
    due: datetime.datetime
    starts: datetime.datetime | None = None
    ends: datetime.datetime | None = None
    explanation: str | None = None
    next_question: datetime.datetime
    next_try: datetime.datetime
    failures: int = 0
    reason: str | None = None
    told: datetime.datetime | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class ComingRenewal:
    """A chain that is going to be renewed, and whose CA has not told when it wants that.

    Args:
        at: when (aware).
        names: the names in the leaf.
    """

    at: datetime.datetime
    names: tuple[str, ...]


_PAGE = 1000  # plans that are read at a time
_MOST_COMING = 200_000  # that are looked at; of more, those that come first
_COMING = """
    SELECT renewals.next_try, chains.names FROM renewals
    JOIN chains ON chains.fingerprint = renewals.fingerprint
    WHERE renewals.directory = ? AND renewals.next_try <= ? AND renewals.starts IS NULL
    AND renewals.ends_at > ? AND chains.superseded IS NULL AND chains.reason IS NULL
    AND COALESCE(chains.last_asked, chains.issued) + chains.not_after - chains.not_before > ?
    ORDER BY renewals.next_try LIMIT ?
"""


class RenewalQuestion(NamedTuple):
    """A chain about which its CA is to be asked, and what that has said last.

    There is one for each chain and question, several times a day: times are seconds since 1970, as they are
    kept, and what is needed only when the CA says something else is not read.

    Args:
        fingerprint: as in `RenewalRecord`, as all that follows.
        directory: the URL of its CA's directory.
        certificate: what the CA calls it, None where it has no name for it.
        ends_at: when the chain expires.
        starts: the first moment that the CA wants, None where it has told none.
        ends: the last moment that the CA wants, None where it has told none.
        explanation: the URL of a page that says why, None where there is none.
    """

    fingerprint: str
    directory: str
    certificate: str | None
    ends_at: int
    starts: int | None = None
    ends: int | None = None
    explanation: str | None = None

    @property
    def said(self) -> tuple[int | None, int | None, str | None]:
        """What the CA has said last."""
        return self[-3:]


_COLUMNS = tuple(each.name for each in dataclasses.fields(RenewalRecord))
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM renewals"  # noqa: S608 - names of columns
_TO_ASK = (
    f"SELECT {', '.join(RenewalQuestion._fields)} FROM renewals "  # noqa: S608 - the same
    "WHERE next_question <= ? ORDER BY next_question LIMIT ?"
)
_POSTPONE = "UPDATE renewals SET next_question = ? WHERE fingerprint = ?"
_WINDOW = "SELECT starts, ends FROM renewals WHERE fingerprint = ?"
_ANSWERED = """
    UPDATE renewals SET starts = ?, ends = ?, explanation = ?, next_question = ?, due = ?,
    next_try = CASE WHEN due = ? THEN next_try ELSE ? END WHERE fingerprint = ?
"""
# What no clock that was right can have led to: it would keep a chain from being renewed, or its CA unasked.
_PUT_OFF = "SELECT fingerprint FROM renewals WHERE next_try > ? AND next_try > due"
_UNASKED = "SELECT fingerprint FROM renewals WHERE next_question > ? AND ends_at > ?"
_WITHOUT_PLAN = """
    SELECT fingerprint FROM chains WHERE superseded IS NULL AND reason IS NULL AND not_after > ?
    AND is_planned = 1 AND NOT EXISTS (SELECT 1 FROM renewals WHERE fingerprint = chains.fingerprint)
"""
_TRIED = (
    "UPDATE renewals SET next_try = ?, failures = ?, reason = ?, told = ?, fault = ? WHERE fingerprint = ?"
)
_PUT = (
    f"INSERT INTO renewals ({', '.join(_COLUMNS)}) VALUES ({marks(_COLUMNS)}) "  # noqa: S608 - the same
    "ON CONFLICT (fingerprint) DO UPDATE SET "
    + ", ".join(f"{each} = excluded.{each}" for each in _COLUMNS[1:])
)


class RenewalRecords:
    """Keeps the plans; for any thread.

    Args:
        database: where they are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, fingerprint: str) -> RenewalRecord | None:
        """Return the plan for a chain, None where there is none yet.

        Raises:
            StateUnavailable: they cannot be read.
        """
        found = self._select(f"{_SELECT} WHERE fingerprint = ?", fingerprint)
        return found[0] if found else None

    def window(self, fingerprint: str) -> tuple[datetime.datetime, datetime.datetime] | None:
        """Return when the CA wants a chain to be renewed, its first and last moment; None if it told none.

        Raises:
            StateUnavailable: they cannot be read.
        """
        row = self._database.read(lambda transaction: transaction.execute(_WINDOW, (fingerprint,)).fetchone())
        return None if row is None or None in row else (_time(row[0]), _time(row[1]))

    def those(self, fingerprints: Sequence[str]) -> list[RenewalRecord]:
        """Return the plans for some chains, in any order; those without a plan are left out.

        Args:
            fingerprints: of at most some hundred chains.

        Raises:
            StateUnavailable: they cannot be read.
        """
        if not fingerprints:
            return []
        return self._select(f"{_SELECT} WHERE fingerprint IN ({marks(fingerprints)})", *fingerprints)

    def to_ask(self, now: datetime.datetime, most: int) -> list[RenewalQuestion]:
        """Return what the CA is to be asked about, the most overdue first.

        Raises:
            StateUnavailable: they cannot be read.
        """
        return self._database.read(
            lambda transaction: list(
                map(RenewalQuestion._make, transaction.execute(_TO_ASK, (_seconds(now), most)))
            )
        )

    def answered(self, plans: Sequence[RenewalRecord]) -> Future[None]:
        """Keep what CAs have said about chains: the window, and what follows from it.

        What has come of a try meanwhile stays, and a plan that was removed meanwhile stays removed.

        Args:
            plans: the plans.
        """
        return self._write_all(_ANSWERED, [_answered(each) for each in plans], soon=True)

    def tried(self, plan: RenewalRecord) -> Future[None]:
        """Keep what has come of a try that failed: how often it has, why, and when to try again.

        What the CA has said meanwhile stays, and a plan that was removed meanwhile stays removed.

        Args:
            plan: the plan.
        """
        row = (
            _seconds(plan.next_try),
            plan.failures,
            plan.reason,
            _seconds_or_none(plan.told),
            plan.fault,
            plan.fingerprint,
        )
        return self._write_all(_TRIED, [row], soon=False)

    def postpone(self, questions: Sequence[tuple[int, str]]) -> Future[None]:
        """Take note of when to ask again about chains of which nothing new was heard.

        Args:
            questions: that time, in seconds since 1970, and the fingerprint of each chain.
        """
        return self._write_all(_POSTPONE, questions, soon=True)

    def to_try(self, now: datetime.datetime, most: int) -> list[RenewalRecord]:
        """Return the plans that are to be carried out, the most overdue first.

        Raises:
            StateUnavailable: they cannot be read.
        """
        return self._select(f"{_SELECT} WHERE next_try <= ? ORDER BY next_try LIMIT ?", _seconds(now), most)

    def due(self, until: datetime.datetime, most: int) -> list[tuple[str, datetime.datetime]]:
        """Return the chains that are due until some time by the word of their CA, the most overdue first.

        Each is its fingerprint, and when it is due.

        Raises:
            StateUnavailable: they cannot be read.
        """
        statement = (
            "SELECT fingerprint, due FROM renewals WHERE due <= ? AND starts IS NOT NULL ORDER BY due LIMIT ?"
        )
        rows: list[tuple[str, int]] = self._database.read(
            lambda transaction: transaction.execute(statement, (_seconds(until), most)).fetchall()
        )
        return [(name, datetime.datetime.fromtimestamp(due, datetime.UTC)) for name, due in rows]

    def planned(self) -> Iterator[tuple[str, datetime.datetime, bool]]:
        """Yield all chains that have plans, by their fingerprints; what changes meanwhile may be missed.

        Each is its fingerprint, when it is due, and whether that is by the word of its CA.

        Raises:
            StateUnavailable: they cannot be read.
        """
        statement = (
            "SELECT fingerprint, due, CASE WHEN starts IS NULL THEN 0 ELSE 1 END FROM renewals "
            "WHERE fingerprint > ? ORDER BY fingerprint LIMIT ?"
        )
        last = ""
        while page := self._page(statement, last):
            for last, due, is_told in page:
                yield last, datetime.datetime.fromtimestamp(due, datetime.UTC), bool(is_told)

    def coming(self, directory: str, now: datetime.datetime, until: datetime.datetime) -> list[ComingRenewal]:
        """Return the renewals until some time that a CA may count, first ones first.

        Those are not among them that it has told when it wants, nor those whose client has not asked for as
        long as a certificate is valid.

        Args:
            directory: the URL of the CA's directory.
            now: the time (aware).
            until: until when (aware).

        Raises:
            StateUnavailable: they cannot be read.
        """
        row = (directory, _seconds(until), _seconds(now), _seconds(now), _MOST_COMING)

        def query(transaction: Transaction) -> list[ComingRenewal]:
            found = transaction.execute(_COMING, row).fetchall()
            return [
                ComingRenewal(datetime.datetime.fromtimestamp(at, datetime.UTC), tuple(names.split("\n")))
                for at, names in found
            ]

        return self._database.read(query)

    def count(self, until: datetime.datetime) -> int:
        """Return how many chains are due until some time.

        Raises:
            StateUnavailable: they cannot be read.
        """
        statement = "SELECT count(*) FROM renewals WHERE next_try <= ?"
        found: int = self._database.read(
            lambda transaction: transaction.execute(statement, (_seconds(until),)).fetchone()[0]
        )
        return found

    def unplanned(self, most: int) -> list[str]:
        """Return the fingerprints of chains that have never had a plan, history included.

        Raises:
            StateUnavailable: they cannot be read.
        """
        statement = "SELECT fingerprint FROM chains WHERE is_planned = 0 LIMIT ?"
        return self._database.read(
            lambda transaction: [row[0] for row in transaction.execute(statement, (most,)).fetchall()]
        )

    def begin(self, fingerprints: Sequence[str], plans: Sequence[RenewalRecord]) -> Future[None]:
        """Take note of chains that were looked at for the first time, and keep their plans.

        Args:
            fingerprints: of all chains that were looked at.
            plans: of those that are current.
        """
        rows = [_row(each) for each in plans]
        looked_at = [(each,) for each in fingerprints]

        def change(transaction: Transaction) -> None:
            transaction.executemany("UPDATE chains SET is_planned = 1 WHERE fingerprint = ?", looked_at)
            transaction.executemany(_PUT, rows)

        return self._database.write(change)

    def correct(self, now: datetime.datetime, longest: datetime.timedelta) -> int:
        """Undo what a clock has done that was ahead, and return how many chains that is about.

        By such a clock chains have expired that are valid, and what was put off for minutes is put off for
        as long as the clock was ahead.

        Args:
            now: the time (aware).
            longest: for so long is put off what is put off.

        Raises:
            StateUnavailable: they cannot be read or written.
        """
        at, later = _seconds(now), _seconds(now + longest)

        def query(transaction: Transaction) -> tuple[list[Any], list[Any], list[Any]]:
            return (
                transaction.execute(_PUT_OFF, (later,)).fetchall(),
                transaction.execute(_UNASKED, (later, at)).fetchall(),
                transaction.execute(_WITHOUT_PLAN, (at,)).fetchall(),
            )

        put_off, unasked, without_plan = self._database.read(query)

        def change(transaction: Transaction) -> None:
            statement = "UPDATE renewals SET next_try = due, told = NULL WHERE fingerprint = ?"
            transaction.executemany(statement, put_off)
            transaction.executemany(_POSTPONE, [(at, name) for (name,) in unasked])
            transaction.executemany("UPDATE chains SET is_planned = 0 WHERE fingerprint = ?", without_plan)

        concerned = {*put_off, *unasked, *without_plan}
        if concerned:
            self._database.write(change).result()
        return len(concerned)

    def remove(self, fingerprint: str) -> Future[None]:
        """Remove the plan for a chain that was renewed."""

        def change(transaction: Transaction) -> None:
            transaction.execute("DELETE FROM renewals WHERE fingerprint = ?", (fingerprint,))

        return self._database.write(change, soon=False)

    def _page(self, statement: str, last: str) -> list[Any]:
        return self._database.read(
            lambda transaction: transaction.execute(statement, (last, _PAGE)).fetchall()
        )

    def _write_all(self, statement: str, rows: Sequence[Sequence[Value]], *, soon: bool) -> Future[None]:
        def change(transaction: Transaction) -> None:
            transaction.executemany(statement, rows)

        return self._database.write(change, soon=soon)

    def _select(self, statement: str, *row: Value) -> list[RenewalRecord]:
        return self._database.read(
            lambda transaction: [_record(each) for each in transaction.execute(statement, row).fetchall()]
        )


# There are very many of these rows: columns are named one by one, which costs less than to look for each.


def _row(record: RenewalRecord) -> tuple[Value, ...]:
    """Return the values of `_COLUMNS`."""
    return (
        record.fingerprint,
        record.directory,
        record.certificate,
        _seconds(record.ends_at),
        _seconds(record.due),
        _seconds_or_none(record.starts),
        _seconds_or_none(record.ends),
        record.explanation,
        _seconds(record.next_question),
        _seconds(record.next_try),
        record.failures,
        record.reason,
        _seconds_or_none(record.told),
        record.fault,
    )


def _record(row: Sequence[Any]) -> RenewalRecord:
    """Return the plan that a row of `_COLUMNS` holds."""
    (
        fingerprint,
        directory,
        certificate,
        ends_at,
        due,
        starts,
        ends,
        explanation,
        next_question,
        next_try,
        failures,
        reason,
        told,
        fault,
    ) = row
    return RenewalRecord(
        fingerprint=fingerprint,
        directory=directory,
        certificate=certificate,
        ends_at=_time(ends_at),
        due=_time(due),
        starts=None if starts is None else _time(starts),
        ends=None if ends is None else _time(ends),
        explanation=explanation,
        next_question=_time(next_question),
        next_try=_time(next_try),
        failures=failures,
        reason=reason,
        told=None if told is None else _time(told),
        fault=fault,
    )


def _answered(record: RenewalRecord) -> tuple[Value, ...]:
    """Return the values of `_ANSWERED`."""
    due = _seconds(record.due)
    return (
        _seconds_or_none(record.starts),
        _seconds_or_none(record.ends),
        record.explanation,
        _seconds(record.next_question),
        due,
        due,
        due,
        record.fingerprint,
    )


def _time(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _seconds(at: datetime.datetime) -> int:
    return int(at.timestamp())


def _seconds_or_none(at: datetime.datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())
