"""The contenders, each with a CA of its own: only one program can listen where a CA fetches challenges."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from scripts.benchmark import csrs
from scripts.benchmark.jobs import SIGN, Client, Job, Outcome
from scripts.benchmark.rival import CHALLENGE_PORT, Macen
from scripts.benchmark.usage import Cost, cpu_seconds
from tests.peers import Acmems, ChallTestSrv, Pebble, Peer, PeerFailed, Settings

WARM_UP = 20
"""Certificates that the floor gets before anything is measured."""


@dataclass
class Contender:
    """Someone who gets certificates, warm.

    Args:
        name: what to call it.
        ca: its CA.
        client: what asks it, or, for the floor, what it is.
        server: the server; None for the floor.
        cost: what the certificates of its jobs cost so far, warming up left out.
    """

    name: str
    ca: Pebble
    client: Client
    server: Peer | None = None
    cost: Cost = field(default_factory=Cost)

    def do(self, job: Job) -> Outcome:
        """Have a job done, and add up what it cost.

        Args:
            job: the job.

        Raises:
            PeerFailed: the client ended.
        """
        server = self.server.process.pid if self.server else self.client.pid
        before = cpu_seconds(server), cpu_seconds(self.ca.process.pid)
        outcome = self.client.do(job)
        after = cpu_seconds(server), cpu_seconds(self.ca.process.pid)
        self.cost += Cost(
            outcome.chains, after[0] - before[0], after[1] - before[1], outcome.cpu if self.server else 0.0
        )
        return outcome

    def sign(self, count: int, at_once: int = 1) -> Outcome:
        """Get fresh certificates.

        Args:
            count: how many.
            at_once: how many of them at once.

        Raises:
            PeerFailed: one is missing.
        """
        outcome = self.do(Job(SIGN, csrs.fresh(count), at_once))
        if outcome.chains < count:
            raise PeerFailed(f"{self.name} gave {outcome.chains} of {count} chains: {outcome.failures}")
        return outcome

    def warm(self, count: int) -> Self:
        """Get certificates that are not counted.

        Args:
            count: how many.

        Raises:
            PeerFailed: one is missing.
        """
        self.sign(count)
        self.cost = Cost()
        return self


@dataclass(frozen=True)
class Stage:
    """Where figures are measured.

    Args:
        dns: what every CA asks.
    """

    dns: ChallTestSrv

    @contextlib.contextmanager
    def ca(self, http_port: int | None = None) -> Iterator[Pebble]:
        """Run a CA."""
        with Pebble(self.dns.address, http_port=http_port) as ca:
            yield ca

    @contextlib.contextmanager
    def floor(self) -> Iterator[Contender]:
        """Run the floor, warm."""
        with self.ca() as ca:
            arguments = (ca.directory_url, str(ca.ca_file), str(ca.http_port))
            with Client("floor", *arguments) as client:
                yield Contender("floor", ca, client).warm(WARM_UP)

    @contextlib.contextmanager
    def acmems(self) -> Iterator[tuple[Contender, Acmems]]:
        """Run acmems, not yet warm."""
        with self.ca() as ca, tempfile.TemporaryDirectory(prefix="acmems-bench-") as folder:
            text = Settings.of(ca, Path(folder)).text().replace("level = debug", "level = info")
            with Acmems(text) as server, Client("load", str(server.port)) as client:
                yield Contender("acmems", ca, client, server), server

    @contextlib.contextmanager
    def macen(self) -> Iterator[tuple[Contender, Macen]]:
        """Run the rival, not yet warm."""
        with self.ca(CHALLENGE_PORT) as ca, Macen(ca) as server, Client("load", str(server.port)) as client:
            yield Contender("macen", ca, client, server), server
