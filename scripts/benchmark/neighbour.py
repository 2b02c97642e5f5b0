"""A neighbour that behaves badly, in a process of its own, until its standard input ends.

usage: python -m scripts.benchmark.neighbour KIND PORT   (one line on standard output once it has begun)
"""

from __future__ import annotations

import collections
import errno
import itertools
import select
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from scripts.benchmark import csrs
from scripts.benchmark.herd import bound_to, most_files
from scripts.benchmark.load import request_for

HOME = "127.0.0.66"
"""The address of a neighbour that may ask."""
STRANGER = "127.0.0.99"
"""The address of one that may not, where it has only one."""
AT_ONCE = 100
"""Connections that are begun before anything else is looked at."""
UNKNOWN = b"GET /.well-known/acme-challenge/none HTTP/1.1\r\nHost: www.example.org\r\n\r\n"
WRONG = (
    b"POST /sign HTTP/1.1\r\nHost: acmems\r\nContent-Length: 5\r\n"
    b"Authentication: hmac name=sha256, hash=" + b"0" * 64 + b"\r\n\r\nwrong"
)


@dataclass(frozen=True)
class Behaviour:
    """What a neighbour does on each of its connections.

    Args:
        connections: how many it holds; whichever is ended is replaced.
        request: what it sends on each; nothing if it is silent.
        every: seconds between two requests on a connection; None for one request only.
        copies: how often the request is sent at a time.
        reads: whether it reads what is answered.
        addresses: from how many addresses it comes.
        a_second: connections that it opens in a second at most.
        rest: seconds from the last answer until all connections come again; None: each comes by itself.
    """

    connections: int
    request: bytes = b""
    every: float | None = None
    copies: int = 1
    reads: bool = True
    addresses: int = 1
    a_second: float = 20_000.0
    rest: float | None = None


BEHAVIOURS: Mapping[str, Behaviour] = {
    "one-csr": Behaviour(2200, rest=1.0),
    "not-found": Behaviour(2600, UNKNOWN, every=0.8),
    "unread": Behaviour(1000, UNKNOWN, every=0.05, copies=100, reads=False),
    "wrong-hmac": Behaviour(2600, WRONG, every=0.8),
    "silent-one": Behaviour(300),
    "silent-many": Behaviour(1000, addresses=40, a_second=100.0),
}


class Visit:
    """One connection of the neighbour.

    Args:
        sock: the socket.
        due: when it sends its next request.
    """

    __slots__ = ("due", "sock", "unsent")

    def __init__(self, sock: socket.socket, due: float) -> None:
        self.sock = sock
        self.due = due
        self.unsent = b""


class Neighbour:
    """All connections of the neighbour.

    Args:
        behaviour: what it does on them.
        port: of the server.
    """

    def __init__(self, behaviour: Behaviour, port: int) -> None:
        self.behaviour = behaviour
        self._port = port
        self._visits: dict[int, Visit] = {}
        self._queue: collections.deque[Visit] = collections.deque()
        self._epoll = select.epoll()
        self._sources = itertools.cycle(
            [HOME if behaviour is BEHAVIOURS["one-csr"] else STRANGER]
            if behaviour.addresses == 1
            else [f"127.0.66.{number}" for number in range(1, behaviour.addresses + 1)]
        )
        self._requests = self._made()
        self._opened = 0
        self._rested = 0.0  # when it comes again
        self._began = time.monotonic()

    def _made(self) -> Iterator[bytes]:
        if self.behaviour is not BEHAVIOURS["one-csr"]:
            yield from itertools.repeat(self.behaviour.request * self.behaviour.copies)
        while True:  # all of its connections ask for the same, and then for something else
            request = request_for(csrs.fresh(1, "neighbour")[0].pem, keep=True)
            yield from itertools.repeat(request, self.behaviour.connections)

    @property
    def is_complete(self) -> bool:
        """Whether it has as many connections as it wants."""
        return len(self._visits) >= self.behaviour.connections

    @property
    def _missing(self) -> int:
        """How many connections are to be opened."""
        if self.behaviour.rest is None:
            return self.behaviour.connections - len(self._visits)
        return self.behaviour.connections - self._opened % self.behaviour.connections

    def turn(self) -> None:
        """Open what is missing, send what is due, and take what has come."""
        now = time.monotonic()
        self._open(now)
        while self._queue and self._queue[0].due <= now:
            self._ask(self._queue.popleft(), now)
        for number, events in self._epoll.poll(0.005, 4096):
            visit = self._visits.get(number)
            if visit is None:
                continue
            if events & (select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP):
                self._leave(visit)
            elif events & select.EPOLLIN and self.behaviour.reads:
                self._read(visit)

    def _is_resting(self, now: float) -> bool:
        """Tell whether all have come, and it is not time yet to come again."""
        rest = self.behaviour.rest
        if rest is None or not self._opened or self._opened % self.behaviour.connections:
            return False
        if self._visits:
            self._rested = now + rest
        return now < self._rested

    def _open(self, now: float) -> None:
        if self._is_resting(now):
            return
        allowed = int((now - self._began) * self.behaviour.a_second) + 1 - self._opened
        for _ in range(min(AT_ONCE, allowed, self._missing)):
            sock = bound_to(next(self._sources))
            if sock.connect_ex(("127.0.0.1", self._port)) not in {0, errno.EINPROGRESS}:
                sock.close()
                return
            self._opened += 1
            apart = (self.behaviour.every or 0.0) * (self._opened % 100) / 100
            visit = self._visits[sock.fileno()] = Visit(sock, now + apart)
            self._epoll.register(sock, (select.EPOLLIN if self.behaviour.reads else 0) | select.EPOLLRDHUP)
            self._queue.append(visit)

    def _ask(self, visit: Visit, now: float) -> None:
        if self._visits.get(visit.sock.fileno()) is not visit:
            return
        if not visit.unsent:
            visit.unsent = next(self._requests)
        try:
            visit.unsent = visit.unsent[visit.sock.send(visit.unsent) :]
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                self._leave(visit)
                return
        if visit.unsent or self.behaviour.every is not None:
            visit.due = now + (self.behaviour.every or 0.05)
            self._queue.append(visit)

    def _read(self, visit: Visit) -> None:
        try:
            data = visit.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or self.behaviour.every is None:
            self._leave(visit)

    def _leave(self, visit: Visit) -> None:
        self._visits.pop(visit.sock.fileno(), None)
        visit.sock.close()


def main() -> None:
    """Behave badly until standard input ends."""
    most_files()
    neighbour = Neighbour(BEHAVIOURS[sys.argv[1]], int(sys.argv[2]))
    began = time.monotonic()
    has_told = False
    while not select.select([sys.stdin], [], [], 0)[0]:
        neighbour.turn()
        if not has_told and (neighbour.is_complete or time.monotonic() > began + 3.0):
            has_told = True
            print("begun", flush=True)


if __name__ == "__main__":
    main()
