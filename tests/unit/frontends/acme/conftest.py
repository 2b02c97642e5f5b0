"""An ACME front end for each test, with a state of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acme_client import AcmeClient
from tests.acme_serving import Serving, serving, sqlite


@pytest.fixture
def acme(tmp_path: Path) -> Iterator[Serving]:
    """A front end that anybody may register with."""
    with sqlite(tmp_path) as database, serving(database) as made:
        yield made


@pytest.fixture
def client(acme: Serving) -> Iterator[AcmeClient]:
    """A client of it, without an account."""
    with acme.client() as made:
        yield made
