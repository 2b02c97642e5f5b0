"""Every chain that was issued: those that are current, and their history."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Self

from acmems.state.engines.contract import Database, Transaction, Value
from acmems.x509.chain import Chain

_PAGE = 500  # rows at a time, for those who look at all
_MOST_ASKED = 10_000  # chains whose deliveries are summed up in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainRecord:
    """A chain that was issued, and what is known of it; all times are aware.

    Args:
        fingerprint: SHA-256 of the leaf, in hex.
        identity: what makes two requests the same, as a digest.
        directory: the URL of the CA's directory.
        profile: the ACME profile of its order, None for the CA's default.
        names: the names in the leaf.
        block: the auth block that granted it, None where that is not known.
        storage: the storage that it is delivered from.
        client: who asked for it, None where that is not known.
        reference: names that request in the log.
        serial: the leaf's serial number, in hex.
        key_digest: SHA-256 of the leaf's public key, in hex.
        csr: the certificate request as the client sent it, None where that is not known.
        pem: the chain.
        order_url: the order at the CA, None where that is not known.
        not_before: when the leaf becomes valid.
        not_after: the last moment at which it is.
        issued: when it was.
        superseded: when a newer one for the same identity came, None while this is the newest.
        revoked: when the CA has revoked it.
        reason: why it is revoked, or being revoked; None for a chain that may be delivered.
        last_asked: when a client got it last.
        asked_by: that client.
        asked: how often clients got it.
    """

    fingerprint: str
    identity: str
    directory: str
    profile: str | None = None
    names: tuple[str, ...]
    block: str | None = None
    storage: str | None = None
    client: str | None = None
    reference: str | None = None
    serial: str
    key_digest: str
    csr: bytes | None = field(default=None, repr=False)
    pem: bytes = field(repr=False)
    order_url: str | None = None
    not_before: datetime.datetime
    not_after: datetime.datetime
    issued: datetime.datetime
    superseded: datetime.datetime | None = None
    revoked: datetime.datetime | None = None
    reason: str | None = None
    last_asked: datetime.datetime | None = None
    asked_by: str | None = None
    asked: int = 0

    @classmethod
    def of(
        cls,
        chain: Chain,
        *,
        identity: str,
        directory: str,
        profile: str | None,
        issued: datetime.datetime,
        block: str | None = None,
        storage: str | None = None,
        client: str | None = None,
        reference: str | None = None,
        csr: bytes | None = None,
    ) -> Self:
        """Return what is to be kept of a chain."""
        return cls(
            fingerprint=chain.fingerprint,
            identity=identity,
            directory=directory,
            profile=profile,
            names=tuple(identifier.value for identifier in chain.identifiers),
            block=block,
            storage=storage,
            client=client,
            reference=reference,
            serial=f"{chain.serial:x}",
            key_digest=hashlib.sha256(chain.spki).hexdigest(),
            csr=csr,
            pem=chain.pem,
            not_before=chain.not_before,
            not_after=chain.not_after,
            issued=issued,
        )

    @property
    def is_current(self) -> bool:
        """Whether it may be delivered: it is the newest one, and neither revoked nor being revoked."""
        return self.superseded is None and self.reason is None


_COLUMNS = tuple(each.name for each in dataclasses.fields(ChainRecord))
_TIMES = ("not_before", "not_after", "issued", "superseded", "revoked", "last_asked")
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM chains"  # noqa: S608 - names of columns
_IS_CURRENT = "superseded IS NULL AND reason IS NULL"
# What is known of a chain stays known when it comes again, as from a further storage; its PEM may be mended.
_KNOWN = ("block", "storage", "client", "reference", "csr", "order_url")
_INSERT = (
    f"INSERT INTO chains ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' for _ in _COLUMNS)}) "  # noqa: S608 - names of columns
    f"ON CONFLICT (fingerprint) DO UPDATE SET pem = excluded.pem, "
    + ", ".join(f"{each} = COALESCE(chains.{each}, excluded.{each})" for each in _KNOWN)
)
_FIND_ORDER = """
    UPDATE chains SET order_url = (SELECT url FROM orders WHERE orders.identity = chains.identity)
    WHERE fingerprint = ? AND order_url IS NULL
"""
_SUPERSEDE_OTHERS = """
    UPDATE chains SET superseded = ? WHERE identity = ? AND fingerprint <> ? AND superseded IS NULL
    AND EXISTS (SELECT 1 FROM chains AS newest WHERE newest.fingerprint = ? AND newest.superseded IS NULL)
