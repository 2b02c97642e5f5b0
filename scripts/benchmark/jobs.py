"""What a client process is asked to do, what it answers, and how: one line of JSON each, on its pipes."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from tests.peers import PeerFailed
from tests.peers.process import ROOT

SIGN = "sign"
STORED = "stored"
KEPT = "kept"


class NamedCsr(NamedTuple):
    """A CSR.

    Args:
        name: the only name in it.
        pem: the CSR, as PEM.
    """

    name: str
    pem: str


@dataclass(frozen=True)
class Job:
    """One measurement.

    Args:
        kind: `sign` for a chain for each CSR, `stored` for the chain of the first CSR again and again, `kept`
            for the same on connections that are kept; `herd` for the same, once, on `at_once` connections.
        csrs: the CSRs.
        at_once: how many of them are in flight at most.
        seconds: how long `stored` and `kept` go on; how long `sign` and `herd` may take.
    """

    kind: str
    csrs: Sequence[NamedCsr]
    at_once: int = 1
    seconds: float = 300.0


@dataclass(frozen=True)
class Outcome:
    """What a job brought.

    Args:
        chains: how many answers were chains.
        asked: how many requests were made.
        seconds: from the first request to the last answer.
        each: seconds that each chain of a `sign` took, in the order in which they came.
        cpu: seconds of CPU time that the client itself used.
        failures: what went wrong, and how often.
    """

    chains: int
    asked: int
    seconds: float
    each: Sequence[float] = ()
    cpu: float = 0.0
    failures: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Chains a second."""
        return self.chains / self.seconds


class Client:
    """A client in a process of its own, so that its work is not part of the bench's or a server's.

    Args:
        module: the module of `scripts.benchmark` that it runs.
        arguments: its command line.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"scripts.benchmark.{module}", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # A Ctrl-C at the terminal is for the bench, which then ends its clients in order.
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    def do(self, job: Job) -> Outcome:
        """Have a job done and return what it brought.

        Raises:
            PeerFailed: the client ended instead.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise PeerFailed("a client of the bench has no pipes")
        try:
            print(json.dumps(dataclasses.asdict(job)), file=stdin, flush=True)
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerFailed(f"a client of the bench ended with {self._process.wait()}")
        return Outcome(**json.loads(line))


def serve(work: Callable[[Job], Outcome]) -> None:
    """Do jobs until there are no more; what a client process runs.

    Args:
        work: does one job; its CPU time is filled in here.
    """
    for line in sys.stdin:
        asked = json.loads(line)
        job = Job(**{**asked, "csrs": [NamedCsr(*csr) for csr in asked["csrs"]]})
        before = own_cpu()
        outcome = dataclasses.replace(work(job), cpu=own_cpu() - before)
        print(json.dumps(dataclasses.asdict(outcome)), flush=True)


def own_cpu() -> float:
    """Return the CPU time of this process, in seconds."""
    times = os.times()
    return times.user + times.system
