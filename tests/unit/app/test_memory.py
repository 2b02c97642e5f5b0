"""What servers that share a state do with it."""

from __future__ import annotations

from pathlib import Path

from tests.peers import Postgres

from acmems.app.memory import StateMemory
from acmems.state.engines.postgresql import PostgresDatabase
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.state.limits.buckets import BucketRecord
from acmems.system.clock import SYSTEM, Clock
from acmems.text import Secret


def test_one_of_them_renews(postgres: Postgres) -> None:
    """The others do once it has left."""
    url = Secret(postgres.url_of(postgres.make_database()))
    first, second = (StateMemory(PostgresDatabase.open(url), SYSTEM) for _ in range(2))
    assert (first.may_renew(), second.may_renew(), first.may_renew()) == (True, False, True)
    first.close()
    assert second.may_renew()
    second.close()


def test_buckets_that_are_empty_again(tmp_path: Path) -> None:
    """They are forgotten within an hour; what is still used stays."""
    seconds = [0.0]
    clock = Clock(monotonic=lambda: seconds[0])
    memory = StateMemory(SqliteDatabase.open(tmp_path / "state.sqlite"), clock)
    now = int(clock.now().timestamp() * 1000)
    buckets = [BucketRecord("empty", "a", "l", "s"), BucketRecord("used", "a", "l", "s")]
    memory.buckets.update(buckets, lambda _: ({"empty": now - 1, "used": now + 60_000}, None)).result(20)
    for is_later in (False, True):
        seconds[0] += 3600 * is_later
        memory.keep_up()
        memory.database.write(lambda _: None).result(20)
        assert len(memory.buckets.all()) == 2 - is_later
    assert [each.name for each in memory.buckets.all()] == ["used"]
    memory.close()
