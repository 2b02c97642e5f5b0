"""Whether all that the state keeps can be read and is what it should be."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from acmems.exceptions import PayloadInvalid, StateUnavailable
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.engines.contract import Database
from acmems.state.engines.migrations import MIGRATIONS, PROBES, TABLES
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.x509 import chain as chains
from acmems.x509 import csr

_MOST_FAULTS = 20


@dataclass(frozen=True, slots=True)
class DamagedRow:
    """A row that does not hold what it should.

    Args:
        table: where it is.
        key: its primary key.
        names: the names that it is about, as far as they are known.
        reason: what is wrong with it.
        record: what is known of a chain, None for other rows.
    """

    table: str
    key: str
    names: tuple[str, ...]
    reason: str
    record: ChainRecord | None = None


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found out about a state.

    Args:
        place: where it is, for a person.
        revision: how many migrations it has seen.
        faults: what is wrong with the database as such.
        rows: how many there are, by table; of those that can be counted.
        current: how many chains may be delivered.
        damaged: the rows that do not hold what they should.
    """

    place: str
    revision: int
    faults: tuple[str, ...]
    rows: dict[str, int]
    current: int
    damaged: tuple[DamagedRow, ...]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults and not self.damaged


def examine(database: Database) -> Examination:
    """Look at everything, and change nothing.

    What cannot be read is among the faults.
    """
    faults: list[str] = []
    rows: dict[str, int] = {}
    damaged: list[DamagedRow] = []
    current = 0
    with _noting(faults):
        faults += _engine_faults(database)
    for table in (each for each in TABLES if each != PROBES):
        with _noting(faults):
            rows[table] = _count(database, table)
    with _noting(faults):
        for record in ChainRecords(database).all(current_only=False):
            current += record.is_current
            if (reason := chain_fault(record)) is not None:
                damaged.append(DamagedRow("chains", record.fingerprint, record.names, reason, record))
    with _noting(faults):
        damaged += _damaged_orders(database)
    return Examination(
        database.place, len(MIGRATIONS), tuple(dict.fromkeys(faults)), rows, current, tuple(damaged)
    )


def chain_fault(record: ChainRecord) -> str | None:
    """Return what is wrong with a chain as the state has it, None if nothing is."""
    try:
        chain = chains.parse_once(record.pem)
    except ValueError as error:
        return f"it cannot be read: {error}"
    if chain.fingerprint != record.fingerprint:
        return "it is another certificate than its fingerprint says"
    right = restored(record, record.pem)
    wrong = [
        each.name
        for each in dataclasses.fields(ChainRecord)
        if getattr(record, each.name) != getattr(right, each.name)
    ]
    return f"its certificate says otherwise than {', '.join(wrong)}" if wrong else None


def restored(record: ChainRecord, pem: bytes) -> ChainRecord:
    """Return a record with what its certificate says.

    Args:
        record: what is known of a chain.
        pem: the chain.

    Raises:
        ValueError: that is another one, or none.
    """
    chain = chains.parse_once(pem)
    if chain.fingerprint != record.fingerprint:
        raise ValueError("it is another certificate")
    right = ChainRecord.of(
        chain,
        identity=record.identity,
        directory=record.directory,
        profile=record.profile,
        issued=record.issued,
    )
    said = ("names", "serial", "key_digest", "pem", "not_before", "not_after")
    return dataclasses.replace(record, **{name: getattr(right, name) for name in said})


def _count(database: Database, table: str) -> int:
    statement = f"SELECT count(*) FROM {table}"  # noqa: S608 - one of our tables
    counted: int = database.read(lambda transaction: transaction.execute(statement).fetchone()[0])
    return counted


@contextlib.contextmanager
def _noting(faults: list[str]) -> Iterator[None]:
    try:
        yield
    except StateUnavailable as error:
        faults.append(str(error))


def _engine_faults(database: Database) -> list[str]:
    """Return what the database finds wrong with itself; PostgreSQL does not look by itself."""
    if not isinstance(database, SqliteDatabase):
        return []
    found = database.read(
        lambda transaction: transaction.execute(f"PRAGMA integrity_check({_MOST_FAULTS})").fetchall()
    )
    return [line for (text,) in found for line in str(text).splitlines() if line != "ok"]


def _damaged_orders(database: Database) -> Iterator[DamagedRow]:
    found = database.read(
        lambda transaction: transaction.execute("SELECT identity, csr, url, expires FROM orders").fetchall()
    )
    for identity, request, url, expires in found:
        try:
            if request:  # what was prepared waits for a CSR
                csr.parse(bytes(request), csr.LENIENT)
        except PayloadInvalid as error:
            yield DamagedRow("orders", identity, (), f"its certificate request cannot be read: {error}")
            continue
        if url is not None and expires is None:
            yield DamagedRow("orders", identity, (), "it does not say when it expires")
