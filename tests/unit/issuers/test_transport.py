"""Connections to one CA: how many there are, who gets one, how long they are kept, and how they end."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from tests.steps import PATIENCE, LoopTime, begin, settle, wait_for
from tests.tls_server import ANSWERING, OK, Behaviour, Serve, Server, ask, asking, read_request, unanswering

from acmems.exceptions import DeadlinePassed
from acmems.issuers.acme.session.connection import CAConnection, Failure
from acmems.issuers.acme.session.origin import Origin
from acmems.issuers.acme.session.transport import Transport
from acmems.system.clock import NEVER, SYSTEM, Deadline
from acmems.system.steps import OWNER, Signal, Steps

pytestmark = pytest.mark.timeout(30)

NOWHERE = Origin("127.0.0.1", 1)


def leaving(leave: Callable[[ssl.SSLSocket], object]) -> tuple[Behaviour, threading.Event]:
    """Answer each connection's first request, then leave it; the event is set when that was done."""
    left = threading.Event()

    def behave(server: Server, connection: socket.socket) -> None:
        assert isinstance(connection, ssl.SSLSocket)
        server.requests.append(read_request(connection))
        connection.sendall(OK)
        leave(connection)
        left.set()
        server.closing.wait(PATIENCE)

    return behave, left


def say_goodbye(connection: ssl.SSLSocket) -> None:
    """End TLS, and leave the connection open until the other side has done the same."""
    connection.setblocking(False)
    with contextlib.suppress(ssl.SSLWantReadError):
        connection.unwrap()


class TestKept:
    """Connections that are used again, and those that are not."""

    def test_a_connection_is_kept(self, serve: Serve) -> None:
        """Requests one after the other share a connection."""
        server = serve()
        transport = server.transport()
        assert [ask(transport, server.url).body for _ in range(3)] == [b"ok"] * 3
        assert server.connections == 1

    @pytest.mark.parametrize(
        "leave",
        [
            say_goodbye,
            lambda connection: connection.shutdown(socket.SHUT_WR),
            lambda connection: connection.sendall(b"HTTP/1.1 408 No\r\n\r\n"),
        ],
        ids=["the end of TLS", "the end of TCP", "bytes that nobody asked for"],
    )
    def test_a_connection_that_ended_is_made_anew(
        self, serve: Serve, leave: Callable[[ssl.SSLSocket], object]
    ) -> None:
        """A connection that the CA has closed, or said more on than it was asked, costs no request."""
        behave, left = leaving(leave)
        server = serve(behave)
        transport = server.transport()
        for number in range(3):
            left.clear()
            assert ask(transport, server.url).body == b"ok"
            assert left.wait(PATIENCE)
            settle(server.loop)  # which has seen that by then
            assert server.connections == number + 1

    def test_a_connection_that_was_idle_is_made_anew(self, serve: Serve, time: LoopTime) -> None:
        """After half a minute a connection is not trusted any more: the CA may be closing it just now."""
        server = serve()
        transport = server.transport(loop=time.loop)
        ask(transport, server.url)
        time.move(29.0)
        ask(transport, server.url)
        assert server.connections == 1
        time.move(31.0)
        ask(transport, server.url)
        assert server.connections == 2

    def test_messages_of_tls_alone_end_nothing(self, serve: Serve) -> None:
        """A connection on which something came that is no byte for us, such as a ticket, is used again."""
        server = serve()
        transport = server.transport()
        ask(transport, server.url)
        (kept,) = server.loop._watched.values()
        kept.readable = True
        assert ask(transport, server.url).body == b"ok"
        assert server.connections == 1

    def test_an_address_that_does_not_answer(self, serve: Serve) -> None:
        """Connecting takes no longer than a request may take, and nothing was sent."""
        with unanswering() as origin, pytest.raises(Failure, match="no answer in time") as failed:
            ask(serve().transport(origin=origin, try_limit=0.3), f"{origin}/x")
        assert not failed.value.sent

    def test_the_request_is_what_was_asked_for(self, serve: Serve) -> None:
        """Method, path, headers and body arrive as given; nothing asks for an encoding."""
        server = serve()
        headers = {"Content-Type": "application/jose+json"}
        ask(server.transport(), f"{server.origin}/a?b=c", method="POST", headers=headers, body=b"{}")
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert (lines[0], body) == (b"POST /a?b=c HTTP/1.1", b"{}")
        assert b"Content-Type: application/jose+json" in lines
        assert f"Host: 127.0.0.1:{server.origin.port}".encode() in lines
        assert b"Accept-Encoding: identity" in lines


