"""A front end that takes orders, and a client with an account."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acme_orders import Orderer, Ordering, ordering
from tests.acme_serving import sqlite

from acmems.state.engines.contract import Database


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Database]:
    with sqlite(tmp_path) as database:
        yield database


@pytest.fixture
def here(state: Database) -> Iterator[Ordering]:
    with ordering(state) as each:
        yield each


@pytest.fixture
def client(here: Ordering) -> Iterator[Orderer]:
    with here.client() as client:
        yield client
