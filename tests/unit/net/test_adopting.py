"""A listener that becomes another one while it serves."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator

import pytest
from tests.listening import Application, Client, Time, post, reply
from tests.peers import free_port, wait_until

from acmems.net.address import Address
from acmems.net.http import HttpService
from acmems.net.listening import (
    Binder,
    BoundSockets,
    Listener,
    ListenerLimits,
    ListenerPlan,
    Occupancy,
    SocketPool,
)

LOOPBACK = "127.0.0.1"


def plan(application: Application, *ports: int, connections: int = 100) -> ListenerPlan:
    addresses = tuple(Address(LOOPBACK, port) for port in ports)
    limits = ListenerLimits(connections=connections, grace_seconds=1.0)
    return ListenerPlan("listener", addresses, HttpService(application), limits)


class Adopting:
    """A listener on a port, whose application can be another one."""

    def __init__(self) -> None:
        self.time = Time()
        self.application = Application()
        self.port = free_port()
        self.plan = plan(self.application, self.port)
        self.listener = Listener.of(self.plan, self.time.clock).open()

    @property
    def served(self) -> int:
        """How many connections wait for a further request."""
        return [one.occupancy for one in self.listener.connections].count(Occupancy.SERVED)

    def become(self, wanted: ListenerPlan) -> list[socket.socket]:
        """Become what a plan says; return the sockets that are left over."""
        before = self.listener.bound
        bound = Binder(held=before).bind(wanted.addresses, own=before)
        self.listener.adopt(wanted, bound)
        kept = [each.socket for each in bound.bound]
        return [each.socket for each in before if each.socket not in kept]


@pytest.fixture
def adopting() -> Iterator[Adopting]:
    made = Adopting()
    yield made
    made.listener.close()


def connect(port: int) -> Client:
    return Client(socket.create_connection((LOOPBACK, port), 10))


def test_connections_stay_and_new_ones_are_served_anew(adopting: Adopting) -> None:
    """An open connection goes on with what it was made for; whoever comes is served by what is there now."""
    client = connect(adopting.port)
    assert client.ask(post("/a"))[0] == "200"
    other = Application()
    assert adopting.become(plan(other, adopting.port)) == []
    assert client.ask(post("/b"))[0] == "200"
    assert connect(adopting.port).ask(post("/c"))[0] == "200"
    assert [exchange.target for exchange in adopting.application.begun] == ["/a", "/b"]
    assert [exchange.target for exchange in other.begun] == ["/c"]


def test_addresses_come_and_go(adopting: Adopting) -> None:
    """A further address is served at once; one that is left is left with its connections open."""
    client, second = connect(adopting.port), free_port()
    assert client.ask(post())[0] == "200"
    assert adopting.become(plan(adopting.application, adopting.port, second)) == []
    assert connect(second).ask(post())[0] == "200"
    (left,) = adopting.become(plan(adopting.application, second))
    assert [address.port for address in adopting.listener.addresses] == [second]
    left.close()
    with pytest.raises(ConnectionRefusedError):
        connect(adopting.port)
    assert client.ask(post())[0] == "200"


def test_who_is_connected_already_is_not_reset(adopting: Adopting) -> None:
    """Who waits at a socket that is left is taken on before it is closed."""
    adopting.listener.close()
    adopting.listener = Listener.of(adopting.plan, adopting.time.clock)
    adopting.listener.bind()  # without a thread yet, so that clients wait
    clients = [connect(adopting.port) for _ in range(40)]
    second = free_port()
    (left,) = adopting.become(plan(adopting.application, second))
    left.close()
    adopting.listener.start()
    assert {client.ask(post())[0] for client in clients} == {"200"}


def test_limits_change(adopting: Adopting) -> None:
    """Other limits hold at once."""
    adopting.become(plan(adopting.application, adopting.port, connections=1))
    first = connect(adopting.port)
    first.send(post()[:10])
    wait_until(lambda: len(adopting.listener.connections) == 1, "the first is connected")
    second = connect(adopting.port)
    second.send(post())
    wait_until(lambda: adopting.listener.is_crowded, "the second waits")
    adopting.become(plan(adopting.application, adopting.port))
    assert second.answer()[0] == "200"
    assert len(adopting.listener.connections) == 2, "the first was ended to make room"


def test_a_socket_that_others_have_open_is_not_waited_for(adopting: Adopting) -> None:
    """Systemd has the same sockets open: whoever connects to one that was left is no event here.

    Closing a descriptor does not end a wait for it as long as there is another one of the same socket.
    """
    elsewhere = [os.dup(each.socket.fileno()) for each in adopting.listener.bound]
    listener = adopting.listener
    listener.stop_accepting()
    client = connect(adopting.port)
    assert select.select(elsewhere, [], [], 10)[0] == elsewhere
    listener._loop.stop()
    assert not listener.turn()
    client.socket.close()
    for number in elsewhere:
        os.close(number)


def test_inherited_sockets_go_back() -> None:
    """What a listener has from a pool is there again after its end."""
    with socket.create_server((LOOPBACK, free_port())) as inherited:
        pool = SocketPool([inherited])
        address = Address(*inherited.getsockname())
        listener = Listener.of(ListenerPlan("l", (address,), HttpService(Application())))
        listener.adopt(listener_plan(address), Binder(pool).bind([address]))
        listener.start()
        assert connect(address.port).ask(post())[0] == "200"
        listener.close()
        assert pool.unused == (inherited,)
        assert inherited.fileno() != -1


def listener_plan(address: Address) -> ListenerPlan:
    return ListenerPlan("l", (address,), HttpService(Application()))


def test_who_has_just_connected_is_not_turned_away_by_a_stop() -> None:
    """A stop gives the grace to whoever has said nothing yet, and then closes; its request is answered."""
    adopting = Adopting()
    time = adopting.time
    early, late = connect(adopting.port), connect(adopting.port)
    wait_until(lambda: len(adopting.listener.connections) == 2, "both are connected")
    adopting.listener.stop_accepting()
    assert early.ask(post("/early")) == ("200", b"/early ")
    assert early.ended
    assert late.silent
    time.now += 1.0
    assert late.ended
    assert adopting.listener.drain(time.clock.deadline(10))
    adopting.listener.close()


def test_who_has_just_been_answered_may_ask_once_more() -> None:
    """A stop closes kept connections on which nothing comes within the grace."""
    adopting = Adopting()
    time = adopting.time
    idle, busy = connect(adopting.port), connect(adopting.port)
    assert idle.ask(post())[0] == "200"
    wait_until(lambda: adopting.served == 1, "the first waits for a further request")
    time.now += 1.0
    assert busy.ask(post())[0] == "200"
    wait_until(lambda: adopting.served == 2, "both do")
    adopting.listener.stop_accepting()
    assert idle.ended
    assert busy.silent
    assert busy.ask(post("/last")) == ("200", b"/last ")
    assert busy.ended
    adopting.listener.close()


def test_a_request_that_runs_at_a_stop_is_answered(adopting: Adopting) -> None:
    """What was asked for is answered after the sockets have become another listener's."""
    adopting.application.on_run = lambda _: None
    client = connect(adopting.port)
    client.send(post("/slow"))
    exchange = adopting.application.wait_for(1)
    adopting.listener.adopt(adopting.plan, BoundSockets())
    reply(exchange)
    assert client.answer()[0] == "200"
