"""The figures of neighbours that behave badly: what everybody else notices of them."""

from __future__ import annotations

import dataclasses
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmark import csrs
from scripts.benchmark.jobs import SIGN, Client, Job
from scripts.benchmark.load import connect, read, request_for, verdict
from scripts.benchmark.neighbour import HOME
from scripts.benchmark.rows import Measured, Row, at_least, at_most
from scripts.benchmark.stage import Contender, Stage
from tests.peers import Acmems, Pebble, PeerFailed, Settings
from tests.peers.process import ROOT

ALLOWED = 2.0
"""How many times as long as otherwise something may take beside a neighbour."""
SETTLING = 6.0
"""Seconds that a neighbour is at it before anything is measured: connections may last for five."""
WARM_UP = 20
PATIENCE = 20.0
BLOCKS = f"""
[auth "others"]
ip = 127.0.0.1
domain = **

[auth "neighbour"]
ip = {HOME}
domain = neighbour-*.example.org

[auth "signed"]
hmac_type = sha256
hmac_key = a secret that the neighbour does not have
domain = signed.example.org
"""
BY_TLS = """
[verification "tls"]
type = tls-alpn01
listener = 127.0.0.1:{challenge_port}
"""


@dataclass(frozen=True)
class Case:
    """A neighbour, and whom it stands in the way of.

    Args:
        what: it does, for the table.
        kind: of the neighbour, as its program calls it.
        at_challenges: whether it asks where the CA does, else where clients do.
        by_tls: whether names are proved by tls-alpn-01, else by http-01.
        of_orders: whether orders are measured, else stored chains.
    """

    what: str
    kind: str
    at_challenges: bool = True
    by_tls: bool = False
    of_orders: bool = True


CASES: Sequence[Case] = (
    Case(
        "2,200 connections with one CSR, every second or two", "one-csr", at_challenges=False, of_orders=False
    ),
    Case("2,600 connections, a 404 each per 0.8 s", "not-found"),
    Case("1,000 connections of pipelined requests, no answer read", "unread"),
    Case(
        "2,600 connections, a wrong HMAC each per 0.8 s", "wrong-hmac", at_challenges=False, of_orders=False
    ),
    Case("tls-alpn-01, 300 silent connections", "silent-one", by_tls=True),
    Case("tls-alpn-01, 100 silent connections a second from 40 addresses", "silent-many", by_tls=True),
)


def neighbours(stage: Stage, orders: int, seconds: float, source: Path | None = None) -> Measured:
    """Measure what others notice of each kind of neighbour.

    Args:
        stage: where it is measured.
        orders: how many orders are measured, where orders are.
        seconds: how long stored chains are asked for, where these are measured.
        source: where the modules of acmems are, if not in this checkout.
    """
    return Measured([row for case in CASES for row in beside_neighbour(case, stage, orders, seconds, source)])


def beside_neighbour(
    case: Case, stage: Stage, orders: int, seconds: float, source: Path | None = None
) -> Sequence[Row]:
    """Measure what others notice of a neighbour, in one run without it and with it.

    Args:
        case: the neighbour.
        stage: where it is measured.
        orders: how many orders are measured, where orders are.
        seconds: how long stored chains are asked for, where these are measured.
        source: where the modules of acmems are, if not in this checkout.
    """
    with _server(case, stage, source) as ours:
        csr = csrs.fresh(1)
        ours.warm(WARM_UP)
        ours.do(Job(SIGN, csr))
        port = ours.ca.http_port if case.at_challenges and not case.by_tls else ours.ca.tls_port
        target = port if case.at_challenges else _port(ours)

        def measure() -> tuple[list[float], int]:
            if not case.of_orders:
                return _stored(_port(ours), csr[0].pem, seconds)
            outcome = ours.do(Job(SIGN, csrs.fresh(orders), 1, PATIENCE))
            return list(outcome.each), outcome.asked

        alone, _ = measure()
        with _neighbour(case.kind, target):
            time.sleep(SETTLING)
            beside, asked = measure()
    kind = "an order" if case.of_orders else "a stored chain"
    what = f"{kind} beside {case.what}"
    share = Row(f"{what}: answered with a chain", "%", len(beside) / asked * 100, target=at_least(100))
    if not beside:
        return [share]
    return [
        Row(f"{what}: mean", "ms", _mean(beside), "alone", _mean(alone), at_most(ALLOWED)),
        Row(f"{what}: longest", "ms", max(beside) * 1000, "alone", max(alone) * 1000),
        share,
    ]


def _mean(seconds: list[float]) -> float:
    return statistics.fmean(seconds) * 1000


def _port(ours: Contender) -> int:
    if not isinstance(ours.server, Acmems):
        raise PeerFailed("it is no server of ours")
    return ours.server.port


def _stored(port: int, csr: str, seconds: float) -> tuple[list[float], int]:
    """Ask for a stored chain again and again; return how long each took, and how many were asked for."""
    request = request_for(csr)
    each: list[float] = []
    asked = 0
    began = now = time.perf_counter()
    while now < began + seconds:
        asked += 1
        connection = connect(port)
        connection.sendall(request)
        good = not verdict(read(connection))
        connection.close()
        before, now = now, time.perf_counter()
        if good:
            each.append(now - before)
    return each, asked


@contextmanager
def _server(case: Case, stage: Stage, source: Path | None) -> Iterator[Contender]:
    with (
        Pebble(stage.dns.address) as ca,
        tempfile.TemporaryDirectory(prefix="acmems-bench-") as folder,
    ):
        settings = Settings.of(ca, Path(folder))
        settings.auth = BLOCKS
        if case.by_tls:
            settings = dataclasses.replace(settings, verification=BY_TLS, challenge_port=ca.tls_port)
        text = settings.text().replace("level = debug", "level = info")
        env = {} if source is None else {"PYTHONPATH": str(source)}
        with Acmems(text, env) as server, Client("load", str(server.port)) as client:
            yield Contender("acmems", ca, client, server)


@contextmanager
def _neighbour(kind: str, port: int) -> Iterator[None]:
    command = [sys.executable, "-m", "scripts.benchmark.neighbour", kind, str(port)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            if process.stdout is None or not process.stdout.readline():
                raise PeerFailed("the neighbour ended")
            yield
        finally:
            process.kill()
