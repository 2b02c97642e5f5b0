"""The figure of worker processes: a burst for two of them beside the same for one, where only acmems is slow.

On a machine with few processors, the CA and the client need as many of them as acmems does, and a second
process gets none. So each process of acmems is given a quarter of a processor and no more. Then the CA and
the client have the rest, and acmems is what everybody waits for, as if its processors were slower.
With half of a processor for each process, the CA and the client would fill what is left of two processors.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from scripts.benchmark.rows import Measured, Row, at_least
from scripts.benchmark.slowed import slowed
from scripts.benchmark.stage import Contender, Stage
from scripts.benchmark.usage import cpu_seconds
from tests.peers import PeerFailed

BURST = 50
WARM_UP = 50
SHARE = 0.25
"""Of a processor, for each process."""
TURNS = 4
"""How many bursts each has in a round: the speed of many machines differs by a half from second to second."""
PROCESSES = (1, 2)


def processes(stage: Stage, rounds: int) -> Measured:
    """Measure how many fresh certificates a second come from two processes, beside one.

    Args:
        stage: where to measure.
        rounds: how often each of them has `TURNS` bursts.

    Raises:
        PeerFailed: a process cannot be slowed here.
    """
    rates: dict[int, list[float]] = {count: [] for count in PROCESSES}
    busiest: dict[int, list[float]] = {count: [] for count in PROCESSES}
    used: dict[int, list[float]] = {count: [] for count in PROCESSES}
    with (
        stage.acmems(calm=True) as (one, _),
        stage.acmems(calm=True, mgmt="processes = 2") as (two, _),
    ):
        contenders = dict(zip(PROCESSES, (one, two), strict=True))
        for count, contender in contenders.items():
            contender.warm(count * WARM_UP)
        with slowed([pid for contender in contenders.values() for pid in _processes(contender)], SHARE):
            for _ in range(TURNS * rounds):
                for count, contender in contenders.items():
                    rate, cpu = _burst(contender)
                    rates[count].append(rate)
                    busiest[count].append(cpu / BURST * 1000)
                    used[count].append(100 * cpu * rate / BURST / SHARE)
    one_rate, two_rate = (statistics.median(rates[count]) for count in PROCESSES)
    one_cpu, two_cpu = (statistics.median(busiest[count]) for count in PROCESSES)
    one_used, two_used = (statistics.median(used[count]) for count in PROCESSES)
    what = f"{BURST} names at once, two processes"
    return Measured(
        [
            Row(
                f"{what}, each with a quarter of a processor",
                "/s",
                two_rate,
                "one process",
                one_rate,
                at_least(1.5),
            ),
            Row(f"{what}: CPU of the busier one a certificate", "ms", two_cpu, "one process", one_cpu),
            Row(f"{what}: of that quarter used by the busier one", "%", two_used, "one process", one_used),
        ]
    )


def _burst(contender: Contender) -> tuple[float, float]:
    """Have a burst issued; return certificates a second, and the CPU time of the process that used most."""
    servers = _processes(contender)
    before = [cpu_seconds(pid) for pid in servers]
    outcome = contender.sign(BURST, BURST)
    return outcome.rate, max(cpu_seconds(pid) - used for pid, used in zip(servers, before, strict=True))


def _processes(contender: Contender) -> list[int]:
    if contender.server is None:
        raise PeerFailed("only a server has processes")
    return family(contender.server.process.pid)


def family(pid: int) -> list[int]:
    """Return the numbers of a process and of those that it has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    return [pid, *(each for child in children.split() for each in family(int(child)))]
