"""What an issuance remembers over a restart: nothing is ordered that could not be remembered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fake_ca import make_request
from tests.issuing import House

from acmems.exceptions import StateUnavailable
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.state.orders import OrderRecords


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    opened = SqliteDatabase.open(tmp_path / "state.sqlite")
    yield opened
    opened.close()


@pytest.mark.threat("disk", "a state that cannot be written")
def test_a_state_that_cannot_be_written_costs_no_certificate(database: SqliteDatabase) -> None:
    """Of those who ask at once each gets an error of its own; nothing is ordered, and nothing stays."""
    records = OrderRecords(database)
    house = House(memory=records)
    try:
        database._connection.execute("PRAGMA query_only = ON")
        asked = [house.begin(make_request(f"{number}.example.org")) for number in range(20)]
        errors = [each.exception(30) for each in asked]
        assert {type(error) for error in errors} == {StateUnavailable}
        assert len(set(map(id, errors))) == len(errors)
        assert house.authority.orders == []
        assert records._intents == {}
        database._connection.execute("PRAGMA query_only = OFF")
        assert house.ask(make_request("0.example.org")).source == "issued"
    finally:
        house.close()
