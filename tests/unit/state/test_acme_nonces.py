"""Nonces of ACME clients that were used, in each database."""

from __future__ import annotations

from acmems.state.acme.nonces import NonceRecords, NonceUse
from acmems.state.engines.contract import Database


def test_databases_agree(database: Database) -> None:
    """Whatever the engine: a use is the first one once, and a change that is done again knows itself."""
    records = NonceRecords(database)
    one, other = NonceUse("a", 100), NonceUse("a", 100)
    assert records.use(one).result()
    assert not records.use(other).result()
    assert records.use(one).result()
    assert records.secret() == NonceRecords(database).secret()
    assert records.used(99) == [("a", 100)]
    assert records.used(100) == []
