"""Several servers that are asked for the same: one orders, and all of their clients get its certificate."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from tests.chains import make_request
from tests.issuing import IDENTITY, House
from tests.peers import wait_until
from tests.sharing import NOW, Sharer, count, sharing

from acmems.events import IssuedEvent
from acmems.exceptions import CAUnavailable, ChallengeFailed, DeadlinePassed, PayloadInvalid
from acmems.frontends.history import RecordedHistory
from acmems.issuing.requests import Delivery
from acmems.state.chains import ChainRecords
from acmems.state.sharing.leases import Leases
from acmems.state.sharing.together import OrderClaim
from acmems.storages import NoStorage
from acmems.system.clock import SYSTEM

NAME = "a.example.org"
NOWHERE = NoStorage("none")


class Server:
    """A node and its issuance."""

    def __init__(self, sharer: Sharer) -> None:
        self.sharer = sharer
        history = RecordedHistory(ChainRecords(sharer.database), IDENTITY, SYSTEM)
        self.house = House(clock=SYSTEM, memory=sharer.orders, pauses=sharer.pauses, history=history)
        self.is_closed = False

    @property
    def orders(self) -> int:
        """How many it has placed."""
        return len(self.house.authority.orders)

    def freeze(self) -> None:
        """Let its CA answer nothing until `thaw`."""
        self.house.authority.go.clear()

    def thaw(self) -> None:
        self.house.authority.go.set()

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.house.close()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[Server]]:
    with sharing(tmp_path, 3) as nodes:
        made = [Server(each) for each in nodes]
        yield made
        for each in made:
            each.close()


def frozen(server: Server, ask: Callable[[], Future[Delivery]]) -> Future[Delivery]:
    """Ask a server, and return once it waits for its CA."""
    server.freeze()
    before = server.orders
    future = ask()
    wait_until(lambda: server.orders > before, "the order is placed")
    return future


class TestOneOrder:
    """Who asks elsewhere gets what one server has ordered."""

    def test_at_the_same_moment(self, servers: list[Server]) -> None:
        """However many ask wherever, there is one order."""
        request = make_request(NAME)
        start = threading.Barrier(30)
        futures: list[Future[Delivery]] = []

        def ask(server: Server) -> None:
            start.wait(20)
            futures.append(server.house.begin(request))

        threads = [threading.Thread(target=ask, args=(servers[number % 3],)) for number in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        chains = {future.result(30).chain.serial for future in futures}
        assert len(chains) == 1
        assert sum(server.orders for server in servers) == 1
        assert count(servers[0].sharer.database, "leases") == 0

    def test_where_the_chain_is_kept(self, servers: list[Server]) -> None:
        """Each server stores it where its clients keep theirs, and has it from then on."""
        first, second, _ = servers
        request = make_request(NAME)
        ordered = frozen(first, lambda: first.house.begin(request))
        waiting = second.house.begin(request)
        first.thaw()
        assert ordered.result(30).source == "issued"
        assert waiting.result(30).source == "joined"
        assert second.house.ask(request).source == "stored"
        assert not [event for event in second.house.events if isinstance(event, IssuedEvent)]

    @pytest.fixture
    def at_work(self, servers: list[Server], monkeypatch: pytest.MonkeyPatch) -> list[Server]:
        """The servers, of which the first is known to live, and is at something else, too."""
        monkeypatch.setattr(Leases, "are_certain", True)
        servers[0].sharer.orders.intend("another", b"csr", "block", NOW)
        return servers

    def test_a_chain_that_is_not_shared_yet(self, at_work: list[Server]) -> None:
        """Its client has it once it is stored; others who want the same wait until they find it."""
        first, second, _ = at_work
        request = make_request(NAME)
        issued = first.house.ask(request)
        assert count(second.sharer.database, "chains") == 0
        waiting = second.house.begin(request)
        assert second.sharer.orders.claim("one", (), lambda _: True).result(20).is_mine
        assert not waiting.done()
        first.sharer.orders.end("another")
        joined = waiting.result(30)
        assert (joined.source, joined.chain.serial) == ("joined", issued.chain.serial)
        assert second.orders == 0

    def test_a_chain_that_nobody_else_keeps(self, at_work: list[Server]) -> None:
        """Where no storage keeps it over a crash, it is in the state before its client has it."""
        first, second, _ = at_work
        first.house.ask(make_request(NAME), NOWHERE)
        assert count(second.sharer.database, "chains") == 1

    def test_a_chain_of_before(self, servers: list[Server]) -> None:
        """What another server has got is delivered while it is fresh, but to those who want nothing kept."""
        first, second, third = servers
        request = make_request(NAME)
        serial = first.house.ask(request).chain.serial
        assert second.house.ask(request).chain.serial == serial
        assert third.house.ask(request, NOWHERE).chain.serial != serial
        assert [server.orders for server in servers] == [1, 0, 1]

    def test_a_chain_that_is_wanted_anew(
        self, servers: list[Server], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A renewal is content with what another server gets meanwhile, not with what was there before."""
        first, second, _ = servers
        request = make_request(NAME)
        before = first.house.ask(request).chain.serial
        ordered = frozen(second, lambda: second.house.begin(request, NOWHERE))
        claim, claims = first.sharer.orders.claim, list[Future[OrderClaim]]()

        def noting(*arguments: Any) -> Future[OrderClaim]:
            claims.append(claim(*arguments))
            return claims[-1]

        monkeypatch.setattr(first.sharer.orders, "claim", noting)
        renewal = first.house.issuance.issue(first.house.accept(request, is_wanted_anew=True))
        wait_until(lambda: bool(claims) and claims[0].done(), "it waits for the other server")
        second.thaw()
        renewed = renewal.result(30).chain.serial
        assert renewed == ordered.result(30).chain.serial != before
        assert [server.orders for server in servers] == [1, 1, 0]

    def test_names_that_are_not_granted(self, servers: list[Server]) -> None:
        """A chain with names that a client may not have is not delivered to it."""
        first, second, _ = servers
        request = make_request(NAME)
        first.house.authority.names = second.house.authority.names = [NAME, "b.example.org"]
        first.house.ask(request, grants=lambda _: True)
        second.house.authority.names = [NAME]
        assert second.house.ask(request).source == "issued"

    def test_others(self, servers: list[Server]) -> None:
        """Different names are ordered side by side."""
        first, second, _ = servers
        ordered = frozen(first, lambda: first.house.begin(make_request(NAME)))
        assert second.house.ask(make_request("b.example.org")).source == "issued"
        first.thaw()
        ordered.result(30)


