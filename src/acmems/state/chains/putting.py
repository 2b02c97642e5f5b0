"""Writing chains to the state, each in place of the older ones for the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from acmems.state.chains.record import COLUMNS, ChainRecord, seconds
from acmems.state.engines.contract import Transaction, Value, marks

# What is known of a chain stays known when it comes again; its PEM may have been damaged.
_KNOWN = ("block", "client", "reference", "csr", "order_url", "alternates")
_ORDER_URL = "COALESCE(?, (SELECT url FROM orders WHERE orders.identity = ?))"
_ROW = f"({', '.join(_ORDER_URL if each == 'order_url' else '?' for each in COLUMNS)}, ?)"
_INSERT = (
    f"INSERT INTO chains ({', '.join(COLUMNS)}, names_digest) VALUES {_ROW} "  # noqa: S608 - names of columns
    "ON CONFLICT (fingerprint) DO UPDATE SET pem = excluded.pem, "
    "storage = COALESCE(excluded.storage, chains.storage), "
    + ", ".join(f"{each} = COALESCE(chains.{each}, excluded.{each})" for each in _KNOWN)
)
_AFTER_URL = COLUMNS.index("order_url") + 1
_SUPERSEDE_OTHERS = """
    UPDATE chains SET superseded = ? WHERE identity = ? AND fingerprint <> ? AND superseded IS NULL
    AND EXISTS (SELECT 1 FROM chains AS newest WHERE newest.fingerprint = ? AND newest.superseded IS NULL)
    RETURNING fingerprint
"""
_FORGET_PLAN = "DELETE FROM renewals WHERE fingerprint = ?"


def put(transaction: Transaction, record: ChainRecord) -> None:
    """Keep a chain, in place of older ones for the same identity, which become history."""
    _insert(transaction, (record,))
    _supersede_others(transaction, record)


def put_all(transaction: Transaction, records: Sequence[ChainRecord]) -> None:
    """Keep chains, at least one and each of another identity, as `put` does."""
    _insert(transaction, records)
    identities = [each.identity for each in records]
    statement = f"SELECT identity FROM chains WHERE identity IN ({marks(identities)}) AND superseded IS NULL"  # noqa: S608 - question marks
    current = Counter(identity for (identity,) in transaction.execute(statement, identities))
    for record in records:
        if current[record.identity] > 1:
            _supersede_others(transaction, record)


def _insert(transaction: Transaction, records: Sequence[ChainRecord]) -> None:
    values: list[Value] = []
    for record in records:
        row = record.row
        values += (*row[:_AFTER_URL], record.identity, *row[_AFTER_URL:], record.names_digest)
    transaction.execute(_INSERT.replace(_ROW, ", ".join([_ROW] * len(records)), 1), values)


def _supersede_others(transaction: Transaction, record: ChainRecord) -> None:
    superseded = transaction.execute(
        _SUPERSEDE_OTHERS, (seconds(record.issued), record.identity, record.fingerprint, record.fingerprint)
    )
    for (other,) in superseded.fetchall():
        transaction.execute(_FORGET_PLAN, (other,))
