"""A proxy between acmems and a real CA that breaks what it is told to break.

    with Pebble() as pebble, FaultProxy(pebble) as proxy:
        proxy.when(path=FINALIZE, nth=1).drop_answer()
        with Acmems(proxy.before(Settings.of(pebble, folder))) as acmems:
            ...
        assert proxy.count(path=FINALIZE) == 1

It ends TLS with a certificate of its own (`ca_file`), and passes the Host header on: Pebble makes its
URLs from it, so that all of them lead back here. Everything that no rule is for passes unchanged.

`when` says for which requests: by method, by path (a regular expression, searched for), and by their
number among the requests that fit (`nth`, from 1; a `range` for several; all if left out). The first
rule that fits wins. Its next word says what happens:

- to the request: `reset`, `stall`, `answer`, `problem`, `redirect` (the CA never sees it)
- to the answer, after the CA did its part: `drop_answer`, `truncate`, `drip`, `replace`, `edit`, `set`,
  `header`

`tests.faults` has the words, and the paths where Pebble keeps things.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import os
import re
import socket
import ssl
import struct
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from tests.faults import Reply, Rule, Seen
from tests.peers import Settings
from tests.peers.ca import make_tls_certificate

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "te", "upgrade"})


class CA(Protocol):
    """What stands behind the proxy."""

    directory_url: str
    ca_file: Path


class FaultProxy:
    """The proxy, running between `__enter__` and `__exit__`.

    Args:
        ca: what stands behind it.

    Attributes:
        directory_url: the CA's directory, seen through the proxy.
        ca_file: the certificate that the proxy's HTTPS is to be checked with.
        seen: every request, in the order of arrival.
        most_connections: how many connections were open at the same time.
    """

    def __init__(self, ca: CA) -> None:
        self._ca = ca
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        self._connections = 0
        self._cleanup = contextlib.ExitStack()
        self.most_connections = 0
        self.seen: list[Seen] = []
        self.closing = threading.Event()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fault-proxy-")))
            self.ca_file = folder / "tls.pem"
            make_tls_certificate(self.ca_file, folder / "tls.key")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.ca_file, folder / "tls.key")
            server = stack.enter_context(_Server(self, context))
            upstream = urlsplit(self._ca.directory_url)
            self._upstream = (upstream.hostname or "", upstream.port)
            self._context = ssl.create_default_context(cafile=self._ca.ca_file)
            self.directory_url = f"https://127.0.0.1:{server.server_address[1]}{upstream.path}"
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            stack.callback(self.closing.set)
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def when(self, *, method: str | None = None, path: str = "", nth: int | range | None = None) -> Rule:
        """Return a new rule for some requests, to be told what happens to them."""
        rule = Rule(method, path, nth)
        with self._lock:
            self._rules.append(rule)
        return rule

    def before(self, settings: Settings) -> Settings:
        """Return a configuration of acmems that sees the CA through the proxy."""
        return dataclasses.replace(settings, directory_url=self.directory_url, ca_file=self.ca_file)

    def heal(self) -> None:
        """Forget all rules."""
        with self._lock:
            self._rules.clear()

    def count(self, *, method: str | None = None, path: str = "") -> int:
        """Return how many such requests were seen."""
        return sum(method in (None, seen.method) and bool(re.search(path, seen.path)) for seen in self.seen)

    def connect(self) -> http.client.HTTPSConnection:
        """Return a connection to the CA."""
        return http.client.HTTPSConnection(*self._upstream, context=self._context, timeout=30)

    def choose(self, request: Seen) -> Rule:
        """Take note of a request, and return what to do with it."""
        with self._lock:
            self.seen.append(request)
            return next((rule for rule in self._rules if rule.fits(request)), Rule(None, "", None))

    def connected(self, change: int) -> None:
        """Take note of a connection that comes (+1) or goes (-1)."""
        with self._lock:
            self._connections += change
            self.most_connections = max(self.most_connections, self._connections)


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    block_on_close = False

    def __init__(self, proxy: FaultProxy, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.proxy = proxy
        # The handshake belongs to a connection's own thread.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that go away in the middle are what this is for."""


class _Conversation(BaseHTTPRequestHandler):
    """One connection of a client, and one to the CA that belongs to it."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.upstream = self.server.proxy.connect()
        self.server.proxy.connected(+1)

    def finish(self) -> None:
        self.server.proxy.connected(-1)
        self.upstream.close()
        super().finish()

    def _converse(self) -> None:
        self.request_body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.proxy.choose(Seen(self.command, self.path, self.request_body)).act(self)

    do_GET = do_HEAD = do_POST = _converse  # noqa: N815 - http.server's names

    def forward(self) -> Reply:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        self.upstream.request(self.command, self.path, self.request_body or None, headers)
        answer = self.upstream.getresponse()
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
        links = answer.headers.get_all("Link", [])
        return Reply(answer.status, kept | ({"Link": ", ".join(links)} if links else {}), answer.read())

    def send(self, reply: Reply, *, keep: int | None = None, pause: float = 0.0) -> None:
        reason = http.client.responses.get(reply.status, "")
        fields = {**reply.headers, "Content-Length": str(len(reply.body))}
        head = [f"HTTP/1.1 {reply.status} {reason}", *(f"{k}: {v}" for k, v in fields.items()), "", ""]
        body = b"" if self.command == "HEAD" else reply.body[:keep]
        data = "\r\n".join(head).encode("latin-1") + body
        if pause:
            for byte in data:
                self.wfile.write(bytes([byte]))
                self.server.proxy.closing.wait(pause)
        else:
            self.wfile.write(data)
        self.close_connection = keep is not None

    def stall(self, until: threading.Event | None) -> None:
        if until is None:
            self.server.proxy.closing.wait()
            self.close_connection = True
        else:
            until.wait()
            self.send(self.forward())

    def reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Print nothing."""