class TestFailures:
    """What fails at one server is told at the others, as far as it is about their clients."""

    def test_one_that_pauses(self, servers: list[Server]) -> None:
        """The same error is told, with the time to wait, and nothing is ordered."""
        first, second, third = servers
        request = make_request(NAME)
        ordered = frozen(first, lambda: first.house.begin(request))
        waiting = second.house.begin(request)
        first.house.authority.error = ChallengeFailed(NAME, "no route", "")
        first.thaw()
        told = [future.exception(30) for future in (ordered, waiting)]
        told.append(third.house.begin(request).exception(30))
        assert [(type(error), str(error)) for error in told] == [(ChallengeFailed, str(told[0]))] * 3
        assert [server.orders for server in servers] == [1, 0, 0]
        assert count(first.sharer.database, "leases") == 0

    def test_one_that_is_not_about_others(self, servers: list[Server]) -> None:
        """What was wrong with one CSR does not stop another for the same names and key."""
        first, second, _ = servers
        request = make_request(NAME)
        ordered = frozen(first, lambda: first.house.begin(request))
        waiting = second.house.issuance.issue(second.house.accept(request, block="other"))
        first.house.authority.error = CAUnavailable("down")
        first.thaw()
        assert isinstance(ordered.exception(30), CAUnavailable)
        assert waiting.result(30).source == "issued"

    def test_a_success_ends_a_pause(self, servers: list[Server]) -> None:
        """What worked at one server is tried at the others."""
        first, second, _ = servers
        request = make_request(NAME)
        first.house.authority.error = PayloadInvalid("no")
        assert isinstance(first.house.begin(request, NOWHERE).exception(30), PayloadInvalid)
        assert isinstance(second.house.begin(request, NOWHERE).exception(30), PayloadInvalid)
        assert second.orders == 0
        first.house.authority.error = None
        first.house.issuance.pauses.clear(first.house.accept(request))
        first.sharer.database.write(lambda _: None).result(20)  # it comes behind
        assert second.house.ask(request, NOWHERE).source == "issued"


class TestTakingOver:
    """What a dead server was at is done by another one."""

    def test_while_a_client_waits(self, servers: list[Server]) -> None:
        """It orders as soon as the other is dead; the other's outcome counts no more, and is not told."""
        first, second, _ = servers
        request = make_request(NAME)
        ordered = frozen(first, lambda: first.house.begin(request))
        waiting = second.house.begin(request)
        first.sharer.die()
        delivered = waiting.result(30)
        assert delivered.source == "issued"
        first.thaw()
        assert ordered.result(30).chain.serial == delivered.chain.serial
        assert count(first.sharer.database, "chains") == 1

    def test_nobody_waits(self, servers: list[Server]) -> None:
        """A server does not wait for another where no client waits for it."""
        first, second, _ = servers
        request = make_request(NAME)
        ordered = frozen(first, lambda: first.house.begin(request))
        assert isinstance(second.house.begin(request, gone=lambda: True).exception(30), DeadlinePassed)
        first.thaw()
        ordered.result(30)
