"""What the state holds, for those who look at it: nothing is changed, and little is in memory at a time."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from acmems.state.engines.contract import Database, Transaction, Value

_PAGE = 1000  # rows that are read at a time


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """What is planned for a chain.

    Args:
        due: when it is to be renewed (aware).
        is_told: whether that is in the time that its CA has told.
        failures: how often in a row that has failed.
        reason: why the last try has failed, or was not made; None where none was.
    """

    due: datetime.datetime
    is_told: bool
    failures: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class CertificateSummary:
    """What is known of a chain without reading it; all times are aware.

    Args:
        fingerprint: SHA-256 of the leaf, in hex.
        identity: what makes two requests the same, as a digest.
        directory: the URL of the CA's directory.
        names: the names in the leaf.
        block: the auth block that granted it, None where that is not known.
        storage: the storage that it is delivered from.
        serial: the leaf's serial number, in hex.
        not_before: when the leaf becomes valid.
        not_after: the last moment at which it is.
        superseded: when a newer one for the same identity came, None while this is the newest.
        revoked: when the CA has revoked it.
        reason: why it is revoked, or being revoked.
        last_asked: when a client got it last.
        asked_by: that client.
        order_url: the order by which another one is being obtained, None where there is none.
        plan: when it is to be renewed, None where that is not planned.
    """

    fingerprint: str
    identity: str
    directory: str
    names: tuple[str, ...]
    block: str | None
    storage: str | None
    serial: str
    not_before: datetime.datetime
    not_after: datetime.datetime
    superseded: datetime.datetime | None
    revoked: datetime.datetime | None
    reason: str | None
    last_asked: datetime.datetime | None
    asked_by: str | None
    order_url: str | None
    plan: PlanSummary | None = None


@dataclass(frozen=True, slots=True)
class UnfinishedOrder:
    """An order that has begun and whose chain is not there yet.

    Args:
        identity: what makes two requests the same, as a digest.
        csr: the certificate request as the client sent it.
        block: the auth block that granted it.
        begun: when it began (aware).
        url: the order at the CA, None where the CA has not answered yet.
        expires: when the CA forgets it (aware).
    """

    identity: str
    csr: bytes = field(repr=False)
    block: str | None
    begun: datetime.datetime
    url: str | None
    expires: datetime.datetime | None


@dataclass(frozen=True, slots=True)
class LastingPause:
    """Something that is not tried again for now.

    Args:
        subject: what.
        error: what went wrong, as a JSON document.
        failures: how often in a row.
        until: when it may be tried again (aware).
    """

    subject: str
    error: str
    failures: int
    until: datetime.datetime


_SUMMARY = """
    SELECT chains.fingerprint, identity, chains.directory, names, block, storage, serial, not_before,
        not_after, superseded, revoked, chains.reason, last_asked, asked_by,
        (SELECT url FROM orders WHERE orders.identity = chains.identity),
        due, CASE WHEN starts IS NULL THEN 0 ELSE 1 END, failures, renewals.reason
    FROM chains LEFT JOIN renewals ON renewals.fingerprint = chains.fingerprint WHERE
"""
_ORDER = "SELECT identity, csr, block, begun, url, expires FROM orders WHERE"
_IS_WITHOUT_CHAIN = """
    length(csr) > 0 -- what was prepared waits for a CSR
    AND NOT EXISTS (
        SELECT 1 FROM chains WHERE chains.identity = orders.identity AND chains.superseded IS NULL
    )
"""


class StateOverview:
    """Looks at what a state holds.

    Every method raises a `StateUnavailable` where it cannot be read.

    Args:
        database: the state.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def certificates(
        self, *, superseded: bool = False, block: str | None = None, before: datetime.datetime | None = None
    ) -> Iterator[CertificateSummary]:
        """Yield certificates, soonest end first; what changes meanwhile may be missed.

        Args:
            superseded: whether those are among them of which there is a newer one.
            block: of this auth block only.
            before: those only that end at this time (aware) or before it.
        """
        conditions = ["not_after >= ? AND (not_after > ? OR chains.fingerprint > ?)"]
        values: list[Value] = []
        if not superseded:
            conditions.append("superseded IS NULL")
        if block is not None:
            conditions.append("block = ?")
            values.append(block)
        if before is not None:
            conditions.append("not_after <= ?")
            values.append(int(before.timestamp()))
        statement = (
            f"{_SUMMARY} {' AND '.join(conditions)} ORDER BY not_after, chains.fingerprint LIMIT {_PAGE}"
        )
        end, last = -1, ""
        while page := self._rows(statement, end, end, last, *values):
            yield from map(_summary, page)
            if len(page) < _PAGE:
                return
            end, last = page[-1][8], page[-1][0]

    def history(self, identity: str) -> list[CertificateSummary]:
        """Return the certificates of an identity, newest first."""
        rows = self._rows(
            f"{_SUMMARY} identity = ? ORDER BY issued DESC, not_after DESC, chains.fingerprint", identity
        )
        return [_summary(row) for row in rows]

    def new_orders(self) -> Iterator[UnfinishedOrder]:
        """Yield the open orders of identities of which there is no certificate yet, oldest first."""
        yield from map(_order, self._rows(f"{_ORDER} {_IS_WITHOUT_CHAIN} ORDER BY begun"))

    def order(self, identity: str) -> UnfinishedOrder | None:
        """Return the open order of an identity, None where there is none."""
        rows = self._rows(f"{_ORDER} identity = ?", identity)
        return _order(rows[0]) if rows else None

    def pauses(self, now: datetime.datetime) -> list[LastingPause]:
        """Return the pauses that last at a time (aware), the longest first."""
        rows = self._rows(
            "SELECT subject, error, failures, until FROM pauses WHERE until > ? ORDER BY until DESC, subject",
            int(now.timestamp()),
        )
        return [
            LastingPause(subject, error, failures, _time(until)) for subject, error, failures, until in rows
        ]

    def _rows(self, statement: str, *values: Value) -> list[Any]:
        def query(transaction: Transaction) -> list[Any]:
            return transaction.execute(statement, values).fetchall()

        return self._database.read(query)


def _summary(row: Sequence[Any]) -> CertificateSummary:
    *said, due, is_told, failures, failure = row
    fingerprint, identity, directory, names, block, storage, serial, *times, reason, last, by, order = said
    not_before, not_after, superseded, revoked = times
    plan = None if due is None else PlanSummary(_time(due), bool(is_told), failures, failure)
    return CertificateSummary(
        *(fingerprint, identity, directory, tuple(names.split("\n")), block, storage, serial),
        *(_time(not_before), _time(not_after), _time_if(superseded), _time_if(revoked), reason),
        *(_time_if(last), by, order, plan),
    )


def _order(row: Sequence[Any]) -> UnfinishedOrder:
    identity, csr, block, begun, url, expires = row
    return UnfinishedOrder(identity, csr, block, _time(begun), url, _time_if(expires))


def _time(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _time_if(seconds: int | None) -> datetime.datetime | None:
    return None if seconds is None else _time(seconds)
