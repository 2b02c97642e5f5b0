"""The figures: how each is measured."""

from __future__ import annotations

import re
import statistics
import time
import urllib.error
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from scripts.benchmark import csrs
from scripts.benchmark.jobs import KEPT, SIGN, STORED, Job
from scripts.benchmark.rows import Measured, Row, at_least, at_most
from scripts.benchmark.stage import Contender, Stage
from scripts.benchmark.usage import MEGABYTE, Cost, resident
from tests.peers import Pebble, Peer, PeerFailed

CALL = re.compile(r"(?:GET|HEAD|POST) \S+ -> calling handler\(\)")
"""What Pebble logs for every request that it takes up, and for nothing else."""
BURST = 50
CONNECTIONS = 8
"""Connections on which stored chains are asked for: enough that the server never waits for the client."""
WARM_UP = 20
TRIES = 3


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Args:
        rounds: how often the contenders take turns.
        singles: certificates a round, one after the other.
        crowd: certificates at once, for acmems.
        rival_crowd: the same for its rival.
        patience: seconds that a crowd may take.
        stored: seconds a round of asking for a stored chain.
    """

    rounds: int = 6
    singles: int = 5
    crowd: int = 1000
    rival_crowd: int = 200
    patience: float = 60.0
    stored: float = 1.5


FULL = Plan()
QUICK = Plan(rounds=2, crowd=200, rival_crowd=50, patience=30.0, stored=0.7)


def one_name(stage: Stage, plan: Plan) -> Measured:
    """Measure how long one fresh certificate takes, the server warm and otherwise idle."""
    with ExitStack() as stack:
        floor = stack.enter_context(stage.floor())
        ours = stack.enter_context(stage.acmems())[0].warm(WARM_UP)
        rival = stack.enter_context(stage.macen())[0].warm(1)
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
        rival = stack.enter_context(stage.macen())[0].warm(1)
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


def crowd(stage: Stage, plan: Plan) -> Measured:
    """Measure how many of a great many who ask at once get their certificate, and the memory it takes."""
    notes = []
    for _ in range(TRIES):
        measured, locked_up = _crowd(stage, plan)
        if not locked_up:
            break
        notes.append("the CA locked itself up (see docs/benchmarks.md); measured again with a new one")
    else:
        raise PeerFailed(f"the CA locked itself up {TRIES} times")
    with stage.macen() as (rival, _):
        rival.warm(1)
        outcome = rival.do(Job(SIGN, csrs.fresh(plan.rival_crowd), plan.rival_crowd, plan.patience))
        share = 100 * outcome.chains / outcome.asked
        what = f"{plan.rival_crowd} names at once: answered by macen"
        notes.append(f"{what}: {outcome.chains} ({share:.0f} %) in {outcome.seconds:.0f} s")
        costs = {**measured.costs, **_costs(rival)}
        return Measured(measured.rows, costs, notes)


def _crowd(stage: Stage, plan: Plan) -> tuple[Measured, bool]:
    with stage.acmems() as (ours, server):
        ours.warm(WARM_UP)
        outcome = ours.do(Job(SIGN, csrs.fresh(plan.crowd), plan.crowd, plan.patience))
        if outcome.failures and locked_up(ours.ca):
            server.process.kill()  # it would wait for its CA
            server.process.wait()
            return Measured([]), True
        what = f"{plan.crowd:,} names at once"
        rows = [
            Row(f"{what}: answered with a chain", "", outcome.chains, target=at_least(plan.crowd)),
            Row(f"{what}: rate", "/s", outcome.rate),
            Row(f"{what}: peak memory", "MB", server.peak_memory / MEGABYTE, target=at_most(150.0)),
        ]
        return Measured(rows, _costs(ours)), False


def locked_up(ca: Pebble) -> bool:
    """Tell whether a Pebble has locked itself up: it does not answer what it must look up."""
    try:
        ca.management("/cert-status-by-serial/1")
    except urllib.error.HTTPError:
        return False
    except OSError:
        return True
    return False


def requests(stage: Stage, plan: Plan) -> Measured:
    """Count the requests to the CA that one fresh certificate takes, as the CA logs them."""
    with stage.floor() as floor, stage.acmems() as (ours, _):
        ours.warm(WARM_UP)
        mine, least = (_most_requests(contender, plan.singles) for contender in (ours, floor))
        row = Row("requests to the CA for one name, warm: most", "", mine, target=at_most(8))
        return Measured([row, Row(row.what, "", mine, "floor", least)])


def _most_requests(contender: Contender, count: int) -> int:
    counts = []
    for _ in range(count):
        before = len(CALL.findall(contender.ca.log))
        contender.sign(1)
        counts.append(len(CALL.findall(contender.ca.log)) - before)
    return max(counts)


def stored(stage: Stage, plan: Plan) -> Measured:
    """Measure how often a second a stored chain is delivered, one connection a request."""
    return _stored(stage, plan, STORED, "stored chain, one connection a request", 3.0)


def kept(stage: Stage, plan: Plan) -> Measured:
    """Measure how often a second a stored chain is delivered on connections that are kept."""
    return _stored(stage, plan, KEPT, "stored chain, connections kept", 5.0)


def _stored(stage: Stage, plan: Plan, kind: str, what: str, times: float) -> Measured:
    with stage.acmems() as (ours, _), stage.macen() as (rival, _):
        csr = csrs.fresh(1)
        rates: dict[str, list[float]] = {"acmems": [], "macen": []}
        # macen speaks HTTP/1.0 and keeps no connection.
        turns = ((ours, kind), (rival, STORED))
        for contender, _ in turns:
            contender.do(Job(SIGN, csr))
            contender.warm(1)
        for _ in range(plan.rounds):
            for contender, as_kind in turns:
                outcome = contender.do(Job(as_kind, csr, CONNECTIONS, plan.stored))
                if outcome.failures:
                    raise PeerFailed(f"{contender.name} lost stored chains: {outcome.failures}")
                rates[contender.name].append(outcome.rate)
        mine, theirs = (statistics.median(rates[name]) for name in ("acmems", "macen"))
        return Measured([Row(what, "/s", mine, "macen", theirs, at_least(times))], _costs(ours, rival))


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
    "burst": burst,
    "crowd": crowd,
    "requests": requests,
    "stored": stored,
    "kept": kept,
    "start": start,
    "memory": memory,
}
"""The figures by name, in the order in which they are measured."""
NAMES: Sequence[str] = tuple(FIGURES)
