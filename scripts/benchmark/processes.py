"""The figure of worker processes: a burst for two of them beside the same for one, where only acmems is slow.

On a machine with few processors, the CA and the client need as many of them as acmems does, and a second
process gets none. So acmems and the others take turns: while one side runs, the other is stopped. acmems then
has all processors of the machine for itself, as if its CA and its clients were elsewhere, and finds the
answers to all that it has asked when it goes on. Its turn is over as soon as it has nothing to do, so that
what counts is how long it has worked, and not how long it has waited for them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmark.rows import Measured, Row
from scripts.benchmark.stage import Contender, Stage
from scripts.benchmark.usage import cpu_seconds
from tests.peers import PeerFailed

BURST = 50
WARM_UP = 20
SERVER_SECONDS = 0.008
"""For so long acmems runs at a time, at most."""
IDLE_SECONDS = 0.001
"""After so long without work its turn is over; a wait for the disk is shorter, most often."""
IDLE_SHARE = 0.1
"""Of a processor, for less of which nothing counts as work."""
LOOK_SECONDS = 0.0003
"""Between two looks whether it works."""
OTHERS_SECONDS = 0.032
"""For so long its CA and the client run then: enough to answer all that acmems has asked meanwhile."""


def processes(stage: Stage, rounds: int) -> Measured:
    """Measure how many fresh certificates a second come from two processes, beside one.

    Args:
        stage: where to measure.
        rounds: how often the two take turns.
    """
    with (
        stage.acmems(calm=True) as (one, _),
        stage.acmems(calm=True, mgmt="processes = 2") as (two, _),
    ):
        rates: dict[int, list[float]] = {1: [], 2: []}
        busiest: dict[int, list[float]] = {1: [], 2: []}
        for count, contender in ((1, one), (2, two)):
            contender.warm(count * WARM_UP)
        for _ in range(rounds):
            for count, contender in ((1, one), (2, two)):
                rate, cpu = _burst(contender)
                rates[count].append(rate)
                busiest[count].append(cpu / BURST * 1000)
    what = f"{BURST} names at once, two processes"
    return Measured(
        [
            Row(
                f"{what}: in a second of their own",
                "/s",
                statistics.median(rates[2]),
                "one process",
                statistics.median(rates[1]),
            ),
            Row(
                f"{what}: CPU of the busier one a certificate",
                "ms",
                statistics.median(busiest[2]),
                "one process",
                statistics.median(busiest[1]),
            ),
        ]
    )


def _burst(contender: Contender) -> tuple[float, float]:
    """Have a burst issued; return certificates a second, and the CPU time of the process that used most."""
    server = contender.server
    if server is None:
        raise PeerFailed("only a server has processes")
    servers = family(server.process.pid)
    before = [cpu_seconds(pid) for pid in servers]
    with taking_turns(servers, [contender.ca.process.pid, contender.client.pid]) as spent:
        contender.sign(BURST, BURST)
        rate = BURST / spent.seconds
    return rate, max(cpu_seconds(pid) - used for pid, used in zip(servers, before, strict=True))


@contextlib.contextmanager
def taking_turns(servers: Sequence[int], others: Sequence[int]) -> Iterator[Spent]:
    """Let either the one or the other processes run; all of them in the end.

    Args:
        servers: process numbers.
        others: the same.
    """
    is_over, spent = threading.Event(), Spent()

    def alternate() -> None:
        _signal(signal.SIGSTOP, others)
        while not is_over.is_set():
            _signal(signal.SIGCONT, servers)
            spent.seconds += _until_idle(servers, is_over)
            _signal(signal.SIGSTOP, servers)
            _signal(signal.SIGCONT, others)
            is_over.wait(OTHERS_SECONDS)
            _signal(signal.SIGSTOP, others)

    thread = threading.Thread(target=alternate)
    thread.start()
    try:
        yield spent
    finally:
        is_over.set()
        thread.join()
        _signal(signal.SIGCONT, [*servers, *others])


@dataclass
class Spent:
    """How long acmems has run.

    Args:
        seconds: so long.
    """

    seconds: float = 0.0


def _until_idle(servers: Sequence[int], is_over: threading.Event) -> float:
    """Wait until processes have nothing to do any more, or have run for long enough; return for how long."""
    began = last = time.monotonic()
    used = _used(servers)
    while not is_over.wait(LOOK_SECONDS):
        now, using = time.monotonic(), _used(servers)
        if using - used > IDLE_SHARE * (now - last):
            last, used = now, using
        if now - began > SERVER_SECONDS or now - last > IDLE_SECONDS:
            break
    return time.monotonic() - began


def _used(servers: Sequence[int]) -> float:
    """Return the CPU seconds of processes, by the clock that each of them has (clock_getcpuclockid(3))."""
    return sum(time.clock_gettime(~pid << 3 | 2) for pid in servers)


def _signal(number: signal.Signals, pids: Sequence[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # whoever waits for it will see that it has ended
            os.kill(pid, number)


def family(pid: int) -> list[int]:
    """Return the numbers of a process and of those that it has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    return [pid, *(each for child in children.split() for each in family(int(child)))]