class Users:
    """Work with connections of a transport that lasts until it is released."""

    def __init__(self, time: LoopTime, connections: int = 64) -> None:
        self.time = time
        self.transport = Transport(NOWHERE, time.loop, connections=connections)
        self.using: list[object] = []
        """Those who hold a connection, in the order in which they got it."""
        self._signals: dict[object, Signal] = {}

    def arrive(
        self,
        name: object,
        deadline: Deadline = NEVER,
        error: Exception | None = None,
        owner: tuple[str, ...] = ("A", "192.0.2.1"),
    ) -> Future[None]:
        """Begin to use a connection, or to wait for one."""
        signal = self._signals[name] = Signal()

        def work(connection: CAConnection) -> Steps[None]:
            self.using.append(name)
            yield signal.wait()
            self.using.remove(name)
            if error is not None:
                raise error

        def steps() -> Steps[None]:
            OWNER.set(owner)
            yield from self.transport.use(deadline, work)

        return begin(self.time.loop, steps())

    def release(self, *names: object) -> None:
        """Let some have ended."""
        for name in names:
            self.time.loop.soon(self._signals[name].set)
        settle(self.time.loop)

    def measure(self, seconds: float, times: int = 20, error: Exception | None = None) -> None:
        """Use a connection again and again, for so many seconds each time."""
        for _ in range(times):
            future = self.arrive("measure", error=error)
            self.time.move(seconds)
            self.release("measure")
            assert future.exception(PATIENCE) is error


