"""Open orders, as the next process finds them."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from tests.peers import wait_until

from acmems.exceptions import StateUnavailable
from acmems.state.engines.contract import Database
from acmems.state.engines.postgresql import PostgresDatabase
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.state.orders import CHECKED_SECONDS, OrderRecord, OrderRecords

NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
LATER = NOW + datetime.timedelta(days=1)
SOON = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
LONG_AGO = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2)
URL = "https://ca.example/order/1"
FOUND = OrderRecord("one", b"csr", "block", "account", URL, LATER, NOW)


@pytest.fixture
def records(database: Database) -> OrderRecords:
    return OrderRecords(database)


def place(records: OrderRecords, identity: str = "one", *, expires: datetime.datetime = LATER) -> None:
    records.intend(identity, b"csr", "block", NOW)
    records.opened(identity, "account", URL, expires).result()


def test_an_order_that_the_ca_has(database: Database, records: OrderRecords) -> None:
    """It is found with all that is needed to finish it."""
    place(records)
    assert records.recovered == ()  # this process has left nothing yet
    assert OrderRecords(database).recovered == (FOUND,)


def test_an_order_that_was_never_placed(database: Database, records: OrderRecords) -> None:
    """An intent alone leaves nothing: the CA has nothing to finish."""
    records.intend("one", b"csr", "block", NOW)
    assert OrderRecords(database).recovered == ()


def test_a_state_that_cannot_be_written(
    database: Database, records: OrderRecords, unwritable: Callable[[], AbstractContextManager[None]]
) -> None:
    """Each intent fails, until the state can be written again."""
    records.intend("one", b"csr", "block", NOW)
    with unwritable():
        with pytest.raises(StateUnavailable):
            records.opened("one", "account", URL, LATER).result(20)
        for _ in range(2):
            tried = records.intend("two", b"csr", "block", NOW)
            assert tried is not None
            assert isinstance(tried.exception(20), StateUnavailable)
    tried = records.intend("two", b"csr", "block", NOW)
    assert tried is not None
    tried.result(20)
    records.opened("one", "account", URL, LATER).result(20)
    assert OrderRecords(database).recovered == (FOUND,)


def test_when_the_state_is_tried(database: Database) -> None:
    """Before an order, once for all who begin together, and not right after a change."""
    moment = 1000.0
    records = OrderRecords(database, lambda: moment)
    go = threading.Event()
    database.write(lambda _: go.wait(20))
    tried = [records.intend(str(number), b"csr", "block", NOW) for number in range(100)]
    assert len(set(map(id, tried))) == 1
    go.set()
    assert tried[0] is not None
    tried[0].result(20)
    wait_until(lambda: records._written == moment, "that is known")
    assert records.intend("one", b"csr", "block", NOW) is None
    moment += CHECKED_SECONDS
    assert records.intend("one", b"csr", "block", NOW) is not None
    moment += CHECKED_SECONDS
    records.opened("one", "account", URL, LATER).result(20)
    wait_until(lambda: records._written == moment, "that is known")
    assert records.intend("two", b"csr", "block", NOW) is None


def test_an_order_that_takes_the_place_of_another(database: Database, records: OrderRecords) -> None:
    """One that the CA has ended is forgotten, and the next one is noted for the same intent."""
    place(records)
    records.forget("one")
    records.opened("one", "account", f"{URL}/next", LATER).result()
    records.end("one")
    assert [each.url for each in OrderRecords(database).recovered] == [f"{URL}/next"]


@pytest.mark.parametrize("years", [-50, 50])
def test_an_order_that_seems_to_have_expired(database: Database, records: OrderRecords, years: int) -> None:
    """It is kept, however wrong the clock may be: the CA knows whether it is there."""
    expires = LATER.replace(year=LATER.year + years)
    place(records, expires=expires)
    assert [each.expires for each in OrderRecords(database).recovered] == [expires]


def test_an_order_that_is_continued(database: Database, records: OrderRecords) -> None:
    """The URL stays; the CSR is that of the last request, which is the one that is finalized."""
    place(records)
    records.intend("one", b"other csr", None, NOW)
    records.opened("one", "account", URL, LATER).result()
    (found,) = OrderRecords(database).recovered
    assert (found.csr, found.block, found.url) == (b"other csr", None, URL)


def test_an_order_that_is_done(database: Database, records: OrderRecords) -> None:
    """It is forgotten, also among those that were recovered."""
    for identity in ("one", "two"):
        place(records, identity)
    again = OrderRecords(database)
    again.forget("one")
    assert [each.identity for each in again.recovered] == ["two"]
    assert [each.identity for each in OrderRecords(database).recovered] == ["two"]


def test_how_many_issuances_go_on(database: Database, records: OrderRecords) -> None:
    """The database hears of each that begins and ends, so that it waits for the changes of others."""
    assert isinstance(database, SqliteDatabase | PostgresDatabase)
    told = []
    for identity in ("one", "two", "two"):
        records.intend(identity, b"csr", "block", NOW)
        told.append(database._commits.writers)
    for identity in ("two", "one", "one"):
        records.end(identity)
        told.append(database._commits.writers)
    assert told == [1, 2, 2, 1, 0, 0]


class TestPrepared:
    """An order that waits for its CSR."""

    @staticmethod
    def prepare(records: OrderRecords, expires: datetime.datetime) -> None:
        records.intend("names", b"", "block", NOW)
        records.opened("names", "account", URL, expires).result()

    def test_after_a_restart(self, database: Database, records: OrderRecords) -> None:
        """It is found as what it is, and nothing tries to finish it without a CSR."""
        self.prepare(records, SOON)
        (found,) = OrderRecords(database).recovered
        assert found.is_prepared
        place(records)
        assert [each.is_prepared for each in OrderRecords(database).recovered] == [True, False]

    def test_taken(self, database: Database, records: OrderRecords) -> None:
        """From then on it is the order of one request, and of nobody else."""
        self.prepare(records, SOON)
        records = OrderRecords(database)
        records.intend("one", b"csr", "block", NOW)
        records.take("names", "one", "account", URL, LATER).result()
        assert records.recovered == ()
        assert OrderRecords(database).recovered == (FOUND,)

    def test_never_taken(self, database: Database, records: OrderRecords) -> None:
        """It is forgotten once it has expired, while the server runs or when it starts; others are not."""
        self.prepare(records, LONG_AGO)
        place(records, expires=LONG_AGO)
        records.forget_expired()
        records.flush()
        assert [each.identity for each in OrderRecords(database).recovered] == ["one"]
        self.prepare(records, LONG_AGO)
        assert [each.identity for each in OrderRecords(database).recovered] == ["one"]
