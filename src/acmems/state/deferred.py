"""Requests whose clients fetch the answer later: what was asked for, and what has come of it."""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from acmems.state.engines.contract import Database, Transaction

ID_BYTES = 24
"""Random bytes of an id."""
MOST_OF_CLIENT = 1000
"""Requests of one client that are kept; of more, the oldest ones are forgotten, ended ones first."""
MOST = 100_000
"""Requests that are kept for long, whoever has made them."""
KEPT = datetime.timedelta(days=1)
"""For how long the answer to a request is kept, or a request of whose answer nobody has heard."""

_COLUMNS = "id, identity, block, csr, begun, fingerprint, status, reason, retry_at"
_PUT = """
    INSERT INTO requests (id, identity, block, client, csr, begun, expires) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (identity, block) DO UPDATE SET client = excluded.client, csr = excluded.csr,
        begun = excluded.begun, expires = excluded.expires, fingerprint = NULL, status = NULL, reason = NULL,
        retry_at = NULL
    RETURNING id
"""
_COUNT = "SELECT count(*) FROM requests WHERE client = ?"
_FORGET_OLDEST = """
    DELETE FROM requests WHERE id IN (
        SELECT id FROM requests WHERE client = ? AND id <> ?
        ORDER BY CASE WHEN fingerprint IS NULL AND status IS NULL THEN 1 ELSE 0 END, begun, id LIMIT ?
    )
"""
_FIND = f"SELECT {_COLUMNS} FROM requests WHERE id = ? AND expires > ?"  # noqa: S608 - names of columns
_END = """
    UPDATE requests SET fingerprint = ?, status = ?, reason = ?, retry_at = ?, expires = ? WHERE id = ?
"""
_TRIM = """
    DELETE FROM requests WHERE id IN (SELECT id FROM requests ORDER BY begun DESC, id LIMIT ? OFFSET ?)
"""
_AT_ONCE = 1000  # rows that are forgotten in one transaction beyond `MOST`


@dataclass(frozen=True, slots=True)
class DeferredOutcome:
    """What has come of a request.

    Args:
        fingerprint: of the chain that is its answer, None where there is none.
        status: the HTTP status of an error.
        reason: what the client is told about that.
        retry_at: when it is worth asking again (aware), None where that is up to the client.
    """

    fingerprint: str | None = None
    status: int | None = None
    reason: str | None = None
    retry_at: datetime.datetime | None = None


@dataclass(frozen=True, slots=True)
class DeferredRequest:
    """A request whose client was told to fetch the answer later.

    Args:
        id: what its URL ends with; nobody can guess it.
        identity: what makes two requests the same, as a digest.
        block: the auth block that granted it.
        csr: the certificate request as the client sent it.
        begun: when it was asked for last (aware, whole seconds).
        outcome: what has come of it, None while that is not known.
    """

    id: str = field(repr=False)
    identity: str
    block: str
    csr: bytes = field(repr=False)
    begun: datetime.datetime
    outcome: DeferredOutcome | None = None


class DeferredRequests:
    """Keeps these requests, so that any server with this state answers for them; for any thread.

    Args:
        database: where they are kept.
        make_id: returns a new id.
    """

    def __init__(
        self, database: Database, make_id: Callable[[], str] = lambda: secrets.token_urlsafe(ID_BYTES)
    ) -> None:
        self._database = database
        self._make_id = make_id

    def begin(
        self, identity: str, block: str, client: str, csr: bytes, now: datetime.datetime
    ) -> Future[str]:
        """Note a request; one that is the same for the same block has the same id as long as it is kept.

        What has come of that before is forgotten.

        Args:
            identity: what makes two requests the same, as a digest.
            block: the auth block that granted it.
            client: whose share of what may be kept it takes.
            csr: the certificate request as the client sent it.
            now: the time (aware).

        Returns:
            a future; it has the id once that is durable, or a `StateUnavailable`.
        """
        row = (self._make_id(), identity, block, client, csr, _seconds(now), _seconds(now + KEPT))

        def change(transaction: Transaction) -> str:
            kept: str = transaction.execute(_PUT, row).fetchone()[0]
            excess = transaction.execute(_COUNT, (client,)).fetchone()[0] - MOST_OF_CLIENT
            if excess > 0:
                transaction.execute(_FORGET_OLDEST, (client, kept, excess))
            return kept

        return self._database.write(change)

    def end(self, request: str, outcome: DeferredOutcome, now: datetime.datetime) -> Future[None]:
        """Note what has come of a request.

        Args:
            request: its id.
            outcome: what has come of it.
            now: the time (aware).
        """
        retry_at = None if outcome.retry_at is None else _seconds(outcome.retry_at)
        said = (outcome.fingerprint, outcome.status, outcome.reason, retry_at)

        def change(transaction: Transaction) -> None:
            transaction.execute(_END, (*said, _seconds(now + KEPT), request))

        return self._database.write(change)

    def find(self, request: str, now: datetime.datetime) -> DeferredRequest | None:
        """Return a request by its id, None where there is none, or it was forgotten.

        Raises:
            StateUnavailable: it cannot be read.
        """
        row = self._database.read(
            lambda transaction: transaction.execute(_FIND, (request, _seconds(now))).fetchone()
        )
        return None if row is None else _request(row)

    def forget(self, now: datetime.datetime) -> None:
        """Forget what nobody has fetched in time, and the oldest of very many; called from time to time."""

        def change(transaction: Transaction) -> None:
            transaction.execute("DELETE FROM requests WHERE expires <= ?", (_seconds(now),))
            transaction.execute(_TRIM, (_AT_ONCE, MOST))

        self._database.write(change, soon=False)


def _request(row: Sequence[Any]) -> DeferredRequest:
    name, identity, block, csr, begun, fingerprint, status, reason, retry_at = row
    outcome = None
    if fingerprint is not None or status is not None:
        outcome = DeferredOutcome(fingerprint, status, reason, None if retry_at is None else _time(retry_at))
    return DeferredRequest(name, identity, block, bytes(csr), _time(begun), outcome)


def _seconds(at: datetime.datetime) -> int:
    return int(at.timestamp())


def _time(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