class TestQueue:
    """Who gets a connection, and when."""

    def test_the_order_of_arrival(self, time: LoopTime) -> None:
        """Whoever comes first gets the next free connection, and nobody overtakes."""
        users = Users(time, connections=2)
        futures = [users.arrive(number) for number in range(6)]
        assert users.using == [0, 1]
        users.release(1)
        assert users.using == [0, 2]
        users.release(0, 2)
        assert users.using == [3, 4]
        futures.append(users.arrive("late"))
        users.release(3, 4)
        assert users.using == [5, "late"]
        users.release(5, "late")
        for future in futures:
            future.result(PATIENCE)

    def test_blocks_and_clients_take_turns(self, time: LoopTime) -> None:
        """What many ask for on behalf of one does not keep another waiting for longer than one request."""
        users = Users(time, connections=1)
        for number in range(4):
            users.arrive(f"A{number}")
        users.arrive("A other", owner=("A", "192.0.2.2"))
        users.arrive("B", owner=("B", "192.0.2.1"))
        served = []
        while users.using:
            served += users.using
            users.release(*users.using)
        assert served == ["A0", "A1", "B", "A other", "A2", "A3"]

    def test_who_gives_up_is_passed_over(self, time: LoopTime) -> None:
        """A request that waits no longer holds up nobody, whoever's it was."""
        users = Users(time, connections=1)
        users.arrive("A0")
        late = users.arrive("A1", time.loop.clock.deadline(5))
        users.arrive("B", owner=("B", "192.0.2.1"))
        users.arrive("A2")
        time.move(5)
        assert isinstance(late.exception(PATIENCE), DeadlinePassed)
        served = []
        while users.using:
            served += users.using
            users.release(*users.using)
        assert sorted(map(str, served)) == ["A0", "A2", "B"]

    def test_nobody_overtakes_whose_turn_it_is(self, time: LoopTime) -> None:
        """Who comes at the moment in which a connection is free comes after those who wait for it."""
        users = Users(time, connections=1)
        order: list[str] = []

        def work(name: str) -> Callable[[CAConnection], Steps[None]]:
            def use(connection: CAConnection) -> Steps[None]:
                order.append(name)
                yield from ()

            return use

        def come() -> None:
            users._signals["first"].set()
            time.loop.soon(lambda: futures.append(time.loop.submit(users.transport.use(NEVER, work("new")))))

        users.arrive("first")
        futures = [begin(time.loop, users.transport.use(NEVER, work("waiting")))]
        time.loop.soon(come)
        settle(time.loop)
        for future in futures:
            future.result(PATIENCE)
        assert order == ["waiting", "new"]

    def test_waiting_ends_at_the_deadline(self, time: LoopTime) -> None:
        """With all connections busy, a request waits until its deadline, not longer."""
        users = Users(time, connections=1)
        users.arrive("busy")
        late = users.arrive("late", time.loop.clock.deadline(5))
        time.move(4.0)
        assert not late.done()
        time.move(1.0)
        assert isinstance(late.exception(PATIENCE), DeadlinePassed)
        assert "busy" in str(late.exception())
        none_left = users.arrive("none left", time.loop.clock.deadline(0))
        assert isinstance(none_left.exception(PATIENCE), DeadlinePassed)

    def test_those_who_give_up_keep_nobody_waiting(self, time: LoopTime) -> None:
        """Whoever stops waiting leaves the queue, wherever in it, and the others keep their order."""
        users = Users(time, connections=1)
        users.arrive("busy")
        first = users.arrive("first", time.loop.clock.deadline(5))
        users.arrive("second")
        third = users.arrive("third", time.loop.clock.deadline(5))
        users.arrive("fourth")
        time.move(5.0)
        assert isinstance(first.exception(PATIENCE), DeadlinePassed)
        assert isinstance(third.exception(PATIENCE), DeadlinePassed)
        users.release("busy")
        assert users.using == ["second"]
        users.release("second")
        assert users.using == ["fourth"]

    def test_a_deadline_and_a_free_connection_at_once(self, time: LoopTime) -> None:
        """A connection that becomes free when the time of the next one is over goes to the one after it."""
        users = Users(time, connections=1)
        users.arrive("busy")
        first = users.arrive("first", time.loop.clock.deadline(5))
        second = users.arrive("second")

        def both() -> None:
            time.now += 5.0
            users._signals["busy"].set()

        time.loop.soon(both)
        settle(time.loop)
        users.release("first")
        first.exception(PATIENCE)
        assert users.using == ["second"]
        users.release("second")
        second.result(PATIENCE)

    @pytest.mark.parametrize(
        ("seconds", "connections"), [(0.0, 4), (0.004, 4), (0.02, 12), (0.05, 30), (0.5, 64)]
    )
    def test_a_near_ca_gets_few_connections(self, time: LoopTime, seconds: float, connections: int) -> None:
        """A CA that answers at once is kept busy by four connections; the farther it is, the more it gets."""
        users = Users(time)
        users.measure(seconds)
        for number in range(70):
            users.arrive(number)
        assert len(users.using) == connections

    def test_one_long_response_is_not_a_distance(self, time: LoopTime) -> None:
        """The shortest responses tell how far a CA is; a single long one says that it was busy."""
        users = Users(time)
        users.measure(0.001)
        users.measure(5.0, times=1)
        for number in range(70):
            users.arrive(number)
        assert len(users.using) == 4

    def test_a_failure_is_no_distance(self, time: LoopTime) -> None:
        """However soon requests fail, that says nothing about how far the CA is."""
        users = Users(time)
        users.measure(0.5)
        users.measure(0.0, error=Failure("refused", sent=False))
        for number in range(70):
            users.arrive(number)
        assert len(users.using) == 64

    def test_all_who_wait_go_on_when_the_ca_is_far(self, time: LoopTime) -> None:
        """As soon as responses take long, everyone who waited for one of few connections gets another."""
        users = Users(time)
        for number in range(20):
            users.arrive(number)
        assert users.using == [0, 1, 2, 3]
        time.move(9.0)  # each of the four was held that long
        users.release(0)
        assert users.using == list(range(1, 20))


def silent(server: Server, connection: socket.socket) -> None:
    """Read whatever comes, and say nothing."""
    server.requests.append(connection.recv(10))
    with contextlib.suppress(OSError):
        while connection.recv(65536):
            pass


