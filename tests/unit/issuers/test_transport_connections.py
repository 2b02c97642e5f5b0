"""Connections to one CA: how many there are, how long they are kept, and how they end."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.tls_server import (
    OK,
    Serve,
    Server,
    answering_once,
    ask,
    read_request,
)

from acmems.exceptions import DeadlinePassed
from acmems.issuers.acme.session.transport import Failure
from acmems.system.clock import NEVER, SYSTEM

pytestmark = pytest.mark.timeout(30)


class TestConnections:
    def test_a_connection_is_kept(self, serve: Serve) -> None:
        """Requests one after the other share a connection."""
        server = serve()
        transport = server.transport()
        assert [ask(transport, server.url).body for _ in range(3)] == [b"ok"] * 3
        assert server.connections == 1

    def test_a_connection_that_was_closed_is_made_anew(self, serve: Serve) -> None:
        """A connection that the CA closed meanwhile costs no request."""
        server = serve(answering_once(OK))
        transport = server.transport()
        assert [ask(transport, server.url).body for _ in range(3)] == [b"ok"] * 3
        assert server.connections == 3

    def test_a_connection_that_was_idle_is_made_anew(self, serve: Serve) -> None:
        """After half a minute a connection is not trusted any more: the CA may be closing it just now."""
        time = 0.0
        server = serve()
        transport = server.transport(monotonic=lambda: time)
        ask(transport, server.url)
        time = 29.0
        ask(transport, server.url)
        assert server.connections == 1
        time = 60.0
        ask(transport, server.url)
        assert server.connections == 2

    def test_waiting_for_a_connection_ends_at_the_deadline(self, serve: Serve) -> None:
        """With all connections busy, a request waits until its deadline, not longer."""
        transport = serve().transport(connections=1)
        with (
            transport.channel(SYSTEM.deadline(20)),
            pytest.raises(DeadlinePassed, match="busy"),
            transport.channel(SYSTEM.deadline(0.05)),
        ):
            pass

    @pytest.mark.parametrize(("seconds", "connections"), [(0.0, 4), (0.5, 16)])
    def test_a_near_ca_gets_few_connections(self, serve: Serve, seconds: float, connections: int) -> None:
        """A CA that answers at once is kept busy by four connections; one that is far away gets sixteen."""
        ticks = itertools.count()
        transport = serve().transport(monotonic=lambda: seconds * next(ticks))
        for _ in range(20):
            with transport.channel(NEVER):
                pass
        with contextlib.ExitStack() as held:
            for _ in range(connections):
                held.enter_context(transport.channel(SYSTEM.deadline(20)))
            with pytest.raises(DeadlinePassed):
                held.enter_context(transport.channel(SYSTEM.deadline(0.05)))

    def test_all_who_wait_go_on_when_answers_take_long(self, serve: Serve) -> None:
        """As soon as answers take long, everyone who waited for one of few connections gets another."""
        now = 0.0
        transport = serve().transport(monotonic=lambda: now)
        inside = threading.Barrier(17)

        def hold() -> None:
            with transport.channel(SYSTEM.deadline(20)):
                inside.wait(20)

        with ThreadPoolExecutor(16) as pool:
            with contextlib.ExitStack() as few:
                for _ in range(4):
                    few.enter_context(transport.channel(NEVER))
                threads = [pool.submit(hold) for _ in range(16)]
                now = 9.0  # each of the four was held that long
            inside.wait(20)
            for thread in threads:
                thread.result()

    def test_a_closed_transport_asks_nothing(self, serve: Serve) -> None:
        """After `close`, a request fails before anything is sent, on connections in use too."""
        server = serve()
        transport = server.transport(connections=2)
        with transport.channel(SYSTEM.deadline(20)) as busy:
            options: dict[str, Any] = {"headers": {}, "deadline": SYSTEM.deadline(20), "max_size": 9}
            busy.exchange("GET", server.url, **options)
            transport.close()
            with pytest.raises(Failure, match="stopping") as failed:
                busy.exchange("GET", server.url, **options)
        assert (failed.value.sent, failed.value.final) == (False, True)
        with pytest.raises(Failure, match="stopping"):
            ask(transport, server.url)
        assert len(server.requests) == 1

    def test_closing_ends_a_request_that_waits_for_its_answer(self, serve: Serve) -> None:
        """A thread that waits for a silent CA is free as soon as the transport is closed."""
        asked = threading.Event()

        def silence(server: Server, connection: socket.socket) -> None:
            read_request(connection)
            asked.set()
            server.closing.wait(20)

        server = serve(silence)
        transport = server.transport()
        with ThreadPoolExecutor(1) as pool:
            request = pool.submit(ask, transport, server.url, deadline=SYSTEM.deadline(1000))
            asked.wait(20)
            transport.close()
            error = request.exception(20)
        assert isinstance(error, Failure)
        assert error.sent

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
