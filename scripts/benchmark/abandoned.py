"""The figure of a clumsy neighbour: one block's clients send requests and hang up; how long do others wait?

usage: python -m scripts.benchmark.abandoned PORT   (jobs on standard input)

The neighbour's names lead into a black hole, so that its orders last until the CA gives up.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from scripts.benchmark import csrs
from scripts.benchmark.jobs import SIGN, Client, Job, NamedCsr, Outcome, serve
from scripts.benchmark.rows import Measured, Row, at_most
from scripts.benchmark.stage import Contender
from tests.abandoned import HOLE, BlackHole, ask_and_hang_up, csr_for
from tests.peers import CALM, Acmems, ChallTestSrv, Pebble, PeerFailed, Settings

ABANDON = "abandon"
WARM_UP = 20
PATIENCE = 120.0
NEIGHBOUR = "127.0.0.3"
DOMAIN = "neighbour.example.net"
BLOCKS = f"""
[auth "neighbour"]
ip = {NEIGHBOUR}
domain = *.{DOMAIN}

[auth "ours"]
ip = 127.0.0.1
domain = *.example.org
"""


def beside_abandoned(abandoned: int, singles: int) -> Measured:
    """Measure how long one fresh certificate takes with and without a neighbour.

    Args:
        abandoned: how many requests the neighbour sends, as fast as it can, and hangs up.
        singles: certificates with and without, one after the other; the first of them come with the requests.
    """
    with ExitStack() as stack:
        dns = stack.enter_context(ChallTestSrv())
        ca = stack.enter_context(Pebble(dns.address, env=CALM))
        stack.enter_context(BlackHole(ca.http_port))
        settings = Settings.of(
            ca, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="acmems-bench-")))
        )
        settings.auth = BLOCKS
        server = stack.enter_context(Acmems(settings.text().replace("level = debug", "level = info")))
        ours = Contender("acmems", ca, stack.enter_context(Client("load", str(server.port))), server)
        flood = stack.enter_context(Client("abandoned", str(server.port)))
        groups = [csrs.fresh(count) for count in (WARM_UP, singles, singles)]
        dns.post("set-default-ipv4", ip=HOLE)
        for each in (csr for group in groups for csr in group):
            dns.post("add-a", host=each.name, addresses=["127.0.0.1"])
        many = [
            NamedCsr(name, csr_for(name).decode())
            for name in (f"{number}.{DOMAIN}" for number in range(abandoned))
        ]
        outcomes = [ours.do(Job(SIGN, group, 1, PATIENCE)) for group in groups[:2]]
        beside: list[Outcome] = []
        thread = threading.Thread(target=lambda: beside.append(flood.do(Job(ABANDON, many))))
        thread.start()
        outcomes.append(ours.do(Job(SIGN, groups[2], 1, PATIENCE)))
        thread.join()
        for outcome in outcomes:
            if outcome.failures:
                raise PeerFailed(f"orders failed: {outcome.failures}")
        without, beside_it = ([each * 1000 for each in outcome.each] for outcome in outcomes[1:])
        orders = ca.log.count("POST /order-plz -> calling handler()") - WARM_UP - 2 * singles
        what = f"another block's order beside {abandoned:,} abandoned requests"
        medians = statistics.median(beside_it), statistics.median(without)
        return Measured(
            [
                Row(f"{what}: median", "ms", medians[0], "without", medians[1], at_most(2.0)),
                Row(f"{what}: slowest", "ms", max(beside_it), "without", max(without)),
                Row("orders of the abandoned requests that reach the CA", "", orders),
                Row("the neighbour sends them within", "s", beside[0].seconds),
            ],
            notes=[
                f"beside them, one after the other: {', '.join(f'{each:.0f}' for each in beside_it)} ms",
            ],
        )


def abandon(port: int, job: Job) -> Outcome:
    """Send requests and hang up.

    Args:
        port: where the server listens.
        job: what is asked for.
    """
    began = time.perf_counter()
    ask_and_hang_up(port, (csr.pem.encode() for csr in job.csrs), NEIGHBOUR)
    return Outcome(0, len(job.csrs), time.perf_counter() - began)


def main() -> None:
    """Do jobs against one server."""
    port = int(sys.argv[1])
    serve(lambda job: abandon(port, job))


if __name__ == "__main__":
    main()