"""
_FORGET_PLANS = """
    DELETE FROM renewals WHERE fingerprint IN (
        SELECT fingerprint FROM chains WHERE identity = ? AND superseded = ?
    )
"""
_IS_NEWER_THERE = """
    SELECT 1 FROM chains WHERE identity = ? AND fingerprint <> ? AND superseded IS NULL AND not_before >= ?
"""
_REVOKING = "UPDATE chains SET reason = ? WHERE fingerprint = ? AND revoked IS NULL"
_REVOKED = "UPDATE chains SET revoked = ?, reason = ? WHERE fingerprint = ?"
_ASKED = "UPDATE chains SET last_asked = ?, asked_by = ?, asked = asked + ? WHERE fingerprint = ?"


@dataclass(slots=True)
class _Asked:
    """How often a chain was delivered since that was written, and the last time."""

    count: int
    client: str
    at: datetime.datetime


class ChainRecords:
    """Keeps chains and their history; for any thread.

    The futures are done when a change is durable, and hold a `StateUnavailable` where it cannot be made.

    Args:
        database: where they are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()  # guards what follows
        self._asked: dict[str, _Asked] = {}

    def add(self, record: ChainRecord, *, soon: bool = True) -> Future[None]:
        """Keep a chain, in place of older ones for the same identity, which become history.

        What is kept of it already stays; only what was not known then is added.

        Args:
            record: the chain.
            soon: whether it is urgent; otherwise it is written with the next change.
        """
        return self._database.write(lambda transaction: _add(transaction, record), soon=soon)

    def adopt(self, records: Sequence[ChainRecord]) -> Future[int]:
        """Keep chains that were issued at some time; older ones than those that are kept become history.

        Args:
            records: the chains.

        Returns:
            a future with the number of those that were not kept before.
        """

        def change(transaction: Transaction) -> int:
            return sum(_adopt(transaction, record) for record in records)

        return self._database.write(change)

    def newest(self, identity: str) -> ChainRecord | None:
        """Return the chain to deliver for an identity, None where there is none that may be delivered.

        Raises:
            StateUnavailable: they cannot be read.
        """
        rows = self._select(
            f"{_SELECT} WHERE identity = ? AND {_IS_CURRENT} ORDER BY issued DESC, fingerprint LIMIT 1",
            identity,
        )
        return rows[0] if rows else None

    def of(self, fingerprints: Sequence[str]) -> list[ChainRecord]:
        """Return some chains, in any order; those that are not kept are left out.

        Args:
            fingerprints: of at most some hundred chains.

        Raises:
            StateUnavailable: they cannot be read.
        """
        if not fingerprints:
            return []
        places = ", ".join("?" for _ in fingerprints)
        return self._select(f"{_SELECT} WHERE fingerprint IN ({places})", *fingerprints)

    def is_current(self, fingerprint: str) -> bool:
        """Tell whether a chain may still be delivered, which costs less than to read it.

        Raises:
            StateUnavailable: they cannot be read.
        """
        statement = f"SELECT 1 FROM chains WHERE fingerprint = ? AND {_IS_CURRENT}"  # noqa: S608 - a constant
        return self._database.read(
            lambda transaction: transaction.execute(statement, (fingerprint,)).fetchone() is not None
        )

    def find(self, wanted: str) -> list[ChainRecord]:
        """Return the chains that a person may mean, newest first, history included.

        Args:
            wanted: a name in the leaf, its serial number or its SHA-256 fingerprint; both in hex, with or
                without colons.

        Raises:
            StateUnavailable: they cannot be read.
        """
        digits = wanted.replace(":", "").lower()
        name = wanted.lower().translate({ord(each): f"\\{each}" for each in "\\%_"})
        return self._select(
            f"{_SELECT} WHERE fingerprint = ? OR serial = ? OR ? || names || ? LIKE ? ESCAPE '\\' "
            "ORDER BY issued DESC, fingerprint",
            *(digits, digits.lstrip("0"), "\n", "\n", f"%\n{name}\n%"),
        )

    def all(self, *, current_only: bool = True) -> Iterator[ChainRecord]:
        """Yield the chains, soonest end first; what changes meanwhile may be missed.

        Args:
            current_only: whether to leave out what is superseded, revoked or being revoked.

        Raises:
            StateUnavailable: they cannot be read.
        """
        condition = f"AND {_IS_CURRENT} " if current_only else ""
        statement = (
            f"{_SELECT} WHERE (not_after > ? OR (not_after = ? AND fingerprint > ?)) {condition}"
            f"ORDER BY not_after, fingerprint LIMIT {_PAGE}"
        )
        end, last = -1, ""
        while page := self._select(statement, end, end, last):
            yield from page
            end, last = int(page[-1].not_after.timestamp()), page[-1].fingerprint

    def asked(self, fingerprint: str, client: str, at: datetime.datetime) -> None:
        """Take note that a client got a chain; it is written by `save_asked`, in sums.

        Args:
            fingerprint: the chain's; one that is not kept is not an error.
            client: who got it.
            at: when.
        """
        with self._lock:
            known = self._asked.get(fingerprint)
            if known is not None:
                known.count, known.client, known.at = known.count + 1, client, at
            else:
                self._asked[fingerprint] = _Asked(1, client, at)
            is_full = len(self._asked) >= _MOST_ASKED
        if is_full:
            self.save_asked(soon=True)

    def save_asked(self, *, soon: bool = False) -> None:
        """Have the deliveries since the last time written; called from time to time.

        Args:
            soon: whether it is urgent; otherwise they are written with the next change.
        """
        with self._lock:
            asked, self._asked = self._asked, {}
        if asked:
            # In one order everywhere, so that two servers never wait for rows of each other.
            rows = [
                (_seconds(each.at), each.client, each.count, fingerprint)
                for fingerprint, each in sorted(asked.items())
            ]
            self._database.write(lambda transaction: _execute_many(transaction, _ASKED, rows), soon=soon)

    def revoking(self, fingerprint: str, reason: str) -> Future[None]:
        """Note that a chain is going to be revoked: from then on it is never delivered.

        Args:
            fingerprint: the chain's.
            reason: why, as RFC 5280 names it.
        """
        return self._write(_REVOKING, reason, fingerprint)

    def revoked(self, fingerprint: str, at: datetime.datetime, reason: str) -> Future[None]:
        """Note that the CA has revoked a chain.

        Args:
            fingerprint: the chain's.
            at: when.
            reason: why, as RFC 5280 names it.
        """
        return self._write(_REVOKED, _seconds(at), reason, fingerprint)

    def _write(self, statement: str, *row: Value) -> Future[None]:
        def change(transaction: Transaction) -> None:
            transaction.execute(statement, row)

        return self._database.write(change)

    def _select(self, statement: str, *row: Value) -> list[ChainRecord]:
        return self._database.read(
            lambda transaction: [_record(each) for each in transaction.execute(statement, row).fetchall()]
        )


