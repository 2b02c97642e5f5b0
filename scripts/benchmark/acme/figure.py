"""The figure of ACME servers: orders a second, losses, CPU time and memory, in turns within one run."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import re
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.benchmark import csrs
from scripts.benchmark.acme.servers import Acme2certifier, CaddyServer, Ours, always_valid
from scripts.benchmark.jobs import Client, Job, Outcome
from scripts.benchmark.processes import family
from scripts.benchmark.rows import Measured, Row, Target, at_least
from scripts.benchmark.usage import MEGABYTE, Cost, cpu_seconds
from tests.peers import Pebble, Peer, PeerFailed, free_port

OURS = "acmems"
TWO = "acmems, two processes"
ORDER = "order"
PATIENCE = 60.0
"""Seconds that a set of orders may take; those that are missing then are lost."""
ORDERS = {1: 30, 50: 200, 200: 400}
"""Orders of a turn, by how many are in flight at once."""
SLOW = 0.25
"""The share of them that acme2certifier gets, in one turn only, since it takes ten times as long."""
WARM_UP = 20
TARGETS = {"Caddy": at_least(1.0), "acme2certifier": at_least(5.0)}


@dataclass
class Contestant:
    """A server that is measured.

    Args:
        name: what to call it.
        server: the server.
        client: what orders from it.
        share: of the orders of a turn.
        turns: at most so many, None for all.

    Attributes:
        outcomes: of its turns, by orders at once.
        cost: of its certificates so far.
        is_over: whether it does not answer any more.
    """

    name: str
    server: Peer
    client: Client
    share: float = 1.0
    turns: int | None = None
    outcomes: dict[int, list[Outcome]] = field(default_factory=lambda: collections.defaultdict(list))
    cost: Cost = field(default_factory=Cost)
    is_over: bool = False

    def order(self, count: int, at_once: int) -> Outcome:
        """Have certificates ordered, and count what they cost.

        Args:
            count: how many.
            at_once: how many are in flight.
        """
        before = self._cpu
        outcome = self.client.do(Job(ORDER, csrs.fresh(count), at_once, PATIENCE))
        if (code := self.server.process.poll()) is not None:
            raise PeerFailed(f"{self.name} ended with {code} while it was measured")
        self.cost += Cost(outcome.chains, self._cpu - before, 0.0, outcome.cpu)
        return outcome

    def take_turn(self, turn: int, at_once: int) -> None:
        """Have the certificates of a turn ordered, unless it has had all of its turns."""
        if self.is_over or (self.turns is not None and turn >= self.turns):
            return
        outcome = self.order(max(at_once, round(ORDERS[at_once] * self.share)), at_once)
        self.outcomes[at_once].append(outcome)
        self.is_over = not outcome.chains

    @property
    def _cpu(self) -> float:
        return sum(map(cpu_seconds, family(self.server.process.pid)))

    @property
    def peak_memory(self) -> float:
        """The most memory that its processes had resident, added up, in megabytes."""
        return sum(map(_peak, family(self.server.process.pid))) / MEGABYTE

    def rate(self, at_once: int) -> float:
        """Return certificates a second: the median of its turns."""
        return statistics.median(outcome.rate for outcome in self.outcomes[at_once] or [Outcome(0, 0, 1.0)])

    def lost(self, at_once: int) -> int:
        """Return how many orders brought no certificate."""
        return sum(sum(outcome.failures.values()) for outcome in self.outcomes[at_once])

    def asked(self, at_once: int) -> int:
        """Return how many orders there were."""
        return self.lost(at_once) + sum(outcome.chains for outcome in self.outcomes[at_once])


def servers(rounds: int) -> Measured:
    """Measure acmems' ACME front end beside other ACME servers.

    Args:
        rounds: how often they take turns.
    """
    with _contestants() as contestants:
        for contestant in contestants:
            contestant.order(WARM_UP, 1)
            contestant.cost = Cost()
        for at_once in ORDERS:
            for turn in range(rounds):
                for contestant in contestants:
                    contestant.take_turn(turn, at_once)
        ours, two, *others = contestants
        rows = [row for at_once in ORDERS for row in rates(ours, others, at_once)]
        rows += [row for at_once in ORDERS for row in beside_one(two, ours, at_once)]
        rows += [
            Row("peak memory", "MB", ours.peak_memory, other.name, other.peak_memory) for other in others
        ]
        costs = {contestant.name: contestant.cost for contestant in contestants}
        return Measured(rows, costs, [note_of(contestant) for contestant in contestants])


def rates(ours: Contestant, others: Sequence[Contestant], at_once: int) -> Iterator[Row]:
    """Yield the rows of so many orders at once: how many a second, beside each other server, and losses."""
    what = f"ACME orders, {at_once} at once"
    for other in others:
        yield Row(what, "/s", ours.rate(at_once), other.name, other.rate(at_once), TARGETS.get(other.name))
    yield Row(f"{what}: lost", "", ours.lost(at_once), target=Target(0))


def beside_one(two: Contestant, one: Contestant, at_once: int) -> Iterator[Row]:
    """Yield the rows of so many orders at once for two processes: how many a second, and losses."""
    what = f"ACME orders, {at_once} at once, two processes"
    yield Row(what, "/s", two.rate(at_once), "one process", one.rate(at_once))
    yield Row(f"{what}: lost", "", two.lost(at_once), target=Target(0))


def note_of(contestant: Contestant) -> str:
    """Return what became of the orders of a server, and how many requests it was asked for each."""
    asked = sum(contestant.asked(at_once) for at_once in ORDERS)
    requests = sum(outcome.asked for outcomes in contestant.outcomes.values() for outcome in outcomes)
    losses: collections.Counter[str] = collections.Counter()
    for at_once, outcomes in contestant.outcomes.items():
        for outcome in outcomes:
            losses.update({f"{kind} ({at_once} at once)": count for kind, count in outcome.failures.items()})
    told = ", ".join(f"{count} x {kind}" for kind, count in losses.items())
    end = "; it did not answer any more" if contestant.is_over else ""
    lost = f"lost {losses.total()} of {asked}{told and f': {told}'}{end}"
    return f"{contestant.name}: {requests / max(1, asked):.1f} requests an order, {lost}"


@contextlib.contextmanager
def _contestants() -> Iterator[Sequence[Contestant]]:
    """Run all servers and a client for each; acmems is the first, then again with two processes."""
    with contextlib.ExitStack() as stack:
        folders = [
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="acmems-bench-"))) for _ in range(2)
        ]

        def run(name: str, server: Ours | CaddyServer | Acme2certifier | Pebble, dns_port: int) -> Contestant:
            stack.enter_context(server)
            arguments = (server.directory_url, str(server.ca_file), str(dns_port))
            return Contestant(name, server, stack.enter_context(Client("acme.client", *arguments)))

        port = free_port()
        yield [
            run(OURS, Ours(folders[0]), free_port()),
            run(TWO, Ours(folders[1], "processes = 2"), free_port()),
            run("Caddy", CaddyServer(port), port),
            dataclasses.replace(run("acme2certifier", Acme2certifier(), free_port()), share=SLOW, turns=1),
            run("Pebble", always_valid(), free_port()),
        ]


def _peak(pid: int) -> int:
    """Return the most memory that a process had resident, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
