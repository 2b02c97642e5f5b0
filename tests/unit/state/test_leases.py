"""Leases: one node works at a thing at a time, and one that was taken for dead changes nothing any more."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.issuing import StandingTime
from tests.peers import wait_until
from tests.sharing import Sharer, count, sharing, unwritable

from acmems.exceptions import LeaseLost, StateUnavailable
from acmems.state.engines.contract import Transaction
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.state.sharing.leases import Lease, Leases
from acmems.state.sharing.nodes import Node, name_of


@pytest.fixture
def files(tmp_path: Path) -> Iterator[list[Sharer]]:
    """The same, of an SQLite file, which can be made read-only for one of them."""
    with sharing(tmp_path, 2) as opened:
        yield opened


def take(sharer: Sharer, name: str = "one") -> Lease | None:
    return sharer.leases.acquire(name).result(20)


def taken(sharer: Sharer, name: str = "one") -> Lease:
    lease = take(sharer, name)
    assert lease is not None
    return lease


def insert(transaction: Transaction, identity: str = "one") -> str:
    transaction.execute("INSERT INTO orders (identity, csr, begun) VALUES (?, ?, 0)", (identity, b""))
    return identity


def test_a_lease_that_another_node_has(nodes: list[Sharer]) -> None:
    """It is had by one node until that gives it back."""
    first, second, _ = nodes
    lease = taken(first)
    assert take(second) is None
    first.leases.release(lease).result(20)
    assert taken(second).node == second.name


def test_several_at_once(nodes: list[Sharer]) -> None:
    """However many want it at the same moment, one gets it."""
    start = threading.Barrier(len(nodes))

    def run(sharer: Sharer) -> list[bool]:
        won = []
        for number in range(20):
            start.wait(20)
            won.append(take(sharer, f"lease {number}") is not None)
        return won

    with ThreadPoolExecutor(len(nodes)) as pool:
        outcomes = list(pool.map(run, nodes))
    assert [sum(each) for each in zip(*outcomes, strict=True)] == [1] * 20


def test_a_dead_node(nodes: list[Sharer]) -> None:
    """What it had is free, and all that it does by its lease when it wakes up is refused."""
    first, second, _ = nodes
    old = taken(first)
    first.die()
    new = taken(second)
    assert new.epoch > old.epoch
    first.node.renew()
    with pytest.raises(LeaseLost):
        first.leases.write(old, insert).result(20)
    with pytest.raises(LeaseLost):
        first.leases.check(old).result(20)
    first.leases.release(old).result(20)
    assert count(first.database, "orders") == 0
    second.leases.write(new, insert).result(20)
    assert count(first.database, "orders") == 1
    second.leases.check(new).result(20)


def test_a_node_that_wakes_up_in_time(nodes: list[Sharer]) -> None:
    """What nobody has taken meanwhile is still its own."""
    first, *_ = nodes
    lease = taken(first)
    first.die()
    first.leases.write(lease, insert).result(20)
    first.node.renew()
    first.database.write(lambda _: None).result(20)  # it comes behind
    assert take(nodes[1]) is None


def test_the_same_again(nodes: list[Sharer]) -> None:
    """A node that has it takes it anew, and what it began by the former one is over; none is had twice."""
    first, second, _ = nodes
    seen = [taken(first), taken(first)]
    with pytest.raises(LeaseLost):
        first.leases.write(seen[0], insert).result(20)
    first.leases.release(seen[1]).result(20)
    seen.append(taken(second))
    second.die()
    seen.append(taken(first))
    first.leases.release(seen[3]).result(20)
    seen.append(taken(first))
    assert len(set(seen)) == len(seen)


def test_a_change_that_fails(nodes: list[Sharer]) -> None:
    """It does not look like a lease that is lost."""
    first, *_ = nodes
    lease = taken(first)

    def fail(transaction: Transaction) -> None:
        insert(transaction)
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        first.leases.write(lease, fail).result(20)
    assert count(first.database, "orders") == 0


class TestCleaning:
    """What dead nodes have left is removed, but for what somebody has to go on with."""

    def test_rows_of_dead_nodes(self, nodes: list[Sharer]) -> None:
        """The leases go, and their rows after a while; those of living ones stay."""
        first, second, third = nodes
        for number, each in enumerate(nodes):
            taken(each, f"lease {number}")
        first.die()
        second.node.leave()
        second.database.write(lambda _: None).result(20)  # it comes behind
        for _ in range(12):  # some of the renewals clean
            third.node.renew()
            third.database.write(lambda _: None).result(20)
        assert count(third.database, "leases") == 1
        assert count(third.database, "nodes") == 2

    def test_an_open_order(self, nodes: list[Sharer]) -> None:
        """Its lease stays until another node has gone on with it."""
        first, second, _ = nodes

        def place(transaction: Transaction) -> None:
            insert(transaction)
            transaction.execute("UPDATE orders SET url = 'https://ca.example/order/1'")

        first.leases.write(taken(first, "order:one"), place).result(20)
        first.node.leave()
        second.database.write(lambda _: None).result(20)
        assert count(second.database, "leases") == 1


class TestKnownToLive:
    """A node that has said so lately need not look whether a lease is still its own."""

    def test_after_it_has_renewed(self, nodes: list[Sharer]) -> None:
        """For half of the time after which others take it for dead, counted from when it began to say so."""
        first, *_ = nodes
        time = StandingTime()
        node = Node(first.database, seconds=20, clock=time.clock())
        assert not node.is_known_to_live()
        node.join()
        node.thread.close()
        assert node.is_known_to_live()
        time.seconds += 9
        assert node.is_known_to_live()
        time.seconds += 2
        assert not node.is_known_to_live()
        node.renew()
        first.database.write(lambda _: None).result(20)
        assert node.is_known_to_live()
        node.leave()
        assert not node.is_known_to_live()

    def test_a_renewal_that_fails(self, files: list[Sharer]) -> None:
        """It tells nothing."""
        first, *_ = files
        time = StandingTime()
        node = Node(first.database, seconds=20, clock=time.clock())
        node.join()
        node.thread.close()
        time.seconds += 11
        with unwritable(first.database):
            node.renew()
            with contextlib.suppress(StateUnavailable):
                first.database.write(lambda _: None).result(20)
        assert not node.is_known_to_live()

    def test_whether_it_is_looked(self, nodes: list[Sharer]) -> None:
        """A lease that another has taken is noticed by a node that may be taken for dead, by a look."""
        first, second, _ = nodes
        lives = [True]
        leases = Leases(first.database, first.name, lambda: lives[0])
        lease = taken(first)
        first.die()
        assert take(second) is not None
        leases.check(lease).result(20)
        lives[0] = False
        with pytest.raises(LeaseLost):
            leases.check(lease).result(20)


class TestRenewal:
    """A node says again and again that it is alive."""

    def test_while_it_has_joined(self, nodes: list[Sharer]) -> None:
        """It does so by itself until it leaves, and never afterwards."""
        first, second, _ = nodes
        node = Node(first.database, seconds=1)
        node.join()
        taken(first)

        def left() -> int:
            select = "SELECT expires - acmems_now() FROM nodes WHERE node = ?"
            rows = second.database.read(lambda found: found.execute(select, (node.name,)).fetchall())
            return int(rows[0][0]) if rows else -1

        set_back = "UPDATE nodes SET expires = 0 WHERE node = ?"
        second.database.write(lambda found: found.execute(set_back, (node.name,)).rowcount).result(20)
        wait_until(lambda: left() > 0, "it has renewed its row")
        node.leave()
        node.renew()
        first.database.write(lambda _: None).result(20)
        assert left() == -1

    def test_a_state_that_cannot_be_written(self, files: list[Sharer]) -> None:
        """The next renewal is tried all the same, and the failure is told."""
        first, *_ = files
        assert isinstance(first.database, SqliteDatabase)
        first.database._connection.execute("PRAGMA query_only = ON")
        first.node.renew()
        with contextlib.suppress(StateUnavailable):
            first.database.write(lambda _: None).result(20)
        first.database._connection.execute("PRAGMA query_only = OFF")
        with pytest.raises(StateUnavailable):
            first.node.renew()
        first.node.renew()

    def test_one_that_is_not_written_yet(self, nodes: list[Sharer]) -> None:
        """Renewals do not queue up behind a database that hangs."""
        first, *_ = nodes
        entered, go = threading.Event(), threading.Event()

        def hold(_: Transaction) -> None:
            entered.set()
            assert go.wait(20)

        first.database.write(hold)
        assert entered.wait(20)
        before = first.node._renewals
        for _ in range(5):
            first.node.renew()
        assert first.node._renewals == before + 1
        go.set()


def join(sharer: Sharer) -> None:
    """Have one more node join."""
    node = Node(sharer.database)
    node.join()
    node.thread.close()


class TestEndedProcesses:
    """What a process of this machine was at is free as soon as another one has joined."""

    @pytest.mark.parametrize("ends", [True, False], ids=["ended", "alive"])
    def test_a_process_of_this_machine(self, nodes: list[Sharer], *, ends: bool) -> None:
        """Whether it lives is seen at once, also before anyone has waited for its end."""
        first, second, _ = nodes
        with subprocess.Popen(["sleep", "60"]) as child:
            dead = Node(first.database)
            dead.name = name_of(child.pid)
            dead.join()
            dead.thread.close()
            assert Leases(first.database, dead.name).acquire("one").result(20) is not None
            if ends:
                child.kill()
                os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # its parent does not know yet
            join(second)
            assert (take(second) is not None) == ends
            child.kill()

    @pytest.mark.parametrize("name", ["elsewhere", "0123456789abcdef-1-2-3", ""])
    def test_others(self, nodes: list[Sharer], name: str) -> None:
        """Of a process on another machine nothing is told."""
        first, second, _ = nodes
        other = Node(first.database)
        other.name = name
        other.join()
        other.thread.close()
        assert Leases(first.database, name).acquire("one").result(20) is not None
        join(second)
        assert take(second) is None
