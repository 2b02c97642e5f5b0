"""The figure of our own name server: queries a second on one core, and memory after many of them."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import dns.name
from scripts.benchmark.rows import Measured, Row, at_least, at_most
from scripts.benchmark.usage import cpu_seconds, resident
from tests.peers import PeerFailed, environment, program

from acmems.dns.server import NameServer, Zone, name_server_plan
from acmems.net.address import Address
from acmems.net.listening import Listener

NAMES_PRESENT = 10_000
QUERIES = 200_000
ABSENT_EVERY = 10
"""One query of so many is for a name that is not there."""
PATIENCE = 300  # seconds that dnsperf may take for all queries
ORIGIN = dns.name.from_text("acme.example.org")
COUNTED = re.compile(r"^\s*(?:Queries )?(completed|lost|Run time \(s\)):\s+([\d.]+)", re.MULTILINE)
CODE = re.compile(r"([A-Z]{4,}) (\d+) \(")


def nameserver() -> Measured:
    """Measure our name server with 10,000 names present, asked by Debian's dnsperf over UDP."""
    with tempfile.TemporaryDirectory(prefix="acmems-bench-") as name, _serving() as (pid, port):
        questions = Path(name) / "questions"
        questions.write_text("".join(_questions()), encoding="ascii")
        before, used = resident(pid), cpu_seconds(pid)
        completed, lost, seconds = _ask(port, questions)
        used = cpu_seconds(pid) - used
        time.sleep(0.5)
        after = resident(pid)
    what = f"name server, {NAMES_PRESENT:,} names"
    grown = max(0.0, after - before)
    return Measured(
        [
            Row(f"{what}: queries a second of CPU", "/s", completed / used, target=at_least(5000.0)),
            Row(f"{what}: queries a second, dnsperf beside it", "/s", completed / seconds),
            Row(f"{what}: memory before any query", "MB", before),
            Row(f"{what}: memory that {QUERIES:,} queries add", "MB", grown, target=at_most(5.0)),
        ],
        notes=[f"{completed:,.0f} queries answered, {lost:,.0f} lost, {used:.1f} s of CPU"],
    )


def _name(number: int) -> str:
    return f"host-{number}.example.org"


def _questions() -> Iterator[str]:
    """Yield questions as resolvers ask them, each with letters of random case (0x20)."""
    random = Random(20)  # noqa: S311 - the same questions in every run
    for number in range(NAMES_PRESENT):
        name = _name(number if number % ABSENT_EVERY else NAMES_PRESENT + number)
        mixed = "".join(random.choice((letter, letter.upper())) for letter in f"{name}.{ORIGIN}")
        yield f"{mixed} TXT\n"


def _ask(port: int, questions: Path) -> tuple[float, float, float]:
    """Let dnsperf ask; return how many were answered, how many were not, and the seconds that it took."""
    often = ["-n", str(QUERIES // NAMES_PRESENT), "-l", str(PATIENCE)]
    command = [program("dnsperf"), "-s", "127.0.0.1", "-p", str(port), "-d", str(questions), *often]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    found = {what: float(value) for what, value in COUNTED.findall(done.stdout)}
    codes = {what: int(count) for what, count in CODE.findall(done.stdout)}
    # A server that answers wrongly may well be quick.
    if done.returncode or codes.keys() != {"NOERROR", "NXDOMAIN"}:
        raise PeerFailed(f"dnsperf did not get the answers it should: {done.stderr or codes}")
    return found["completed"], found["lost"], found["Run time (s)"]


@contextmanager
def _serving() -> Iterator[tuple[int, int]]:
    """Run the name server in a process of its own; yield its process id and its port."""
    command = [sys.executable, "-m", "scripts.benchmark.nameserver"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = process.stdout.readline() if process.stdout else ""
            if not port:
                raise PeerFailed("the name server did not start")
            yield process.pid, int(port)
        finally:
            process.terminate()


def _serve() -> None:
    """Serve the names until standard input ends."""
    zone = Zone(ORIGIN, [NameServer(dns.name.from_text("ns.example.org"))])
    for number in range(NAMES_PRESENT):
        zone.add(dns.name.from_text(_name(number), ORIGIN), f"{number:043}", _nobody_asks)
    plan = name_server_plan("bench", zone, [Address("127.0.0.1", 0)], rate_limit=sys.maxsize)
    listener = Listener.of(plan).open()
    print(listener.addresses[0].port, flush=True)
    sys.stdin.read()
    listener.close()


def _nobody_asks() -> None:
    pass


if __name__ == "__main__":
    _serve()
