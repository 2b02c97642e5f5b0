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
FOUND = OrderRecord("one", b"csr", "block", "account", URL, LATER)


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
    records.intend("one", b"csr", "block", NOW).result(20)
    assert OrderRecords(database).recovered == ()


def test_a_state_that_cannot_be_written(
    database: Database, records: OrderRecords, unwritable: Callable[[], AbstractContextManager[None]]
) -> None:
    """Each intent fails, until the state can be written again."""
    records.intend("one", b"csr", "block", NOW).result(20)
    with unwritable():
        with pytest.raises(StateUnavailable):
            records.opened("one", "account", URL, LATER).result(20)
        with pytest.raises(StateUnavailable):
            records.intend("two", b"csr", "block", NOW).result(20)
    records.intend("two", b"csr", "block", NOW).result(20)
    records.opened("one", "account", URL, LATER).result(20)
    assert OrderRecords(database).recovered == (FOUND,)


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
