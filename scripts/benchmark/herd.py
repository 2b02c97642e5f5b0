"""The figure of a herd: ten thousand machines that connect within one second, each asking for a stored chain.

usage: python -m scripts.benchmark.herd PORT ADDRESSES   (jobs on standard input)

There are five times as many machines as the server has places, so most of them wait, and must not wait in
vain. Two things make that hard: all of them have connected before the first one asks, and each holds its
connection until everybody has an answer.
"""

from __future__ import annotations

import collections
import errno
import os
import resource
import select
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from scripts.benchmark import csrs
from scripts.benchmark.jobs import SIGN, Client, Job, Outcome, serve
from scripts.benchmark.load import request_for, size_of, verdict
from scripts.benchmark.rows import Measured, Row, at_least
from scripts.benchmark.stage import Stage
from scripts.benchmark.usage import Cost

HERD = "herd"
ARRIVAL = 1.0
"""Seconds within which the whole herd connects."""
HESITATION = 2.0
"""Seconds from a machine's connecting to its request."""
PATIENCE = 60.0
"""Seconds after which who has no answer is lost."""
SPARE_FILES = 100
"""Descriptors that a client needs besides its connections."""
_BIND_ADDRESS_NO_PORT = (
    24  # IP_BIND_ADDRESS_NO_PORT in linux/in.h; the socket module lacks it before Python 3.12
)


def herd(stage: Stage, count: int) -> Measured:
    """Measure how many of a herd get their chain, from one address and from one each.

    Args:
        stage: where it is measured.
        count: how many machines.
    """
    most = most_files() - SPARE_FILES
    size = min(count, most)
    notes = (
        [] if size == count else [f"{size:,} machines instead of {count:,}: no more files may be open here"]
    )
    rows = []
    with stage.acmems(calm=True) as (ours, server):
        csr = csrs.fresh(1)
        ours.do(Job(SIGN, csr))
        ours.cost = Cost()
        for whence, addresses in (("one address", 1), ("many addresses", size)):
            with Client("herd", str(server.port), str(addresses)) as client:
                outcome = client.do(Job(HERD, csr, size, PATIENCE))
            what = f"{size:,} machines in a second, from {whence}"
            rows.append(Row(f"{what}: answered with the chain", "", outcome.chains, target=at_least(size)))
            rows.append(Row(f"{what}: until the last answer", "s", outcome.seconds))
            notes += [f"{whence}: {number:,} {wrong}" for wrong, number in outcome.failures.items()]
    return Measured(rows, notes=notes)


def most_files() -> int:
    """Allow this process as many open files as the system lets it; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else sys.maxsize


def bound_to(source: str) -> socket.socket:
    """Return a socket that waits for nothing and connects from an address.

    Args:
        source: the address.
    """
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
    sock.bind((source, 0))
    return sock


class Machine:
    """One machine of a herd: it connects, asks, and takes its answer.

    Args:
        port: where the server listens.
        source: the address that it has.
        request: what it sends.
    """

    def __init__(self, port: int, source: str, request: bytes) -> None:
        self.answer = b""
        self._unsent = request
        self.socket = bound_to(source)
        error = self.socket.connect_ex(("127.0.0.1", port))
        if error not in {0, errno.EINPROGRESS}:
            raise OSError(error, os.strerror(error))

    def proceed(self) -> str | None:
        """Go on as far as possible; return the verdict on the answer once it is here, None before."""
        try:
            if self._unsent:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
                return None
            data = self.socket.recv(65536)
        except BlockingIOError:
            return None
        except OSError as error:
            return f"lost: {error.strerror}"
        self.answer += data
        size = size_of(self.answer)
        return verdict(self.answer) if not data or (size is not None and len(self.answer) >= size) else None

    @property
    def wants(self) -> int:
        """What it waits for, as events of epoll."""
        return select.EPOLLOUT if self._unsent else select.EPOLLIN


def sources(addresses: int) -> Iterator[str]:
    """Yield addresses of loopback, so many different ones, again and again."""
    while True:
        for number in range(addresses):
            yield f"127.{1 + number // 62_500}.{number // 250 % 250}.{1 + number % 250}"


@contextmanager
def gathering() -> Iterator[tuple[select.epoll, dict[int, Machine]]]:
    """Make room for machines; afterwards all of them leave."""
    machines: dict[int, Machine] = {}
    with select.epoll() as epoll:
        try:
            yield epoll, machines
        finally:
            for machine in machines.values():
                machine.socket.close()


def stampede(port: int, addresses: int, job: Job) -> Outcome:
    """Let a herd ask, and count the answers.

    Args:
        port: where the server listens.
        addresses: how many different ones the herd has.
        job: what is asked for, by how many, and how long they wait.
    """
    most_files()
    request = request_for(job.csrs[0].pem, keep=True)
    failures: collections.Counter[str] = collections.Counter()
    chains = 0
    began = last = time.perf_counter()
    with gathering() as (epoll, machines):
        herd_of = sources(addresses)
        hesitating: collections.deque[tuple[float, Machine]] = collections.deque()
        answered = 0
        while answered < job.at_once and (now := time.perf_counter()) < began + job.seconds:
            due = min(job.at_once, int((now - began) / ARRIVAL * job.at_once) + 1)
            while len(machines) < due:
                machine = Machine(port, next(herd_of), request)
                machines[machine.socket.fileno()] = machine
                hesitating.append((now + HESITATION, machine))
            while hesitating and hesitating[0][0] <= now:
                machine = hesitating.popleft()[1]
                epoll.register(machine.socket, machine.wants)
            for number, _ in epoll.poll(0.001 if hesitating else 0.1):
                machine = machines[number]
                before, wrong = machine.wants, machine.proceed()
                if wrong is None:
                    if machine.wants != before:
                        epoll.modify(number, machine.wants)
                    continue
                epoll.unregister(number)
                answered += 1
                last = time.perf_counter()
                if wrong:
                    failures[wrong] += 1
                else:
                    chains += 1
    if answered < job.at_once:
        failures["no answer in time"] = job.at_once - answered
    return Outcome(chains, job.at_once, last - began, failures=dict(failures))


def main() -> None:
    """Do jobs against one server."""
    port, addresses = map(int, sys.argv[1:])
    serve(lambda job: stampede(port, addresses, job))


if __name__ == "__main__":
    main()
