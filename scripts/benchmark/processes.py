"""The figure of worker processes: a burst for two of them beside the same for one, where only acmems is slow.

On a machine with few processors, the CA and the client need as many of them as acmems does, and a second
process gets none. So acmems and the others take turns: while one side runs, the other is stopped. acmems then
has all processors of the machine for itself, as if its CA and its clients were elsewhere, and finds the
answers to all that it has asked when it goes on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from scripts.benchmark.rows import Measured, Row
from scripts.benchmark.stage import Contender, Stage
from scripts.benchmark.usage import cpu_seconds
from tests.peers import PeerFailed

BURST = 50
WARM_UP = 20
SERVER_SECONDS = 0.008
"""For so long acmems runs at a time."""
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
    # What a second of the server's own time brings: in that of the others it is stopped.
    share = SERVER_SECONDS / (SERVER_SECONDS + OTHERS_SECONDS)
    what = f"{BURST} names at once, two processes"
    return Measured(
        [
            Row(
                f"{what}: in a second of their own",
                "/s",
                statistics.median(rates[2]) / share,
                "one process",
                statistics.median(rates[1]) / share,
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
    with taking_turns(servers, [contender.ca.process.pid, contender.client.pid]):
        rate = contender.sign(BURST, BURST).rate
    return rate, max(cpu_seconds(pid) - used for pid, used in zip(servers, before, strict=True))


@contextlib.contextmanager
def taking_turns(servers: Sequence[int], others: Sequence[int]) -> Iterator[None]:
    """Let either the one or the other processes run; all of them in the end.

    Args:
        servers: process numbers.
        others: the same.
    """
    is_over = threading.Event()

    def alternate() -> None:
        _signal(signal.SIGSTOP, others)
        while not is_over.is_set():
            for running, seconds in ((servers, SERVER_SECONDS), (others, OTHERS_SECONDS)):
                _signal(signal.SIGCONT, running)
                is_over.wait(seconds)
                _signal(signal.SIGSTOP, running)

    thread = threading.Thread(target=alternate)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        _signal(signal.SIGCONT, [*servers, *others])


def _signal(number: signal.Signals, pids: Sequence[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # whoever waits for it will see that it has ended
            os.kill(pid, number)


def family(pid: int) -> list[int]:
    """Return the numbers of a process and of those that it has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    return [pid, *(each for child in children.split() for each in family(int(child)))]