def _add(transaction: Transaction, record: ChainRecord) -> None:
    transaction.execute(_INSERT, _row(record))
    transaction.execute(_FIND_ORDER, (record.fingerprint,))
    superseded = transaction.execute(
        _SUPERSEDE_OTHERS,
        (_seconds(record.issued), record.identity, record.fingerprint, record.fingerprint),
    )
    if superseded.rowcount:
        transaction.execute(_FORGET_PLANS, (record.identity, _seconds(record.issued)))


def _adopt(transaction: Transaction, record: ChainRecord) -> bool:
    """Keep a chain beside those that are kept already; tell whether it is new."""
    known = transaction.execute(
        "SELECT 1 FROM chains WHERE fingerprint = ?", (record.fingerprint,)
    ).fetchone()
    place = (record.identity, record.fingerprint, _seconds(record.not_before))
    if known is None and transaction.execute(_IS_NEWER_THERE, place).fetchone() is not None:
        record = dataclasses.replace(record, superseded=record.issued)
    _add(transaction, record)
    return known is None


def _execute_many(transaction: Transaction, statement: str, rows: Sequence[tuple[Value, ...]]) -> None:
    transaction.executemany(statement, rows)


def _row(record: ChainRecord) -> tuple[Value, ...]:
    return tuple(_value(getattr(record, column)) for column in _COLUMNS)


def _value(field: Any) -> Value:
    if isinstance(field, datetime.datetime):
        return _seconds(field)
    if isinstance(field, tuple):
        return "\n".join(field)
    value: Value = field
    return value


def _record(row: Sequence[Any]) -> ChainRecord:
    fields = dict(zip(_COLUMNS, row, strict=True))
    fields |= {column: _time(fields[column]) for column in _TIMES}
    return ChainRecord(**fields | {"names": tuple(fields["names"].split("\n"))})


def _seconds(at: datetime.datetime) -> int:
    return int(at.timestamp())


def _time(seconds: int | None) -> datetime.datetime | None:
    return None if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.UTC)