class TestClose:
    """The end of all exchanges, wherever they are."""

    def begun(self, transport: Transport, url: str, **options: Any) -> Future[Any]:
        return begin(transport._loop, asking(transport, url, NEVER, **options))

    def failure(self, future: Future[Any]) -> Failure:
        error = future.exception(PATIENCE)
        assert isinstance(error, Failure)
        assert "stopping" in str(error)
        assert error.final
        return error

    def test_a_closed_transport_asks_nothing(self, serve: Serve) -> None:
        """After `close`, a request fails before anything is sent, on connections in use too."""
        server = serve()
        transport = server.transport(connections=2)
        options: dict[str, Any] = {"headers": {}, "deadline": SYSTEM.deadline(20), "max_size": 9}

        def work(connection: CAConnection) -> Steps[None]:
            yield from connection.exchange("GET", server.url, **options)
            transport.close()
            yield from connection.exchange("GET", server.url, **options)

        assert not self.failure(server.loop.submit(transport.use(NEVER, work))).sent
        assert not self.failure(self.begun(transport, server.url)).sent
        assert len(server.requests) == 1

    def test_while_waiting_for_the_response(self, serve: Serve) -> None:
        """A request that waits for a silent CA ends as soon as the transport is closed; it was sent."""
        server = serve(silent)
        transport = server.transport()
        request = self.begun(transport, server.url)
        wait_for(lambda: bool(server.requests))
        transport.close()
        assert self.failure(request).sent

    def test_while_sending(self, serve: Serve) -> None:
        """So does one that the CA does not read to its end."""
        began = threading.Event()

        def behave(server: Server, connection: socket.socket) -> None:
            connection.recv(10)
            began.set()
            server.closing.wait(PATIENCE)

        server = serve(behave)
        transport = server.transport()
        request = self.begun(transport, server.url, method="POST", body=b"x" * 10_000_000)
        assert began.wait(PATIENCE)
        transport.close()
        assert self.failure(request).sent

    def test_in_the_handshake(self, serve: Serve) -> None:
        """A connection whose handshake goes on ends, and nothing was sent."""
        server = serve(silent, tls=False)
        transport = server.transport()
        request = self.begun(transport, server.url)
        wait_for(lambda: bool(server.requests))
        transport.close()
        assert not self.failure(request).sent

    def test_while_connecting(self, serve: Serve) -> None:
        """A connection that nobody has accepted yet is given up."""
        server = serve()
        with unanswering() as origin:
            transport = server.transport(origin=origin)
            request = self.begun(transport, f"{origin}/x")
            assert not request.done()
            transport.close()
            assert not self.failure(request).sent

    def test_while_a_name_is_looked_up(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
        """When the address of a closed transport's CA is found at last, nobody connects to it."""
        server = serve()
        looking, go = threading.Event(), threading.Event()
        real = socket.getaddrinfo

        def look_up(host: str, port: int, *, type: int, flags: int) -> Any:  # noqa: A002 - as getaddrinfo has it
            if flags & socket.AI_NUMERICHOST:
                raise socket.gaierror
            looking.set()
            go.wait(PATIENCE)
            return real("127.0.0.1", port, type=type)

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        transport = server.transport(origin=Origin("ca.example", server.origin.port))
        request = self.begun(transport, server.url)
        assert looking.wait(PATIENCE)
        transport.close()
        go.set()
        assert not self.failure(request).sent
        assert server.connections == 0

    def test_while_waiting_for_a_connection(self, serve: Serve) -> None:
        """Requests that wait for a free connection end as well, and send nothing."""
        server = serve(silent)
        transport = server.transport(connections=1)
        requests = [self.begun(transport, server.url) for _ in range(5)]
        wait_for(lambda: bool(server.requests))
        transport.close()
        assert [self.failure(request).sent for request in requests] == [True, False, False, False, False]
        assert len(server.requests) == 1

    def test_the_loop_is_closed_at_once(self, serve: Serve) -> None:
        """Also where the loop ends right after the transport, requests hear that the server is stopping."""
        for _ in range(20):
            server = serve(silent)
            transport = server.transport()
            request = self.begun(transport, server.url)
            wait_for(lambda server=server: bool(server.requests))  # type: ignore[misc] # bound now
            transport.close()
            server.loop.close()
            assert self.failure(request).sent

    def test_kept_connections_are_closed(self, serve: Serve) -> None:
        """A connection that nobody uses is closed with the transport, and its descriptor is free."""
        ended = threading.Event()

        def behave(server: Server, connection: socket.socket) -> None:
            ANSWERING(server, connection)
            ended.set()

        server = serve(behave)
        transport = server.transport()
        ask(transport, server.url)
        transport.close()
        assert ended.wait(PATIENCE)
        settle(server.loop)
        assert not any(connection.is_open for connection in transport._connections)
        assert server.loop._watched == {}
