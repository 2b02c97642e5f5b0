"""The chains in the state: kept, found, superseded and revoked."""

from __future__ import annotations

import dataclasses
import datetime
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from acmems.exceptions import StateUnavailable
from acmems.state.chains.deliveries import DeliveryCounts
from acmems.state.chains.putting import put
from acmems.state.chains.recent import RecentChains
from acmems.state.chains.record import COLUMNS, ChainRecord, digest_of_names, seconds
from acmems.state.engines.contract import Change, Database, Transaction, Value, marks
from acmems.x509 import chain as chains
from acmems.x509.chain import Chain

logger = logging.getLogger(__name__)

T = TypeVar("T")

PAGE = 500
"""Rows at a time, for those who look at all."""

KEY_COMPROMISE = "keyCompromise"
"""The reason of a revocation after which a public key gets no certificate any more (RFC 5280)."""

_MOST_UNWRITTEN = 1000  # chains that are remembered until they can be noted

_SELECT = f"SELECT {', '.join(COLUMNS)} FROM chains"  # noqa: S608 - names of columns
_IS_CURRENT = "superseded IS NULL AND reason IS NULL"
_FORGOTTEN_AT_ONCE = 5000
_FORGET = """
    DELETE FROM chains WHERE fingerprint IN (
        SELECT fingerprint FROM chains WHERE not_after <= ? AND superseded IS NOT NULL AND reason IS NULL
        ORDER BY not_after LIMIT ?
    )
"""  # what was revoked stays: it says which keys are compromised
_IS_NEWER_THERE = """
    SELECT 1 FROM chains WHERE identity = ? AND fingerprint <> ? AND superseded IS NULL AND not_before >= ?
"""
_NEWEST = f"WHERE identity = ? AND {_IS_CURRENT} ORDER BY issued DESC, fingerprint LIMIT 1"
_NEWEST_PEM = f"SELECT fingerprint, storage, pem FROM chains {_NEWEST}"  # noqa: S608 - constants
_CURRENT = f"SELECT 1 FROM chains WHERE fingerprint = ? AND {_IS_CURRENT}"  # noqa: S608 - a constant
_MOVED = "UPDATE chains SET storage = ? WHERE fingerprint = ?"
_OF_STORAGE = (
    f"SELECT fingerprint FROM chains WHERE {_IS_CURRENT} AND storage = ? AND fingerprint > ? "  # noqa: S608 - a constant
    f"ORDER BY fingerprint LIMIT {PAGE}"
)
_UNDELIVERABLE = "SELECT fingerprint FROM chains WHERE reason IS NOT NULL AND not_after > acmems_now()"
_COMPROMISED = "SELECT DISTINCT key_digest FROM chains WHERE reason = ?"
_SAID = ("names", "serial", "key_digest", "pem", "not_before", "not_after")
_MEND = (
    f"UPDATE chains SET {', '.join(f'{each} = ?' for each in _SAID)}, names_digest = ? WHERE fingerprint = ?"  # noqa: S608 - names of columns
)
_LAST_SEEN = """
    SELECT MAX(last_asked), MAX(CASE WHEN client IS NULL THEN NULL ELSE issued END)
    FROM chains WHERE identity = ?
"""
_HAVE_VALID = "SELECT 1 FROM chains WHERE names_digest = ? AND directory = ? AND not_after > ? LIMIT 1"
_ISSUED_SINCE = "SELECT count(*) FROM chains WHERE identity = ? AND issued >= ?"
_HAVE_NAMES = "SELECT 1 FROM chains WHERE names_digest = ? AND directory = ? AND issued >= ? LIMIT 1"
# What the CA was told first holds, and that a key is compromised holds for ever: it must never be used again.
_REASON = f"""
    CASE WHEN reason IS NULL OR revoked IS NULL AND reason <> '{KEY_COMPROMISE}' OR ? = '{KEY_COMPROMISE}'
    THEN ? ELSE reason END
"""
_REVOKING = f"UPDATE chains SET reason = {_REASON} WHERE fingerprint = ?"  # noqa: S608 - constants
_REVOKED = f"UPDATE chains SET revoked = COALESCE(revoked, ?), reason = {_REASON} WHERE fingerprint = ?"  # noqa: S608 - constants


