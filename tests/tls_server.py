"""A TLS server that does exactly what a test says, in the place of a CA."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.peers.ca import make_tls_certificate

from acmems.issuers.acme.session import Response
from acmems.issuers.acme.session.origin import Origin
from acmems.issuers.acme.session.transport import Transport
from acmems.system.clock import Deadline
from acmems.system.steps import StepLoop, Steps

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Behaviour = Callable[["Server", socket.socket], None]


def read_request(connection: socket.socket) -> bytes:
    """Return one request, head and body; b"" at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return b""
        data += part
    head, _, start = data.partition(b"\r\n\r\n")
    length = next((int(x[15:]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:")), 0)
    body = bytearray(start)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def answering(data: bytes) -> Behaviour:
    """Answer every request with these bytes, and keep the connection."""

    def behave(server: Server, connection: socket.socket) -> None:
        while request := read_request(connection):
            server.requests.append(request)
            connection.sendall(data)

    return behave


def answering_once(data: bytes) -> Behaviour:
    """Answer one request with these bytes, and close in good order."""

    def behave(server: Server, connection: socket.socket) -> None:
        server.requests.append(read_request(connection))
        connection.sendall(data)
        if isinstance(connection, ssl.SSLSocket):
            connection.unwrap()

    return behave


def breaking_off(data: bytes) -> Behaviour:
    """Answer one request with these bytes, and leave without the goodbye that TLS wants."""

    def behave(server: Server, connection: socket.socket) -> None:
        server.requests.append(read_request(connection))
        connection.sendall(data)

    return behave


ANSWERING = answering(OK)


class Server:
    """A TLS server on loopback; `behave` gets every connection after its handshake."""

    def __init__(self, folder: Path, behave: Behaviour, *, tls: bool = True) -> None:
        self.behave = behave
        self.requests: list[bytes] = []
        self.connections = 0
        self.closing = threading.Event()
        self.loop = StepLoop()
        self.ca_file = folder / "tls.pem"
        make_tls_certificate(self.ca_file, folder / "tls.key")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.ca_file, folder / "tls.key")
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.origin = Origin("127.0.0.1", self._listener.getsockname()[1])
        self.url = f"{self.origin}/x"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if not self._tls:
                self.behave(self, connection)
                return
            with self._context.wrap_socket(connection, server_side=True) as wrapped:
                self.behave(self, wrapped)

    def transport(self, **options: Any) -> Transport:
        return Transport(**{"origin": self.origin, "loop": self.loop, "ca_file": self.ca_file, **options})

    def close(self) -> None:
        self.closing.set()
        self.stop_listening()
        self.loop.close()

    def stop_listening(self) -> None:
        with contextlib.suppress(OSError):  # closed already
            self._listener.shutdown(socket.SHUT_RDWR)  # `close` alone leaves the accepting thread in there
        self._listener.close()

    def listen_on(self, host: str) -> Origin:
        """Move to another address, and the same port."""
        self.stop_listening()
        self._listener = socket.create_server((host, self.origin.port))
        threading.Thread(target=self._accept, daemon=True).start()
        return Origin(host, self.origin.port)


Serve = Callable[..., Server]


def ask(transport: Transport, url: str, deadline: Deadline | None = None, **options: Any) -> Response:
    return transport._loop.run(asking(transport, url, deadline, **options))


def asking(
    transport: Transport, url: str, deadline: Deadline | None = None, **options: Any
) -> Steps[Response]:
    """Return the steps of one request."""
    options = {"headers": {}, "max_size": 1000, **options}
    until = deadline or transport._loop.clock.deadline(20)
    method = options.pop("method", "GET")
    return transport.use(
        until, lambda connection: connection.exchange(method, url, deadline=until, **options)
    )


@contextlib.contextmanager
def unanswering() -> Iterator[Origin]:
    """Give an address at which the kernel answers nobody who wants to connect."""
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):  # nobody accepts them, so that there is no room for any further one
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        yield Origin(*full.getsockname())
