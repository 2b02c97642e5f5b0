"""Open orders that several nodes share: each is one node's, and another's once that has died."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
from tests.peers import Postgres
from tests.sharing import CHAIN, LATER, NOW, URL, Sharer, count, settle, sharing

from acmems.exceptions import AcmeException, LeaseLost, StateUnavailable
from acmems.state.engines.contract import Transaction
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.state.limits.pauses import PauseRecord
from acmems.state.sharing.shared_orders import SharedOrders
from acmems.state.sharing.together import OrderClaim, OrderTaking


@pytest.fixture
def files(tmp_path: Path) -> Iterator[list[Sharer]]:
    """The same, of an SQLite file, which can be made read-only for one of them."""
    with sharing(tmp_path, 2) as opened:
        yield opened


def claim(sharer: Sharer, *subjects: str, wants: bool = True) -> OrderClaim:
    return sharer.orders.claim("one", subjects, lambda _: wants).result(20)


def place(sharer: Sharer, expires: datetime.datetime = LATER) -> None:
    """Have a node place an order."""
    assert claim(sharer).is_mine
    sharer.orders.intend("one", b"csr", "block", NOW)
    sharer.orders.opened("one", "account", URL, expires).result(20)


def test_how_many_issuances_go_on(files: list[Sharer]) -> None:
    """The database of a node hears how many of its own go on, so that it waits for the changes of others."""
    database = files[0].database
    assert isinstance(database, SqliteDatabase)
    place(files[0])
    assert database._commits.writers == 1
    files[0].orders.end("one")
    assert database._commits.writers == 0


class TestClaims:
    """Each thing is ordered by one node."""

    def test_while_another_node_orders(self, nodes: list[Sharer]) -> None:
        """It is the other's until that ends, with an order that stays open or without."""
        first, second, _ = nodes
        place(first)
        assert claim(second) == OrderClaim(is_elsewhere=True)
        first.orders.end("one")
        settle(first)
        assert claim(second).is_mine
        found = second.orders.found("one")
        assert found is not None
        assert (found.url, found.csr, found.block, found.account) == (URL, b"csr", "block", "account")

    def test_a_chain(self, nodes: list[Sharer]) -> None:
        """It is there for all as soon as the order is not the other's any more, and ends the order."""
        first, second, _ = nodes
        place(first)
        first.orders.issued("one", CHAIN).result(20)
        found = claim(second)
        assert (found.is_mine, found.newest) == (False, "f1")
        assert found.chain is not None
        assert (found.chain.pem, found.chain.order_url) == (b"chain", URL)
        assert count(second.database, "orders") == count(second.database, "leases") == 0

    def test_a_chain_that_is_not_wanted(self, nodes: list[Sharer]) -> None:
        """Another one is ordered then, and whoever claims knows which there was."""
        first, second, _ = nodes
        place(first)
        first.orders.issued("one", CHAIN).result(20)
        found = claim(second, wants=False)
        assert (found.is_mine, found.newest, found.chain) == (True, "f1", None)

    def test_a_chain_that_comes_at_the_same_moment(
        self, tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A lease that was given back between two statements is no reason to order again."""
        with sharing(tmp_path, 2, postgres) as (first, second):
            place(first)
            elsewhere = second.leases.elsewhere

            def look(transaction: Transaction, names: Collection[str]) -> frozenset[str]:
                if count(first.database, "chains") == 0:
                    first.orders.issued("one", CHAIN).result(20)
                return elsewhere(transaction, names)

            monkeypatch.setattr(second.leases, "elsewhere", look)
            found = claim(second)
            assert (found.is_mine, found.newest) == (False, "f1")
            assert count(second.database, "leases") == 0

    def test_a_pause_of_another_node(self, nodes: list[Sharer]) -> None:
        """It is seen with the claim, which takes nothing then."""
        first, second, _ = nodes
        first.pauses.put(PauseRecord("name:a", AcmeException("no"), 1, 30.0, 30.0))
        settle(first)
        found = claim(second, "name:b", "name:a")
        assert [each.subject for each in found.pauses] == ["name:a"]
        assert not found.is_mine
        assert count(second.database, "leases") == 0
        assert claim(second, "name:b").is_mine

    def test_failures_without_a_pause(self, nodes: list[Sharer]) -> None:
        """They are seen, and stop nothing."""
        first, second, _ = nodes
        first.pauses.put(PauseRecord("csr:1", AcmeException("no"), 1, 0.0, 0.0))
        settle(first)
        found = claim(second, "csr:1")
        assert (found.is_mine, len(found.pauses)) == (True, 1)


class TestFencing:
    """A node that was taken for dead writes nothing any more."""

    def test_each_write(self, nodes: list[Sharer]) -> None:
        """Whatever it does with its order when it wakes up, that of its successor stays."""
        first, second, _ = nodes
        place(first)
        first.die()
        assert claim(second).is_mine
        second.orders.intend("one", b"csr", "block", NOW)
        second.orders.opened("one", "account", f"{URL}/next", LATER).result(20)
        for _ in range(2):  # the second time, it has given up all of it
            for written in (
                first.orders.opened("one", "account", URL, LATER),
                first.orders.held("one"),
                first.orders.issued("one", CHAIN),
            ):
                with pytest.raises(LeaseLost):
                    written.result(20)
        first.orders.forget("one")
        first.orders.end("one")
        settle(first)
        second.orders.held("one").result(20)
        second.orders.end("one")
        assert claim(second).is_mine
        found = second.orders.found("one")
        assert found is not None
        assert found.url == f"{URL}/next"
        assert count(second.database, "chains") == 0

    def test_the_same_chain(self, nodes: list[Sharer]) -> None:
        """Where the successor has got the same, or an answer was lost, all is well."""
        first, second, _ = nodes
        place(first)
        first.die()
        place(second)
        second.orders.issued("one", CHAIN).result(20)
        first.orders.issued("one", CHAIN).result(20)
        assert count(second.database, "chains") == 1


class TestLeft:
    """What a dead node has left is found by the others."""

    def test_of_a_node_that_dies(self, nodes: list[Sharer]) -> None:
        """Its order is found until somebody has finished it."""
        first, second, third = nodes
        place(first)
        second.orders.flush()
        assert second.orders.recovered == ()
        first.die()
        for each in (second, third):
            each.orders.flush()
            assert [order.url for order in each.orders.recovered] == [URL]
        assert claim(second).is_mine
        second.orders.issued("one", CHAIN).result(20)
        third.orders.flush()
        assert third.orders.recovered == ()

    def test_of_a_node_that_leaves(self, nodes: list[Sharer]) -> None:
        """What it was at is found at once; what it had given back waits for whoever asks next."""
        first, second, _ = nodes
        place(first)
        first.orders.leave()
        first.orders.end("one")
        first.node.leave()
        settle(first)
        second.orders.flush()
        assert len(second.orders.recovered) == 1

    def test_an_order_that_was_given_back(self, nodes: list[Sharer]) -> None:
        """It waits for whoever asks next, or for a start."""
        first, second, third = nodes
        place(first)
        first.orders.end("one")
        settle(first)
        second.orders.flush()
        assert second.orders.recovered == ()
        started = SharedOrders(third.database, third.leases, third.pauses)
        assert len(started.recovered) == 1
        started.flush()
        assert len(started.recovered) == 1

    def test_an_order_that_another_node_is_at(self, nodes: list[Sharer]) -> None:
        """A start leaves it alone."""
        first, second, _ = nodes
        place(first)
        assert SharedOrders(second.database, second.leases, second.pauses).recovered == ()

    def test_an_order_that_has_expired(self, nodes: list[Sharer]) -> None:
        """Nobody finds it, and a start removes it."""
        first, second, _ = nodes
        place(first, NOW - datetime.timedelta(seconds=1))
        first.die()
        second.orders.flush()
        assert second.orders.recovered == ()
        assert claim(second).is_mine
        assert second.orders.found("one") is None
        SharedOrders(second.database, second.leases, second.pauses)
        assert count(second.database, "orders") == 0

    def test_an_order_that_need_not_be_finished(self, nodes: list[Sharer]) -> None:
        """It is removed, unless another node is at it or there is another order by now."""
        first, second, third = nodes
        place(first)
        first.die()
        for each in (second, third):
            each.orders.flush()
        (record,) = second.orders.recovered
        assert claim(third).is_mine
        second.orders.discard(record)
        settle(second)
        assert count(second.database, "orders") == 1
        third.orders.intend("one", b"csr", None, NOW)
        third.orders.opened("one", "account", f"{URL}/next", LATER).result(20)
        third.orders.end("one")
        settle(third)
        second.orders.discard(record)
        settle(second)
        assert count(second.database, "orders") == 1
        third.orders.flush()
        (record,) = SharedOrders(second.database, second.leases, second.pauses).recovered
        second.orders.discard(record)
        settle(second)
        assert count(second.database, "orders") == count(second.database, "leases") == 0


def test_a_state_that_cannot_be_written(files: list[Sharer]) -> None:
    """A chain is kept when the state can be written again; nobody else orders until then."""
    first, second = files
    place(first)
    assert isinstance(first.database, SqliteDatabase)
    first.database._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(StateUnavailable):
        first.orders.issued("one", CHAIN).result(20)
    first.orders.end("one")
    first.orders.flush()
    assert claim(second).is_elsewhere
    first.database._connection.execute("PRAGMA query_only = OFF")
    first.orders.flush()
    settle(first)
    assert claim(second).newest == "f1"


def test_a_claim_behind_what_could_not_be_written(files: list[Sharer]) -> None:
    """The chain is written first, so that the claim finds it."""
    first, *_ = files
    place(first)
    assert isinstance(first.database, SqliteDatabase)
    first.database._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(StateUnavailable):
        first.orders.issued("one", CHAIN).result(20)
    with pytest.raises(StateUnavailable):
        claim(first)
    first.database._connection.execute("PRAGMA query_only = OFF")
    assert claim(first).newest == "f1"


class TestPrepared:
    """An order that waits for its CSR is taken by one request, on whichever node that comes."""

    @staticmethod
    def prepare(sharer: Sharer) -> None:
        assert sharer.orders.claim("names", (), lambda _: False).result(20).is_mine
        sharer.orders.intend("names", b"", "block", NOW)
        sharer.orders.opened("names", "account", URL, LATER).result(20)

    @staticmethod
    def take(sharer: Sharer, identity: str) -> OrderClaim:
        taking = OrderTaking("names", f"csr {identity}".encode(), "block")
        return sharer.orders.claim(identity, (), lambda _: False, taking).result(20)

    def test_while_it_is_prepared(self, nodes: list[Sharer]) -> None:
        """A request elsewhere waits, as for an order of its own."""
        self.prepare(nodes[0])
        claimed = self.take(nodes[1], "one")
        assert (claimed.is_elsewhere, claimed.is_mine) == (True, False)
        assert not nodes[1].orders.claim("names", (), lambda _: False).result(20).is_mine

    def test_of_two(self, nodes: list[Sharer]) -> None:
        """The first has it, with its own CSR, also for whoever takes over from that node."""
        self.prepare(nodes[0])
        nodes[0].orders.end("names")
        settle(nodes[0])
        assert all(
            self.take(node, name).is_mine for node, name in zip(nodes[1:], ["one", "two"], strict=True)
        )
        found = nodes[1].orders.found("one")
        assert found is not None
        assert (found.url, found.is_prepared) == (URL, True)
        assert nodes[2].orders.found("two") is None
        nodes[1].die()
        nodes[0].orders.flush()
        (left,) = nodes[0].orders.recovered
        assert (left.identity, left.csr, left.is_prepared) == ("one", b"csr one", False)

    def test_of_a_dead_node(self, nodes: list[Sharer]) -> None:
        """What was not ready goes on with whoever asks for the names next."""
        self.prepare(nodes[0])
        nodes[0].die()
        assert self.take(nodes[1], "one").is_mine
        found = nodes[1].orders.found("one")
        assert found is not None
        assert found.url == URL

    def test_where_there_is_an_order_already(self, nodes: list[Sharer]) -> None:
        """The order of the same request counts more, and what was prepared is left to others."""
        self.prepare(nodes[0])
        nodes[0].orders.end("names")
        place(nodes[0])
        nodes[0].orders.end("one")
        settle(nodes[0])
        assert self.take(nodes[1], "one").is_mine
        found = nodes[1].orders.found("one")
        assert found is not None
        assert found.csr == b"csr"
        assert self.take(nodes[2], "two").is_mine
        assert nodes[2].orders.found("two") is not None

    def test_never_taken(self, nodes: list[Sharer]) -> None:
        """It is forgotten a day after it has expired."""
        nodes[0].orders.claim("names", (), lambda _: False).result(20)
        nodes[0].orders.intend("names", b"", "block", NOW)
        nodes[0].orders.opened("names", "account", URL, NOW - datetime.timedelta(days=2)).result(20)
        assert count(nodes[0].database, "orders") == 1
        nodes[0].orders.forget_expired()
        settle(nodes[0])
        assert count(nodes[0].database, "orders") == 0
