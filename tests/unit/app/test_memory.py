"""What servers that share a state do with it."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path

from tests.peers import Postgres
from tests.sharing import CHAIN

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


def test_history_that_has_an_end(tmp_path: Path) -> None:
    """It is forgotten within an hour, where the configuration says so."""
    seconds = [0.0]
    clock = Clock(monotonic=lambda: seconds[0])
    memory = StateMemory(SqliteDatabase.open(tmp_path / "state.sqlite"), clock)
    now = clock.now()
    for number, age in enumerate((200, 100)):
        begins = now - datetime.timedelta(days=age)
        ends = begins + datetime.timedelta(days=90)
        chain = dataclasses.replace(
            CHAIN, fingerprint=f"f{number}", not_before=begins, not_after=ends, issued=begins
        )
        memory.chains.add(chain).result(20)
    for days, left in ((None, 2), (120, 2), (30, 1)):
        seconds[0] += 3600
        memory.keep_up(None if days is None else datetime.timedelta(days=days))
        memory.database.write(lambda _: None).result(20)
        assert len(list(memory.chains.all(current_only=False))) == left
    memory.close()


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
