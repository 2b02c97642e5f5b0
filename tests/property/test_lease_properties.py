"""Leases by any order of events: nodes that stop, wake up, are taken for dead, and write by what they had."""

from __future__ import annotations

import sqlite3
from concurrent.futures import Future
from typing import TypeVar

from hypothesis import settings, strategies
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from acmems.exceptions import LeaseLost
from acmems.state.engines import migrations
from acmems.state.engines.contract import Change, Transaction
from acmems.state.sharing.leases import Lease, Leases, clean

T = TypeVar("T")
NODES = ("a", "b", "c")
NAMES = ("one", "two")


class _Database:
    """A database in memory; what it changes may be done twice, as after a lost answer."""

    place = "memory"
    is_shared = True
    failure = None

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.create_function("acmems_now", 0, lambda: 1000)
        for _, statements in migrations.steps(0, migrations.Dialect(octets="BLOB")):
            for statement in statements:
                self.connection.execute(statement)
        self.repeats = False

    def write(self, change: Change[T], *, soon: bool = True) -> Future[T]:
        future: Future[T] = Future()
        if self.repeats:
            change(self.connection)
        future.set_result(change(self.connection))
        return future

    def read(self, query: Change[T]) -> T:
        return query(self.connection)

    def check(self) -> Future[None]:
        raise NotImplementedError

    def expect(self, writers: int) -> None:
        raise NotImplementedError

    def flush(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.connection.close()


class LeaseMachine(RuleBasedStateMachine):
    """Compares leases with what must hold of them: who was the last to get one is the only one to write."""

    had = Bundle("had")

    def __init__(self) -> None:
        super().__init__()
        self.database = _Database()
        self.leases = {node: Leases(self.database, node) for node in NODES}
        self.alive: set[str] = set()
        self.holders: dict[str, Lease] = {}
        self.seen: set[Lease] = set()
        for node in NODES:
            self.wake(node)

    @rule(target=had, node=strategies.sampled_from(NODES), name=strategies.sampled_from(NAMES))
    def take(self, node: str, name: str) -> Lease | None:
        holder = self.holders.get(name)
        lease = self.leases[node].acquire(name).result()
        is_free = holder is None or holder.node == node or holder.node not in self.alive
        assert (lease is not None) == is_free
        if lease is not None:
            assert lease not in self.seen
            assert (lease.name, lease.node) == (name, node)
            self.seen.add(lease)
            self.holders[name] = lease
        return lease

    @rule(lease=had)
    def write(self, lease: Lease | None) -> None:
        if lease is None:
            return
        changed = []
        is_lost = False
        try:
            self.leases[lease.node].write(lease, lambda _: changed.append(1)).result()
            self.leases[lease.node].check(lease).result()
        except LeaseLost:
            is_lost = True
        assert is_lost == (self.holders.get(lease.name) != lease)
        assert bool(changed) == (not is_lost)

    @rule(lease=consumes(had))
    def release(self, lease: Lease | None) -> None:
        if lease is None:
            return
        self.leases[lease.node].release(lease).result()
        if self.holders.get(lease.name) == lease:
            del self.holders[lease.name]

    @rule(node=strategies.sampled_from(NODES))
    def stop(self, node: str) -> None:
        self.alive.discard(node)
        self._set_expiry(node, 1000)

    @rule(node=strategies.sampled_from(NODES))
    def wake(self, node: str) -> None:
        self.alive.add(node)
        self._set_expiry(node, 1001)

    @rule()
    def clean_up(self) -> None:
        self.database.write(clean)
        for name, lease in list(self.holders.items()):
            if lease.node not in self.alive:
                del self.holders[name]

    @rule(repeats=strategies.booleans())
    def repeat(self, repeats: bool) -> None:
        self.database.repeats = repeats

    @invariant()
    def one_holder_each(self) -> None:
        rows = self.database.connection.execute("SELECT name, node, epoch FROM leases").fetchall()
        assert {name: Lease(name, node, epoch) for name, node, epoch in rows} == self.holders

    def _set_expiry(self, node: str, expires: int) -> None:
        def change(transaction: Transaction) -> None:
            transaction.execute(
                "INSERT INTO nodes (node, host, process, started, expires) VALUES (?, '', 0, 0, ?) "
                "ON CONFLICT (node) DO UPDATE SET expires = excluded.expires",
                (node, expires),
            )

        self.database.write(change)

    def teardown(self) -> None:
        self.database.close()


LeaseMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLeases = LeaseMachine.TestCase
