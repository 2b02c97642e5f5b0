"""The figures: how each is measured."""

from __future__ import annotations

import dataclasses
import io
import re
import statistics
import subprocess
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmark import csrs
from scripts.benchmark.abandoned import beside_abandoned
from scripts.benchmark.acme.figure import servers
from scripts.benchmark.by_dns import by_dns
from scripts.benchmark.herd import herd
from scripts.benchmark.jobs import KEPT, SIGN, STORED, Job
from scripts.benchmark.many import many
from scripts.benchmark.nameserver import nameserver
from scripts.benchmark.neighbours import neighbours
from scripts.benchmark.processes import processes
from scripts.benchmark.rows import Measured, Row, at_least, at_most
from scripts.benchmark.stage import Contender, Stage
from scripts.benchmark.syncs import syncs
from scripts.benchmark.usage import MEGABYTE, Cost, resident
from tests.peers import Peer, PeerFailed
from tests.peers.process import ROOT

CALL = re.compile(r"(?:GET|HEAD|POST) \S+ -> calling handler\(\)")
"""What Pebble logs for every request that it takes up, and for nothing else."""
BURST = 50
CONNECTIONS = 4
"""Connections on which stored chains are asked for: macen drops some where there are more than five."""
WARM_UP = 20
WARM_UP_FAR = 3
FAR = 100
"""Milliseconds of a round trip to a CA that is far away."""
FAR_CROWD = 200
EARLIER = "version d56df8f"
EARLIER_COMMIT = "d56df8f"
"""The last commit before acmems moved into packages."""


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Args:
        rounds: how often the contenders take turns.
        singles: certificates a round, one after the other.
        crowd: certificates at once, for acmems.
        rival_crowd: the same for its rival.
        rival_warm_up: certificates that the rival gets before anything is measured.
        patience: seconds that a crowd may take.
        stored: seconds a round of asking for a stored chain.
        herd: machines that ask for a stored chain within one second.
        abandoned: requests of a neighbour that hangs up.
        many: chains in the state.
        orders_beside: orders that are measured beside each neighbour, and without it.
        seconds_beside: the same in seconds, where stored chains are asked for.
        bursts: bursts of each size whose disk syncs are counted.
    """

    rounds: int = 6
    singles: int = 5
    crowd: int = 1000
    rival_crowd: int = 200
    rival_warm_up: int = 1
    patience: float = 60.0
    stored: float = 1.5
    herd: int = 10_000
    abandoned: int = 1000
    many: int = 100_000
    orders_beside: int = 30
    seconds_beside: float = 5.0
    bursts: int = 3


FULL = Plan()
QUICK = Plan(
    rounds=2,
    crowd=200,
    rival_crowd=20,
    rival_warm_up=0,
    patience=30.0,
    stored=0.5,
    herd=4000,
    many=20_000,
    orders_beside=10,
    seconds_beside=2.0,
    bursts=1,
)


def one_name(stage: Stage, plan: Plan) -> Measured:
    """Measure how long one fresh certificate takes, the server warm and otherwise idle."""
    with ExitStack() as stack:
        floor = stack.enter_context(stage.floor())
        ours = stack.enter_context(stage.acmems())[0].warm(WARM_UP)
        rival = stack.enter_context(stage.macen())[0].warm(plan.rival_warm_up)
        each: dict[str, list[float]] = {"floor": [], "acmems": [], "macen": []}
        for _ in range(plan.rounds):
            for contender, count in ((floor, plan.singles), (ours, plan.singles), (rival, 1)):
                each[contender.name] += contender.sign(count).each
        medians = {name: statistics.median(seconds) * 1000 for name, seconds in each.items()}
        what = "one name, warm: median"
        rows = [
            Row(what, "ms", medians["acmems"], "floor", medians["floor"], at_most(2.0)),
            Row(what, "ms", medians["acmems"], "macen", medians["macen"]),
        ]
        return Measured(rows, _costs(floor, ours, rival))


def burst(stage: Stage, plan: Plan) -> Measured:
    """Measure how many fresh certificates a second come when 50 are asked for at once."""
    with ExitStack() as stack:
        floor = stack.enter_context(stage.floor())
        ours = stack.enter_context(stage.acmems())[0].warm(WARM_UP)
        rival = stack.enter_context(stage.macen())[0].warm(plan.rival_warm_up)
        rates: dict[str, list[float]] = {"floor": [], "acmems": [], "macen": []}
        for turn in range(plan.rounds):
            for contender in (floor, ours):
                rates[contender.name].append(contender.sign(BURST, BURST).rate)
            if turn < max(1, plan.rounds // 3):  # it takes long
                rates["macen"].append(rival.do(Job(SIGN, csrs.fresh(BURST), BURST, plan.patience)).rate)
        medians = {name: statistics.median(all_rates) for name, all_rates in rates.items()}
        what = f"{BURST} names at once"
        rows = [
            Row(what, "/s", medians["acmems"], "floor", medians["floor"], at_least(0.5)),
            Row(what, "/s", medians["acmems"], "macen", medians["macen"], at_least(10.0)),
        ]
        return Measured(rows, _costs(floor, ours, rival))


def cpu(stage: Stage, plan: Plan) -> Measured:
    """Measure the CPU time that a certificate costs, beside that of an earlier version in the same run."""
    source = earlier_version()
    with (
        stage.acmems(calm=True) as (ours, _),
        stage.acmems(calm=True, env={"PYTHONPATH": str(source)}) as (other, _),
    ):
        theirs = dataclasses.replace(other, name=EARLIER)
        for contender in (ours, theirs):
            contender.warm(WARM_UP)
        rates: dict[str, list[float]] = {ours.name: [], theirs.name: []}
        for _ in range(plan.rounds):
            for contender in (ours, theirs):
                rates[contender.name].append(contender.sign(BURST, BURST).rate)
        mine, least = ours.cost.each[0], theirs.cost.each[0]
        rows = [
            Row(f"CPU a certificate, {BURST} at once", "ms", mine, EARLIER, least, at_most(0.5)),
            Row(
                f"{BURST} names at once",
                "/s",
                statistics.median(rates[ours.name]),
                EARLIER,
                statistics.median(rates[theirs.name]),
            ),
        ]
        return Measured(rows, _costs(ours, theirs))


def far(stage: Stage, plan: Plan) -> Measured:
    """Measure a CA that is 100 ms away: one certificate, and many at once."""
    with stage.floor(milliseconds=FAR) as floor, stage.acmems(calm=True, milliseconds=FAR) as (ours, _):
        ours.warm(WARM_UP_FAR)
        each: dict[str, list[float]] = {"floor": [], "acmems": []}
        for _ in range(plan.rounds):
            for contender in (floor, ours):
                each[contender.name] += contender.sign(1).each
        medians = {name: statistics.median(seconds) for name, seconds in each.items()}
        outcome = ours.do(Job(SIGN, csrs.fresh(FAR_CROWD), FAR_CROWD, plan.patience))
        rows = [
            Row(
                f"one name, CA {FAR} ms away", "s", medians["acmems"], "floor", medians["floor"], at_most(1.1)
            ),
            Row(f"{FAR_CROWD} names at once, CA {FAR} ms away", "s", outcome.seconds, target=at_most(3.0)),
            Row("the same: answered with a chain", "", outcome.chains, target=at_least(FAR_CROWD)),
        ]
        return Measured(rows, _costs(floor, ours))


def earlier_version() -> Path:
    """Return the source of an earlier version of acmems, from the history of this repository.

    Raises:
        PeerFailed: the history is not here.
    """
    folder = ROOT / ".cache" / EARLIER_COMMIT
    if not (folder / "src" / "acmems").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        archive = subprocess.run(
            ["git", "archive", EARLIER_COMMIT, "src"], cwd=ROOT, capture_output=True, check=False
        )
        if archive.returncode:
            raise PeerFailed(f"git has no commit {EARLIER_COMMIT}: fetch the whole history")
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(folder, filter="data")
    return folder / "src"


def crowd(stage: Stage, plan: Plan) -> Measured:
    """Measure how many of a great many who ask at once get their certificate, and the memory it takes."""
    with stage.acmems(calm=True) as (ours, server):
        ours.warm(WARM_UP)
        outcome = ours.do(Job(SIGN, csrs.fresh(plan.crowd), plan.crowd, plan.patience))
        what = f"{plan.crowd:,} names at once"
        rows = [
            Row(f"{what}: answered with a chain", "", outcome.chains, target=at_least(plan.crowd)),
            Row(f"{what}: rate", "/s", outcome.rate),
            Row(f"{what}: peak memory", "MB", server.peak_memory / MEGABYTE, target=at_most(150.0)),
        ]
    with stage.macen(calm=True) as (rival, _):
        rival.warm(plan.rival_warm_up)
        outcome = rival.do(Job(SIGN, csrs.fresh(plan.rival_crowd), plan.rival_crowd, plan.patience))
        note = (
            f"macen, {plan.rival_crowd} names at once: {outcome.chains} answered with a chain, "
            f"{outcome.rate:.1f} /s, in {outcome.seconds:.0f} s"
        )
        return Measured(rows, _costs(ours, rival), [note])


def requests(stage: Stage, plan: Plan) -> Measured:
    """Count the requests to the CA that one fresh certificate takes, as the CA logs them."""
    with stage.floor() as floor, stage.acmems() as (ours, _):
        ours.warm(WARM_UP)
        mine, least = (_most_requests(contender, plan.singles) for contender in (ours, floor))
        row = Row("requests to the CA for one name, warm: most", "", mine, target=at_most(8))
        return Measured([row, Row(row.what, "", mine, "floor", least)])


def dns01(stage: Stage, plan: Plan) -> Measured:
    """Measure how long one fresh certificate takes by dns-01, beside http-01."""
    return by_dns(stage, plan.rounds, plan.singles)


def _most_requests(contender: Contender, count: int) -> int:
    counts = []
    for _ in range(count):
        before = len(CALL.findall(contender.ca.log))
        contender.sign(1)
        counts.append(len(CALL.findall(contender.ca.log)) - before)
    return max(counts)


def stored(stage: Stage, plan: Plan) -> Measured:
    """Measure how often a second a stored chain is delivered, on connections for each and on kept ones."""
    with stage.acmems() as (ours, _), stage.macen() as (rival, _):
        csr = csrs.fresh(1)
        for contender in (ours, rival):
            contender.do(Job(SIGN, csr))
            contender.cost = Cost()
        # macen speaks HTTP/1.0 and keeps no connection.
        turns = {"acmems": (ours, STORED), "kept": (ours, KEPT), "macen": (rival, STORED)}
        rates: dict[str, list[float]] = {name: [] for name in turns}
        for _ in range(plan.rounds):
            for name, (contender, kind) in turns.items():
                outcome = contender.do(Job(kind, csr, CONNECTIONS, plan.stored))
                if outcome.failures:
                    raise PeerFailed(f"{contender.name} lost stored chains: {outcome.failures}")
                rates[name].append(outcome.rate)
        each, keeping, theirs = (statistics.median(rates[name]) for name in turns)
        rows = [
            Row("stored chain, one connection a request", "/s", each, "macen", theirs, at_least(3.0)),
            Row("stored chain, connections kept", "/s", keeping, "macen", theirs, at_least(5.0)),
        ]
        return Measured(rows, _costs(ours, rival))


def start(stage: Stage, plan: Plan) -> Measured:
    """Measure how long a start takes, from the process to readiness, when the account exists."""
    with stage.acmems() as (_, server), stage.macen() as (_, rival):
        seconds: dict[str, list[float]] = {"acmems": [], "macen": []}
        for _ in range(plan.rounds):
            for peer in (server, rival):
                seconds[peer.name].append(_start(peer))
        mine, theirs = (statistics.median(seconds[name]) for name in ("acmems", "macen"))
        what = "start to ready: median"
        return Measured([Row(what, "s", mine, target=at_most(1.0)), Row(what, "s", mine, "macen", theirs)])


def _start(peer: Peer) -> float:
    peer.stop()
    began = time.monotonic()
    peer.start()
    return time.monotonic() - began


def memory(stage: Stage, plan: Plan) -> Measured:
    """Measure the memory of a server that does nothing: after its start, and after some load."""
    with stage.acmems() as (ours, server), stage.macen() as (_, rival):
        _start(server)  # once more, as one that made no account
        fresh, theirs = _idle(server), _idle(rival)
        for _ in range(plan.rounds):
            ours.sign(BURST, BURST)
        after = _idle(server)
        rows = [
            Row("idle memory after start", "MB", fresh, target=at_most(60.0)),
            Row("idle memory after start", "MB", fresh, "macen", theirs),
            Row(f"idle memory after {plan.rounds * BURST} names", "MB", after, target=at_most(60.0)),
        ]
        return Measured(rows)


def _idle(peer: Peer) -> float:
    time.sleep(0.5)
    return resident(peer.process.pid)


def _costs(*contenders: Contender) -> dict[str, Cost]:
    return {contender.name: contender.cost for contender in contenders}


FIGURES: Mapping[str, Callable[[Stage, Plan], Measured]] = {
    "one-name": one_name,
    "dns-01": dns01,
    "nameserver": lambda _stage, _plan: nameserver(),
    "burst": burst,
    "cpu": cpu,
    "far": far,
    "crowd": crowd,
    "requests": requests,
    "stored": stored,
    "herd": lambda stage, plan: herd(stage, plan.herd),
    "abandoned": lambda _stage, plan: beside_abandoned(plan.abandoned, plan.singles * plan.rounds),
    "neighbours": lambda stage, plan: neighbours(stage, plan.orders_beside, plan.seconds_beside),
    "many": lambda _stage, plan: many(plan.many),
    "processes": lambda stage, plan: processes(stage, plan.rounds),
    "syncs": lambda stage, plan: syncs(stage, plan.bursts),
    "acme": lambda _stage, plan: servers(max(1, plan.rounds // 2)),
    "start": start,
    "memory": memory,
}
"""The figures by name, in the order in which they are measured."""
NAMES: Sequence[str] = tuple(FIGURES)
