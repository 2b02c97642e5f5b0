"""The client that asks acmems and its rival alike: light, so that it is not what is measured.

usage: python -m scripts.benchmark.load PORT   (jobs on standard input)
"""

from __future__ import annotations

import asyncio
import collections
import socket
import sys
import time

from scripts.benchmark.jobs import KEPT, SIGN, Job, Outcome, serve

LOOPBACK = "127.0.0.1"
IN_FLIGHT_PATIENCE = 30.0
"""Seconds that a stored chain may take."""


def request_for(csr: str, *, keep: bool = False) -> bytes:
    """Return the bytes of a request to sign a CSR.

    Args:
        csr: the CSR, as PEM.
        keep: whether the connection is to serve further requests.
    """
    connection = "keep-alive" if keep else "close"
    head = f"POST /sign HTTP/1.1\r\nHost: {LOOPBACK}\r\nConnection: {connection}\r\n"
    return f"{head}Content-Length: {len(csr)}\r\n\r\n{csr}".encode()


def size_of(data: bytes | bytearray) -> int | None:
    """Return how many bytes an answer has, None while its head is not whole.

    Raises:
        ValueError: it does not tell its length.
    """
    head, blank, _ = data.partition(b"\r\n\r\n")
    if not blank:
        return None
    lowered = head.lower()
    start = lowered.index(b"\r\ncontent-length:") + len(b"\r\ncontent-length:")
    return len(head) + len(blank) + int(lowered[start:].partition(b"\r\n")[0])


def verdict(answer: bytes) -> str:
    """Return what an answer is: empty for a whole chain, else what is wrong with it."""
    status = answer[9:12].decode("latin-1")
    if status != "200":
        return f"answered {status}" if status else "closed without an answer"
    size = size_of(answer)
    if size is None or len(answer) < size or b"END CERTIFICATE" not in answer:
        return "answered 200 with half a chain"
    return ""


class Asking(asyncio.Protocol):
    """One request on a connection of its own.

    Args:
        request: its bytes.
        done: becomes the answer, as soon as all of it is there or nothing more comes.
    """

    def __init__(self, request: bytes, done: asyncio.Future[bytes]) -> None:
        self._request = request
        self._done = done
        self._answer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        if isinstance(transport, asyncio.Transport):
            transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Take a part of the answer."""
        self._answer += data
        size = size_of(self._answer)
        if size is not None and len(self._answer) >= size and not self._done.done():
            self._done.set_result(bytes(self._answer))

    def connection_lost(self, _: Exception | None) -> None:
        """Take what there is for the answer."""
        if not self._done.done():
            self._done.set_result(bytes(self._answer))


async def ask(port: int, request: bytes, patience: float) -> str:
    """Make one request on a new connection and return the verdict on its answer.

    Args:
        port: where the server listens.
        request: the request's bytes.
        patience: seconds to wait.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bytes] = loop.create_future()
    transport: asyncio.BaseTransport | None = None
    try:
        async with asyncio.timeout(patience):
            transport, _ = await loop.create_connection(lambda: Asking(request, done), LOOPBACK, port)
            return verdict(await done)
    except TimeoutError:
        return "no answer in time"
    except OSError as error:
        return f"no connection: {error.strerror}"
    finally:
        if transport is not None:
            transport.close()


async def sign(port: int, job: Job) -> Outcome:
    """Ask for each CSR once, so many at once as the job says."""
    waiting = [request_for(csr) for _, csr in reversed(job.csrs)]
    failures: collections.Counter[str] = collections.Counter()
    each: list[float] = []
    began = time.perf_counter()

    async def work() -> None:
        while waiting:
            asked = time.perf_counter()
            wrong = await ask(port, waiting.pop(), job.seconds - (asked - began))
            if wrong:
                failures[wrong] += 1
            else:
                each.append(time.perf_counter() - asked)

    await asyncio.gather(*(work() for _ in range(job.at_once)))
    return Outcome(len(each), len(job.csrs), time.perf_counter() - began, each, failures=dict(failures))


def connect(port: int) -> socket.socket:
    """Return a new connection."""
    connection = socket.create_connection((LOOPBACK, port), timeout=IN_FLIGHT_PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def read(connection: socket.socket) -> bytes:
    """Return a whole answer, or what came of it."""
    data = connection.recv(65536)
    size = size_of(data)
    while data and (size is None or len(data) < size):
        more = connection.recv(65536)
        if not more:
            break
        data += more
        size = size or size_of(data)
    return data


def in_turn(port: int, job: Job) -> Outcome:
    """Ask for one stored chain again and again, `at_once` in flight, and read the answers in turn.

    No event loop: while one answer is read, the server has all the other requests to work on.
    """
    keep = job.kind == KEPT
    request = request_for(job.csrs[0].pem, keep=keep)
    failures: collections.Counter[str] = collections.Counter()
    flying: collections.deque[socket.socket] = collections.deque()

    def start(connection: socket.socket) -> None:
        connection.sendall(request)
        flying.append(connection)

    began = time.perf_counter()
    deadline = began + job.seconds
    asked = job.at_once
    for _ in range(job.at_once):
        start(connect(port))
    while flying:
        connection = flying.popleft()
        wrong = verdict(read(connection))
        if wrong:
            failures[wrong] += 1
        again = time.perf_counter() < deadline
        asked += again
        if again and keep and not wrong:
            start(connection)
            continue
        connection.close()
        if again:
            start(connect(port))
    seconds = time.perf_counter() - began
    return Outcome(asked - failures.total(), asked, seconds, failures=dict(failures))


def main() -> None:
    """Do jobs against one server."""
    port = int(sys.argv[1])
    with asyncio.Runner() as runner:
        serve(lambda job: runner.run(sign(port, job)) if job.kind == SIGN else in_turn(port, job))


if __name__ == "__main__":
    main()