class ChainRecords:
    """Keeps chains and their history; for any thread.

    The futures are done when a change is durable, and hold a `StateUnavailable` where it cannot be made.

    Args:
        database: where they are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._recent = RecentChains()
        self._deliveries = DeliveryCounts(database)
        self._revoked: set[str] = set()  # fingerprints
        self._compromised: set[str] = set()  # digests of public keys
        self._unwritten: deque[ChainRecord] = deque(maxlen=_MOST_UNWRITTEN)

    @property
    def is_shared(self) -> bool:
        """Whether other processes may change them, so that a look-up may wait for those or for a network."""
        return self._database.is_shared

    def check(self) -> Future[None]:
        """Write a little, as `Database.check`."""
        return self._database.check()

    def add(self, record: ChainRecord, *, soon: bool = True) -> Future[None]:
        """Keep a chain, in place of older ones for the same identity, which become history.

        What is kept of it already stays; only what was not known then is added.

        Args:
            record: the chain.
            soon: whether it is urgent; otherwise it is written with the next change, and where that cannot be
                made, `keep_up` tries again.
        """
        written = self._change([record.identity], lambda transaction: put(transaction, record), soon=soon)
        if not soon:
            written.add_done_callback(lambda written: self._note_failure(written, record))
        return written

    @staticmethod
    def adopt_in(transaction: Transaction, record: ChainRecord) -> None:
        """Keep a chain that was issued at some time, as `adopt` does, together with other changes."""
        _adopt(transaction, record)

    @staticmethod
    def newest_of(transaction: Transaction, identities: Sequence[str]) -> dict[str, ChainRecord]:
        """Return the chains to deliver for identities, as `newest` does, in a transaction; by identity."""
        if not identities:
            return {}
        condition = (
            f"WHERE identity IN ({marks(identities)}) AND {_IS_CURRENT} ORDER BY issued, fingerprint DESC"
        )
        found = map(ChainRecord.from_row, transaction.execute(f"{_SELECT} {condition}", identities))
        return {each.identity: each for each in found}  # the last one of each counts

    @staticmethod
    def is_kept(transaction: Transaction, fingerprint: str) -> bool:
        """Tell whether a chain is kept, whether it is delivered or not."""
        known = transaction.execute("SELECT 1 FROM chains WHERE fingerprint = ?", (fingerprint,))
        return known.fetchone() is not None

    def adopt(self, records: Sequence[ChainRecord]) -> Future[int]:
        """Keep chains that were issued at some time; older ones than those that are kept become history.

        Args:
            records: the chains.

        Returns:
            a future with the number of those that were not kept before.
        """

        def change(transaction: Transaction) -> int:
            return sum(_adopt(transaction, record) for record in records)

        return self._change([record.identity for record in records], change)

    def mend(self, record: ChainRecord) -> Future[None]:
        """Put what a certificate says in the place of what a damaged row holds.

        Args:
            record: the chain; what is known besides stays.
        """
        said = dict(zip(COLUMNS, record.row, strict=True))
        row = [*(said[column] for column in _SAID), record.names_digest, record.fingerprint]

        def change(transaction: Transaction) -> None:
            transaction.execute(_MEND, row)

        return self._change([record.fingerprint, record.identity], change)

    def forget(self, before: datetime.datetime) -> None:
        """Forget history: the first thousands of chains that had expired, with a newer one for the same.

        Those that were revoked are kept.

        Args:
            before: when they had (aware).
        """

        def change(transaction: Transaction) -> None:
            transaction.execute(_FORGET, (seconds(before), _FORGOTTEN_AT_ONCE))

        self._database.write(change, soon=False)

    def newest(self, identity: str) -> ChainRecord | None:
        """Return the chain to deliver for an identity, None where there is none that may be delivered.

        Raises:
            StateUnavailable: they cannot be read.
        """
        return self._database.read(lambda transaction: self.newest_of(transaction, [identity]).get(identity))

    def current(self, identity: str, storage: str) -> Chain | None:
        """Return the chain to deliver for an identity, as `newest`, but from memory where that is right.

        What no other process may change is not read again. Otherwise it is asked whether that still holds;
        where the database is away, a chain that was delivered lately is taken for good.

        Args:
            identity: what makes two requests the same, as a digest.
            storage: the storage that it is delivered from.

        Raises:
            StateUnavailable: they cannot be read, and it was not delivered lately.
        """
        known = self._recent.get(identity)
        if known is not None and not self.is_shared:
            return known
        try:
            if known is not None:
                if self.is_current(known.fingerprint):
                    return known
                self._recent.forget(known)
            return self._read_current(identity, storage)
        except StateUnavailable:
            if known is None:
                raise
            return known

    def of(self, fingerprints: Sequence[str]) -> list[ChainRecord]:
        """Return some chains, in any order; those that are not kept are left out.

        Args:
            fingerprints: of at most some hundred chains.

        Raises:
            StateUnavailable: they cannot be read.
        """
        if not fingerprints:
            return []
        return self._select(f"{_SELECT} WHERE fingerprint IN ({marks(fingerprints)})", *fingerprints)

    def have_names(self, names: Sequence[str], directory: str, since: datetime.datetime) -> bool:
        """Tell whether a CA has issued a chain for exactly these names, history included.

        Args:
            names: the names, in any order.
            directory: the URL of its directory.
            since: chains that were issued before this time (aware) do not count.

        Raises:
            StateUnavailable: they cannot be read.
        """
        return bool(self._rows(_HAVE_NAMES, digest_of_names(names), directory, seconds(since)))

    def have_valid(self, names: Sequence[str], directory: str, now: datetime.datetime) -> bool:
        """Tell whether a chain of a CA for exactly these names is valid at a time (aware).

        Raises:
            StateUnavailable: they cannot be read.
        """
        return bool(self._rows(_HAVE_VALID, digest_of_names(names), directory, seconds(now)))

    def issued_since(self, identity: str, since: datetime.datetime) -> int:
        """Return how many chains of an identity were issued since a time (aware), history included.

        Raises:
            StateUnavailable: they cannot be read.
        """
        found: int = self._rows(_ISSUED_SINCE, identity, seconds(since))[0][0]
        return found

    def last_seen(self, identity: str) -> datetime.datetime | None:
        """Return when a client has asked for the chain of an identity last, None where none ever has.

        Raises:
            StateUnavailable: they cannot be read.
        """
        known = [each for row in self._rows(_LAST_SEEN, identity) for each in row if each is not None]
        return datetime.datetime.fromtimestamp(max(known), datetime.UTC) if known else None

    def is_current(self, fingerprint: str) -> bool:
        """Tell whether a chain may still be delivered, which costs less than to read it.

        Raises:
            StateUnavailable: they cannot be read.
        """
        return bool(self._rows(_CURRENT, fingerprint))

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

    def with_serial(self, serial: int) -> list[ChainRecord]:
        """Return the chains whose leaf has a serial number, as `find`; several CAs may use the same."""
        return self._select(f"{_SELECT} WHERE serial = ?", f"{serial:x}")

    def all(self, *, current_only: bool = True) -> Iterator[ChainRecord]:
        """Yield the chains, soonest end first; what changes meanwhile may be missed.

        Args:
            current_only: whether to leave out what is superseded, revoked or being revoked.

        Raises:
            StateUnavailable: they cannot be read.
        """
        condition = f"AND {_IS_CURRENT} " if current_only else ""
        statement = (
            f"{_SELECT} WHERE (not_after, fingerprint) > (?, ?) {condition}"
            f"ORDER BY not_after, fingerprint LIMIT {PAGE}"
        )
        end, last = -1, ""
        while page := self._select(statement, end, last):
            yield from page
            end, last = seconds(page[-1].not_after), page[-1].fingerprint

    def current_of(self, storage: str) -> Iterator[str]:
        """Yield the fingerprints of the current chains that are delivered from a storage.

        Raises:
            StateUnavailable: they cannot be read.
        """
        last = ""
        while page := self._rows(_OF_STORAGE, storage, last):
            yield from (fingerprint for (fingerprint,) in page)
            (last,) = page[-1]

    def pem_of(self, fingerprint: str) -> bytes | None:
        """Return a chain in PEM, None where it is not kept.

        Raises:
            StateUnavailable: they cannot be read.
        """
        for (pem,) in self._rows("SELECT pem FROM chains WHERE fingerprint = ?", fingerprint):
            return bytes(pem)
        return None

    def asked(self, fingerprint: str, client: str, at: datetime.datetime) -> None:
        """Take note that a client got a chain; it is written by `save_asked`, in sums.

        Args:
            fingerprint: the chain's; one that is not kept is not an error.
            client: who got it.
            at: when.
        """
        self._deliveries.count(fingerprint, client, at)

    def save_asked(self) -> None:
        """Have the deliveries since the last time written, with the next change."""
        self._deliveries.save()

    def revoking(self, fingerprint: str, reason: str) -> Future[None]:
        """Note that a chain is going to be revoked: from then on it is never delivered.

        Args:
            fingerprint: the chain's.
            reason: why, as RFC 5280 names it; what was noted stays if the CA has revoked it, or its key is
                compromised.
        """
        return self._revoke(fingerprint, _REVOKING, reason, reason, fingerprint)

    def revoked(self, fingerprint: str, at: datetime.datetime, reason: str) -> Future[None]:
        """Note that the CA has revoked a chain.

        Args:
            fingerprint: the chain's.
            at: when, if it was not revoked before.
            reason: as for `revoking`.
        """
        return self._revoke(fingerprint, _REVOKED, seconds(at), reason, reason, fingerprint)

    def is_revoked(self, fingerprint: str) -> bool:
        """Tell whether a chain is revoked or being revoked, as far as this process knows, and without I/O."""
        return fingerprint in self._revoked

    def is_compromised(self, key_digest: str) -> bool:
        """Tell whether a public key was reported as compromised, as far as this process knows."""
        return key_digest in self._compromised

    def keep_up(self) -> None:
        """Write what was counted, or could not be written, and see what others have revoked; called at times.

        Raises:
            StateUnavailable: they cannot be read.
        """
        self.save_asked()
        self._retry()
        if self.is_shared:
            self.learn_revoked()

    def learn_revoked(self) -> None:
        """See which chains are revoked or being revoked, and which keys are compromised; called at start.

        Raises:
            StateUnavailable: they cannot be read.
        """
        self._revoked |= {fingerprint for (fingerprint,) in self._rows(_UNDELIVERABLE)}
        self._compromised |= {digest for (digest,) in self._rows(_COMPROMISED, KEY_COMPROMISE)}

    def _retry(self) -> None:
        """Note chains that could not be noted; newer ones that have come since stay current."""
        unwritten = [self._unwritten.popleft() for _ in range(len(self._unwritten))]

        def note_end(written: Future[int]) -> None:
            for record in unwritten:
                self._note_failure(written, record)

        if unwritten:
            self.adopt(unwritten).add_done_callback(note_end)

    def _note_failure(self, written: Future[Any], record: ChainRecord) -> None:
        if written.exception() is not None:
            self._unwritten.append(record)

    def _revoke(self, fingerprint: str, statement: str, *row: Value) -> Future[None]:
        def change(transaction: Transaction) -> None:
            transaction.execute(statement, row)

        is_new = fingerprint not in self._revoked
        self._revoked.add(fingerprint)
        written = self._change([fingerprint], change)

        def note_end(written: Future[None]) -> None:
            if is_new and written.exception() is not None:
                self._revoked.discard(fingerprint)

        written.add_done_callback(note_end)
        return written

    def _change(self, subjects: Sequence[str], change: Change[T], *, soon: bool = True) -> Future[T]:
        """Make a change to chains or to those of identities, which are not kept in memory meanwhile."""
        self._recent.begin_change(subjects)
        changed: Future[T] = Future()

        def end(written: Future[T]) -> None:
            self._recent.end_change(subjects)  # before anybody is told, who may keep in memory what is new
            error = written.exception()
            if error is None:
                changed.set_result(written.result())
            else:
                changed.set_exception(error)

        self._database.write(change, soon=soon).add_done_callback(end)
        return changed

    def _read_current(self, identity: str, storage: str) -> Chain | None:
        token = self._recent.reading()
        for fingerprint, place, pem in self._rows(_NEWEST_PEM, identity):
            try:
                chain = chains.parse_once(pem)
            except ValueError as error:
                logger.warning("the chain %s in the state is damaged: %s; it is not used", fingerprint, error)
                continue
            if chain.fingerprint != fingerprint:
                logger.warning("the chain %s in the state is another one; it is not used", fingerprint)
                continue
            self._recent.keep(identity, chain, token)
            if place != storage:
                self._move(fingerprint, storage)
            return chain
        return None

    def _move(self, fingerprint: str, storage: str) -> None:
        def change(transaction: Transaction) -> None:
            transaction.execute(_MOVED, (storage, fingerprint))

        self._database.write(change, soon=False)

    def _select(self, statement: str, *row: Value) -> list[ChainRecord]:
        return [ChainRecord.from_row(each) for each in self._rows(statement, *row)]

    def _rows(self, statement: str, *row: Value) -> list[Any]:
        return self._database.read(lambda transaction: transaction.execute(statement, row).fetchall())


def _adopt(transaction: Transaction, record: ChainRecord) -> bool:
    """Keep a chain beside those that are kept already; tell whether it is new."""
    is_known = ChainRecords.is_kept(transaction, record.fingerprint)
    place = (record.identity, record.fingerprint, seconds(record.not_before))
    if not is_known and transaction.execute(_IS_NEWER_THERE, place).fetchone() is not None:
        record = dataclasses.replace(record, superseded=record.issued)
    put(transaction, record)
    return not is_known
