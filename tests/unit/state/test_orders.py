"""Open orders, as the next process finds them."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from acmems.exceptions import StateUnavailable
from acmems.state.engines.contract import Database
from acmems.state.orders import OrderRecord, OrderRecords

NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
LATER = NOW + datetime.timedelta(days=1)
URL = "https://ca.example/order/1"
FOUND = OrderRecord("one", b"csr", "block", "account", URL, LATER, NOW)


@pytest.fixture
def records(database: Database) -> OrderRecords:
    return OrderRecords(database, NOW)


def place(records: OrderRecords, identity: str = "one", *, expires: datetime.datetime = LATER) -> None:
    records.intend(identity, b"csr", "block", NOW)
    records.opened(identity, "account", URL, expires).result()


def test_an_order_that_the_ca_has(database: Database, records: OrderRecords) -> None:
    """It is found with all that is needed to finish it."""
    place(records)
    assert records.recovered == ()  # this process has left nothing yet
    assert OrderRecords(database, NOW).recovered == (FOUND,)


def test_an_order_that_was_never_placed(database: Database, records: OrderRecords) -> None:
    """An intent alone leaves nothing: the CA has nothing to finish."""
    assert records.intend("one", b"csr", "block", NOW) is None
    assert OrderRecords(database, NOW).recovered == ()


def test_a_state_that_cannot_be_written(
    database: Database, records: OrderRecords, unwritable: Callable[[], AbstractContextManager[None]]
) -> None:
    """After a failure each intent is tried first, until one can be written; none is found again."""
    with unwritable():
        records.intend("one", b"csr", "block", NOW)
        with pytest.raises(StateUnavailable):
            records.opened("one", "account", URL, LATER).result(20)
        tried = records.intend("two", b"csr", "block", NOW)
        assert tried is not None
        assert isinstance(tried.exception(20), StateUnavailable)
    tried = records.intend("two", b"csr", "block", NOW)
    assert tried is not None
    assert tried.exception(20) is None
    assert records.intend("three", b"csr", "block", NOW) is None
    assert OrderRecords(database, NOW).recovered == ()


def test_an_order_that_takes_the_place_of_another(database: Database, records: OrderRecords) -> None:
    """One that the CA has ended is forgotten, and the next one is noted for the same intent."""
    place(records)
    records.forget("one")
    records.opened("one", "account", f"{URL}/next", LATER).result()
    records.end("one")
    assert [each.url for each in OrderRecords(database, NOW).recovered] == [f"{URL}/next"]


def test_an_order_that_has_expired(database: Database, records: OrderRecords) -> None:
    """The CA has forgotten it, too."""
    place(records, expires=NOW)
    assert OrderRecords(database, NOW).recovered == ()


def test_an_order_that_is_continued(database: Database, records: OrderRecords) -> None:
    """The URL stays; the CSR is that of the last request, which is the one that is finalized."""
    place(records)
    records.intend("one", b"other csr", None, NOW)
    records.opened("one", "account", URL, LATER).result()
    (found,) = OrderRecords(database, NOW).recovered
    assert (found.csr, found.block, found.url) == (b"other csr", None, URL)


def test_an_order_that_is_done(database: Database, records: OrderRecords) -> None:
    """It is forgotten, also among those that were recovered."""
    for identity in ("one", "two"):
        place(records, identity)
    again = OrderRecords(database, NOW)
    again.forget("one")
    assert [each.identity for each in again.recovered] == ["two"]
    assert [each.identity for each in OrderRecords(database, NOW).recovered] == ["two"]
