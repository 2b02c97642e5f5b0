"""The contenders, each with a CA of its own: only one program can listen where a CA fetches challenges."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from scripts.benchmark import csrs
from scripts.benchmark.distance import Distance
from scripts.benchmark.jobs import SIGN, Client, Job, Outcome
from scripts.benchmark.rival import CHALLENGE_PORT, Macen
from scripts.benchmark.usage import Cost, cpu_seconds
from tests.peers import CALM, Acmems, ChallTestSrv, Pebble, Peer, PeerFailed, Settings
from tests.peers.server import FILES

WARM_UP = 20
"""Certificates that the floor gets before anything is measured."""
FAR_WARM_UP = 3
"""The same where the CA is far away."""
PATIENCE = 40.0
"""Seconds that a set of certificates may take, where nothing else is said."""


class LockedUp(PeerFailed):
    """Pebble has locked itself up, and answers no more."""


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
            LockedUp: the CA does not answer any more.
            PeerFailed: the client, the server or the CA ended.
        """
        server = self.server.process.pid if self.server else self.client.pid
        before = cpu_seconds(server), cpu_seconds(self.ca.process.pid)
        outcome = self.client.do(job)
        if outcome.failures:
            self._diagnose()
        after = cpu_seconds(server), cpu_seconds(self.ca.process.pid)
        self.cost += Cost(
            outcome.chains, after[0] - before[0], after[1] - before[1], outcome.cpu if self.server else 0.0
        )
        return outcome

    def _diagnose(self) -> None:
        """Tell a peer that is gone from one that only refused."""
        for peer in filter(None, (self.ca, self.server)):
            if (code := peer.process.poll()) is not None:
                raise PeerFailed(f"{peer.name} ended with {code} while it was measured")
        if self.ca.is_locked_up:
            raise LockedUp(f"the CA of {self.name} has locked itself up")

    def sign(self, count: int, at_once: int = 1) -> Outcome:
        """Get fresh certificates.

        Args:
            count: how many.
            at_once: how many of them at once.

        Raises:
            PeerFailed: one is missing.
        """
        outcome = self.do(Job(SIGN, csrs.fresh(count), at_once, PATIENCE))
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
    def floor(self, *, milliseconds: int = 0) -> Iterator[Contender]:
        """Run the floor, warm.

        Args:
            milliseconds: how far away its CA is, as the time of a round trip.
        """
        with Pebble(self.dns.address) as ca, _directory(ca, milliseconds) as directory_url:
            arguments = (directory_url, str(ca.ca_file), str(ca.http_port))
            with Client("floor", *arguments) as client:
                yield Contender("floor", ca, client).warm(FAR_WARM_UP if milliseconds else WARM_UP)

    @contextlib.contextmanager
    def acmems(
        self,
        *,
        calm: bool = False,
        milliseconds: int = 0,
        env: Mapping[str, str] | None = None,
        mgmt: str = "",
        storage: str = FILES,
    ) -> Iterator[tuple[Contender, Acmems]]:
        """Run acmems, not yet warm.

        Args:
            calm: whether its CA runs calmly.
            milliseconds: how far away its CA is, as the time of a round trip.
            env: variables to set for it.
            mgmt: further lines of its section `[mgmt]`.
            storage: the section of its storage.
        """
        with (
            Pebble(self.dns.address, env=CALM if calm else None) as ca,
            _directory(ca, milliseconds) as directory_url,
            tempfile.TemporaryDirectory(prefix="acmems-bench-") as folder,
            Acmems(_configuration(ca, directory_url, Path(folder), mgmt, storage), env) as server,
            Client("load", str(server.port)) as client,
        ):
            try:
                yield Contender("acmems", ca, client, server), server
            except LockedUp:
                server.process.kill()  # told to stop, it would go on to ask its CA until it gives up
                raise

    @contextlib.contextmanager
    def macen(self, *, calm: bool = False) -> Iterator[tuple[Contender, Macen]]:
        """Run the rival, not yet warm.

        Args:
            calm: whether its CA runs calmly.
        """
        with (
            Pebble(self.dns.address, http_port=CHALLENGE_PORT, env=CALM if calm else None) as ca,
            Macen(ca) as server,
            Client("load", str(server.port)) as client,
        ):
            yield Contender("macen", ca, client, server), server


@contextlib.contextmanager
def _directory(ca: Pebble, milliseconds: int) -> Iterator[str]:
    """Yield the URL of a CA's directory, so far away."""
    if not milliseconds:
        yield ca.directory_url
        return
    url = urllib.parse.urlsplit(ca.directory_url)
    with Distance(url.port or 443, milliseconds) as distance:
        yield url._replace(netloc=f"{url.hostname}:{distance.port}").geturl()


def _configuration(ca: Pebble, directory_url: str, folder: Path, mgmt: str, storage: str) -> str:
    settings = dataclasses.replace(
        Settings.of(ca, folder), directory_url=directory_url, mgmt=mgmt, storage=storage
    )
    return settings.text().replace("level = debug", "level = info")
