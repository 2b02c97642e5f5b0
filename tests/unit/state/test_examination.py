"""Looking at all that the state keeps."""

from __future__ import annotations

import dataclasses
import datetime

import pytest
from tests.chains import make_chain, make_request

from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.engines.contract import Database
from acmems.state.engines.migrations import MIGRATIONS
from acmems.state.examination import chain_fault, examine, restored
from acmems.state.orders import OrderRecords

NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
REQUEST = make_request("a.example.org")
CHAIN = make_chain(REQUEST)
RECORD = ChainRecord.of(CHAIN, identity="one", directory="https://ca.example/d", profile=None, issued=NOW)


def execute(database: Database, statement: str, *row: bytes | str) -> None:
    database.write(lambda transaction: transaction.execute(statement, row)).result(30)


def test_a_sound_state(database: Database) -> None:
    """All is counted, and nothing is wrong."""
    records = ChainRecords(database)
    records.add(RECORD).result(30)
    newer = make_chain(REQUEST)
    records.add(
        ChainRecord.of(newer, identity="one", directory="https://ca.example/d", profile=None, issued=NOW)
    ).result(30)
    orders = OrderRecords(database, NOW)
    orders.intend("two", REQUEST.pem, None, NOW)
    orders.opened("two", "account", "https://ca.example/o/1", NOW + datetime.timedelta(days=1)).result(30)
    found = examine(database)
    assert found.is_sound
    assert (found.place, found.revision) == (database.place, len(MIGRATIONS))
    assert (found.rows["chains"], found.current, found.rows["orders"], found.rows["events"]) == (2, 1, 1, 0)


@pytest.mark.parametrize(
    ("statement", "value", "reason"),
    [
        ("UPDATE chains SET pem = ?", b"-----BEGIN CERTIFICATE-----", "it cannot be read"),
        ("UPDATE chains SET pem = ?", make_chain(REQUEST).pem, "it is another certificate"),
        ("UPDATE chains SET names = ?", "b.example.org", "otherwise than names"),
        ("UPDATE chains SET serial = ?", "12", "otherwise than serial"),
        ("UPDATE chains SET key_digest = ?", "12", "otherwise than key_digest"),
    ],
    ids=["pem", "another", "names", "serial", "key"],
)
def test_a_damaged_chain(database: Database, statement: str, value: bytes | str, reason: str) -> None:
    """It is told with its names and what is wrong."""
    ChainRecords(database).add(RECORD).result(30)
    execute(database, statement, value)
    found = examine(database)
    assert not found.is_sound
    (damaged,) = found.damaged
    assert (damaged.table, damaged.key) == ("chains", CHAIN.fingerprint)
    assert reason in damaged.reason
    assert damaged.record is not None


def test_a_row_is_mended(database: Database) -> None:
    """What the certificate says takes the place of what is wrong; all else stays."""
    records = ChainRecords(database)
    kept = dataclasses.replace(RECORD, block="block", client="192.0.2.1", csr=REQUEST.pem)
    records.add(kept).result(30)
    execute(database, "UPDATE chains SET names = 'b', serial = 'x', pem = ?", b"")
    (damaged,) = examine(database).damaged
    assert damaged.record is not None
    records.mend(restored(damaged.record, CHAIN.pem)).result(30)
    assert examine(database).is_sound
    assert records.newest("one") == kept


def test_another_certificate_mends_nothing() -> None:
    """Only the certificate with that fingerprint does."""
    with pytest.raises(ValueError, match="another certificate"):
        restored(RECORD, make_chain(REQUEST).pem)
    assert chain_fault(RECORD) is None


def test_a_damaged_order(database: Database) -> None:
    """An order that cannot be finished is told."""
    execute(
        database, "INSERT INTO orders (identity, csr, begun, url) VALUES ('one', ?, 0, 'u')", b"no request"
    )
    execute(database, "INSERT INTO orders (identity, csr, begun, url) VALUES ('two', ?, 0, 'u')", REQUEST.pem)
    found = {each.key: each.reason for each in examine(database).damaged}
    assert found.keys() == {"one", "two"}
    assert "cannot be read" in found["one"]
    assert "expires" in found["two"]


def test_what_cannot_be_read(database: Database) -> None:
    """A table that is gone is a fault, and the others are looked at all the same."""
    OrderRecords(database, NOW)
    execute(database, "DROP TABLE chains")
    found = examine(database)
    assert not found.is_sound
    assert len(found.faults) >= 1
    assert "chains" not in found.rows
    assert found.rows["orders"] == 0
