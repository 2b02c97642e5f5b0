"""What servers that share a state do with it."""

from __future__ import annotations

from tests.peers import Postgres

from acmems.app.memory import StateMemory
from acmems.state.engines.postgresql import PostgresDatabase
from acmems.system.clock import SYSTEM
from acmems.text import Secret


def test_one_of_them_renews(postgres: Postgres) -> None:
    """The others do once it has left."""
    url = Secret(postgres.url_of(postgres.make_database()))
    first, second = (StateMemory(PostgresDatabase.open(url), SYSTEM) for _ in range(2))
    assert (first.may_renew(), second.may_renew(), first.may_renew()) == (True, False, True)
    first.close()
    assert second.may_renew()
    second.close()
