"""What tests of the listener share: an application that does as it is told, a clock to move, clients."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import functools
import os
import select
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.peers import wait_until
from tests.peers.ca import make_tls_certificate

from acmems.exceptions import AcmeException, HttpRefusal
from acmems.net.http import Exchange, Handling, HttpLimits, HttpService
from acmems.net.http.connection import HttpConnection
from acmems.net.listening import Listener, ListenerLimits
from acmems.net.tls import ServerTls, TlsMaterial, server_context
from acmems.system.clock import Clock

LIMITS = HttpLimits(read_seconds=10, request_seconds=100, write_seconds=20, idle_seconds=30, linger_seconds=2)
GRACE = 1.0
BIG = b"x" * 1_000_000  # more than the kernel takes at once
PATIENCE = 30.0  # seconds of real time after which a test gives up; none waits for them


@dataclasses.dataclass
class Time:
    """A monotonic clock that stands still until it is moved."""

    now: float = 1000.0

    @property
    def clock(self) -> Clock:
        """The clock; whoever waits on it looks again after a moment of real time."""
        return Clock(
            lambda: self.now, lambda: datetime.datetime.now(datetime.UTC), lambda event, _: event.wait(0.002)
        )


class Application:
    """Answers each request with its target and body, at once or when told so.

    Attributes:
        allowed: how many bytes of body it wants.
        on_begin: called with each head.
        on_run: called with each complete request; answers it, unless replaced.
        on_refuse: called before each refusal.
        begun: the requests whose heads it has seen.
        running: the requests that it was asked to answer.
        refused: the errors that it was asked to answer, by the names of their classes.
    """

    def __init__(self) -> None:
        self.allowed = 100
        self.on_begin: Callable[[Exchange], None] = lambda _: None
        self.on_run: Callable[[Exchange], None] = reply
        self.on_refuse: Callable[[], None] = lambda: None
        self.begun: list[Exchange] = []
        self.running: list[Exchange] = []
        self.refused: list[str] = []
        self._changed = threading.Condition()

    def begin(self, exchange: Exchange) -> Handling:
        self.begun.append(exchange)
        self.on_begin(exchange)
        return Handling(self.allowed, lambda: self.run(exchange))

    def run(self, exchange: Exchange) -> None:
        answer = self.on_run  # before anyone who waits for this can replace it
        with self._changed:
            self.running.append(exchange)
            self._changed.notify_all()
        answer(exchange)

    def refuse(self, exchange: Exchange | None, error: Exception, client: str) -> bytes:
        self.refused.append(type(error).__name__)
        self.on_refuse()
        if isinstance(error, HttpRefusal):
            return response(str(error.status))
        return response(type(error).__name__ if isinstance(error, AcmeException) else "500")

    def wait_for(self, requests: int) -> Exchange:
        """Wait until so many requests were there to be answered; return the last of them."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.running) >= requests, PATIENCE)
            return self.running[requests - 1]


def response(status: str, body: bytes = b"") -> bytes:
    """Write an answer; its reason phrase is left out."""
    return f"HTTP/1.1 {status} \r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def reply(exchange: Exchange) -> None:
    """Answer a request with its target and body."""
    exchange.answer(response("200", exchange.target.encode() + b" " + exchange.body))


def later(exchange: Exchange) -> None:
    """Leave a request unanswered for now."""


def fail(error: Exception) -> Callable[..., None]:
    """Return a function that raises this error."""

    def raise_it(*_: object) -> None:
        raise error

    return raise_it


def post(target: str = "/", body: bytes = b"", *fields: str, version: str = "1.1") -> bytes:
    """Write a request."""
    head = [f"POST {target} HTTP/{version}", "Host: a", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(head).encode() + body


def look_around(listener: Listener) -> None:
    """Wait until a listener has looked at its deadlines and limits, by what the time is now."""

    def has_looked() -> bool:
        due = listener._loop._due
        return not listener.connections or (due is not None and due > listener.clock.monotonic())

    wait_until(has_looked, "it has looked at deadlines")


class WithoutFamily(socket.socket):
    """A socket of a kernel that has no IPv6."""

    def __init__(self, family: int = socket.AF_INET, *arguments: Any, **named: Any) -> None:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        super().__init__(family, *arguments, **named)


class EncryptedSocket:
    """The client's end of a TLS connection, as far as tests use sockets.

    Args:
        sock: the socket.
        go: lets the server do what it can; None: it does that by itself.
    """

    def __init__(self, sock: socket.socket, go: Callable[[], None] = lambda: None) -> None:
        self.socket = sock
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing)
        while not self._shake():
            go()
            self._incoming.write(sock.recv(65536))
        go()

    def _shake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self.socket.sendall(self._outgoing.read())
        return True

    def sendall(self, data: bytes) -> None:
        if data:
            self._tls.write(data)
        self.socket.sendall(self._outgoing.read())

    def recv(self, size: int) -> bytes:
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                data = self.socket.recv(65536)
                if not data:
                    return b""
                self._incoming.write(data)

    def shutdown(self, how: int) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self.sendall(b"")
        self.socket.shutdown(how)

    def fileno(self) -> int:
        return self.socket.fileno()

    def settimeout(self, seconds: float) -> None:
        self.socket.settimeout(seconds)

    def setblocking(self, flag: bool) -> None:
        self.socket.setblocking(flag)

    def setsockopt(self, level: int, name: int, value: int | bytes) -> None:
        self.socket.setsockopt(level, name, value)

    def close(self) -> None:
        self.socket.close()


