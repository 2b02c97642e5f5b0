"""The way to a CA through an HTTP proxy."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading

import pytest
from tests.steps import PATIENCE, DirectLoop, begin
from tests.tls_server import Behaviour, Serve, Server, ask, asking, read_request

from acmems.issuers.acme.session.connection import Failure
from acmems.issuers.acme.session.origin import Origin
from acmems.issuers.acme.session.proxy import Proxy, proxy_for
from acmems.issuers.acme.session.transport import Transport
from acmems.system.clock import NEVER, SYSTEM
from acmems.text import Secret

pytestmark = pytest.mark.timeout(30)


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def use(proxy: Server, environment: pytest.MonkeyPatch, credentials: str = "") -> None:
    """Let the environment name a proxy, which is used for servers of this machine as well."""
    environment.setenv("https_proxy", f"http://{credentials}127.0.0.1:{proxy.origin.port}")
    environment.setattr("acmems.issuers.acme.session.proxy._LOOPBACK", frozenset())


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def tunnel(target: Server) -> Behaviour:
    """Connect whoever asks to one server, whatever name was asked for."""

    def behave(server: Server, connection: socket.socket) -> None:
        server.requests.append(read_request(connection))
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with socket.create_connection((target.origin.host, target.origin.port)) as onward:
            back = threading.Thread(target=copy, args=(onward, connection), daemon=True)
            back.start()
            copy(connection, onward)
            back.join()

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    return behave


class TestTunnel:
    """Requests that go through a proxy."""

    def test_the_proxy_of_the_environment_is_used(self, serve: Serve, plain: pytest.MonkeyPatch) -> None:
        """`https_proxy` names the way out; it carries TLS that it cannot read."""
        server = serve()
        proxy = serve(tunnel(server), tls=False)
        use(proxy, plain, "user:pass%20word@")
        assert ask(server.transport(), server.url).body == b"ok"
        connect = proxy.requests[0].split(b"\r\n")
        assert connect[0].startswith(f"CONNECT 127.0.0.1:{server.origin.port} ".encode())
        assert b"Proxy-Authorization: Basic " + base64.b64encode(b"user:pass word") in connect

    def test_without_credentials_none_are_sent(self, serve: Serve, plain: pytest.MonkeyPatch) -> None:
        """A proxy that wants no credentials is told the CA's host and port, and nothing else."""
        server = serve()
        proxy = serve(tunnel(server), tls=False)
        use(proxy, plain)
        transport = server.transport()
        assert [ask(transport, server.url).body for _ in range(2)] == [b"ok"] * 2
        place = server.origin.authority
        assert proxy.requests == [f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode()]

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "did not connect: HTTP/1.1 407 Proxy"),
            (b"HTTP/1.1 502 \x1b[2J\r\nX: y\r\n\r\n", "did not connect: HTTP/1.1 502"),
            (b"HTTP/1.1 2000 OK\r\n\r\n", "did not connect"),
            (b"nonsense\r\n\r\n", "did not connect: nonsense"),
            (b"HTTP/1.1 200 OK\r\n", "did not answer"),
            (b"", "did not answer"),
            (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 20_000, "did not answer"),
        ],
        ids=["refused", "bad gateway", "odd status", "no HTTP", "half a head", "nothing", "endless head"],
    )
    def test_a_proxy_that_does_not_connect(
        self, serve: Serve, plain: pytest.MonkeyPatch, answer: bytes, reason: str
    ) -> None:
        """What a proxy says instead of connecting is told in one line, and nothing was sent to the CA."""

        def behave(server: Server, connection: socket.socket) -> None:
            server.requests.append(read_request(connection))
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass

        server = serve()
        use(serve(behave, tls=False), plain)
        with pytest.raises(Failure, match=reason) as failed:
            ask(server.transport(), server.url)
        assert (failed.value.sent, failed.value.final) == (False, False)
        assert str(failed.value).isprintable()
        assert server.connections == 0

    def test_a_silent_proxy(self, serve: Serve, plain: pytest.MonkeyPatch) -> None:
        """A proxy that says nothing is given up in time, and at once when the transport is closed."""

        def behave(server: Server, connection: socket.socket) -> None:
            server.requests.append(read_request(connection))
            server.closing.wait(PATIENCE)

        server = serve()
        use(serve(behave, tls=False), plain)
        with pytest.raises(Failure, match="no answer in time") as failed:
            ask(server.transport(try_limit=0.3), server.url)
        assert not failed.value.sent
        transport = server.transport()
        waiting = begin(server.loop, asking(transport, server.url, NEVER))
        assert not waiting.done()
        transport.close()
        error = waiting.exception(PATIENCE)
        assert isinstance(error, Failure)
        assert "stopping" in str(error)


class TestChoice:
    """Which proxy is used, if any."""

    @pytest.mark.parametrize(
        ("value", "proxy"),
        [
            ("http://proxy.example", Proxy("proxy.example", 80)),
            ("http://proxy.example:3128/", Proxy("proxy.example", 3128)),
            ("proxy.example:3128", Proxy("proxy.example", 3128)),
            ("http://[2001:db8::1]:3128", Proxy("2001:db8::1", 3128)),
            ("http://user@proxy.example", Proxy("proxy.example", 80, Secret(f"Basic {b64('user:')}"))),
            (
                "http://u:p%40%C3%A9@proxy.example",
                Proxy("proxy.example", 80, Secret(f"Basic {b64('u:p@é')}")),
            ),
            ("", None),
        ],
    )
    def test_forms(self, plain: pytest.MonkeyPatch, value: str, proxy: Proxy | None) -> None:
        """The variable is a URL or a host and port, with credentials or without."""
        plain.setenv("https_proxy", value)
        found = proxy_for(Origin("ca.example", 443))
        assert found == proxy
        assert found is None or "Basic" not in repr(found)

    @pytest.mark.parametrize("host", ["127.0.0.1", "ca.internal"])
    def test_loopback_and_no_proxy_are_reached_directly(self, plain: pytest.MonkeyPatch, host: str) -> None:
        """What `no_proxy` lists, and this machine itself, needs no proxy."""
        plain.setenv("https_proxy", "ftp://proxy.example")
        plain.setenv("no_proxy", "ca.internal")
        assert proxy_for(Origin(host, 443)) is None

    @pytest.mark.parametrize(
        "value", ["socks5://proxy.example", "https://proxy.example", "http://", "http://proxy.example:x"]
    )
    def test_other_kinds_of_proxy_are_refused(self, plain: pytest.MonkeyPatch, value: str) -> None:
        """A proxy that would not be used as meant stops the start."""
        plain.setenv("https_proxy", value)
        with pytest.raises(ValueError, match="https_proxy"):
            Transport(Origin("ca.example", 443), DirectLoop(SYSTEM))