@functools.cache
def tls_material() -> TlsMaterial:
    """Return a certificate that signs itself."""
    with tempfile.TemporaryDirectory() as folder:
        chain, key = Path(folder, "chain.pem"), Path(folder, "key.pem")
        make_tls_certificate(chain, key)
        return TlsMaterial.parse(chain.read_bytes(), key.read_bytes())


def quiet_tls(client_ca: bytes | None = None) -> ServerTls:
    """Return what encrypts a listener's connections, and sends nothing after handshakes."""
    context = server_context(tls_material(), client_ca)
    context.num_tickets = 0
    return ServerTls(context)


class Client:
    """The other end of a connection, which never waits long in vain.

    Args:
        sock: the connected socket.
    """

    def __init__(self, sock: socket.socket | EncryptedSocket) -> None:
        self.socket = sock
        self._read = b""
        sock.settimeout(PATIENCE)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, data: bytes) -> tuple[str, bytes]:
        self.send(data)
        return self.answer()

    def answer(self) -> tuple[str, bytes]:
        """Return status and body of the next answer; no status where the connection ends instead."""
        while b"\r\n\r\n" not in self._read:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                assert not self._read
                return "", b""
            self._read += data
        head, _, rest = self._read.partition(b"\r\n\r\n")
        status = head.split()[1].decode()
        length = 0 if status == "100" else int(head.rpartition(b" ")[2])
        while len(rest) < length:
            rest += self.socket.recv(65536)
        self._read = rest[length:]
        return status, rest[:length]

    @property
    def silent(self) -> bool:
        """Whether nothing has come, not even the end."""
        return not self._read and not select.select([self.socket], [], [], 0)[0]

    @property
    def ended(self) -> bool:
        """Whether the connection has ended; waits for whatever comes next."""
        return self.answer() == ("", b"")

    def finish(self) -> None:
        """Send no more, but read on."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Break the connection."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()


class Bench:
    """A connection, its client, and a listener whose one thread is the test's.

    Args:
        tls: encrypts connections; None where they are not encrypted.
    """

    def __init__(self, tls: ServerTls | None = None) -> None:
        self.is_encrypted = tls is not None
        self.time = Time()
        self.application = Application()
        self.listener = Listener(
            "bench",
            [],
            HttpService(self.application, LIMITS),
            limits=ListenerLimits(1, grace_seconds=GRACE, tick_seconds=0.01, refusals=1_000_000),
            clock=self.time.clock,
            tls=tls,
        )
        ours, theirs = socket.socketpair()
        connection = self.listener.admit(ours, ("192.0.2.7", 4711))
        self.client = self._client(theirs)
        assert isinstance(connection, HttpConnection)
        self.connection = connection

    def connect(self, source: str) -> Client:
        """Let a further client come, from an address."""
        ours, theirs = socket.socketpair()
        self.listener.admit(ours, (source, 4711))
        return self._client(theirs)

    def _client(self, sock: socket.socket) -> Client:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)  # records take more room
        return Client(EncryptedSocket(sock, self.go) if self.is_encrypted else sock)

    def go(self) -> None:
        """Let the connection do all that it can do now."""
        while self.listener.turn():
            pass

    def send(self, data: bytes) -> None:
        self.client.send(data)
        self.go()

    def ask(self, data: bytes) -> tuple[str, bytes]:
        self.send(data)
        return self.client.answer()

    def look_at_deadlines(self) -> None:
        """Enforce deadlines and limits, without a look at what has come."""
        self.listener._tick()

    def pass_(self, seconds: float) -> None:
        """Let time pass, and enforce deadlines."""
        self.time.now += seconds
        self.look_at_deadlines()
        self.go()

    def make_room(self) -> None:
        """Have the connection ended for a newcomer, if the rules let that be, when its grace is over."""
        self.time.now += GRACE
        self.look_at_deadlines()
        self.listener._acceptor._end_spare()

    def retire(self) -> None:
        """Have the connection ended as by a stop, if nothing is going on there."""
        self.listener._retire(self.connection)

    @property
    def is_open(self) -> bool:
        assert self.connection.is_closed is (self.listener.connections == ())
        return not self.connection.is_closed
