"""The figure of dns-01 beside http-01: what the DNS server's round trips cost, and what comes on top."""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import dns.message
import dns.name
import dns.query
import dns.update
from scripts.benchmark import csrs
from scripts.benchmark.jobs import SIGN, Client, Job
from scripts.benchmark.rows import Measured, Row, at_most
from scripts.benchmark.stage import Contender, Stage
from tests.peers import Acmems, Bind, Pebble, PeerFailed, Settings

WARM_UP = 20
MANY = [f"many-{number}.example.org" for number in range(50)]
ALLOWED = 1.5
"""How many times the http-01 figure dns-01 may take, beside the round trips to the DNS server."""
VERIFICATION = """
[verification "dns"]
type = dns01-dnsUpdate
dns-server = {server}
nameserver = {server}
propagation = authoritative
"""


def by_dns(stage: Stage, rounds: int, singles: int) -> Measured:
    """Measure a certificate by dns-01, through BIND, with `propagation = authoritative`.

    Args:
        stage: where http-01 is measured.
        rounds: how often both take turns.
        singles: certificates a round, one after the other.
    """
    with ExitStack() as stack:
        by_http = stack.enter_context(stage.acmems())[0].warm(WARM_UP)
        bind = stack.enter_context(Bind("example.org"))
        ca = stack.enter_context(Pebble(bind.address))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="acmems-bench-")))
        settings = Settings.of(ca, folder)
        settings.mgmt = "max-size = 64k"
        settings.auth = "\n".join(
            ['[auth "anyone"]', "all = yes", "domain = **", *(f"domain = *.{name}" for name in MANY)]
        )
        settings.verification = VERIFICATION.format(server=bind.address)
        server = stack.enter_context(Acmems(settings.text().replace("level = debug", "level = info")))
        client = stack.enter_context(Client("load", str(server.port)))
        ours = Contender("acmems by DNS", ca, client, server).warm(WARM_UP)
        http: list[float] = []
        dns01: list[float] = []
        trips: list[float] = []
        for _ in range(rounds):
            http += by_http.sign(singles).each
            dns01 += ours.sign(singles).each
            trips += [_round_trips(bind) for _ in range(singles)]
        before = bind.serial("example.org")
        outcome = ours.do(Job(SIGN, [csrs.with_wildcards(MANY)]))
        if outcome.failures:
            raise PeerFailed(f"the order of {len(MANY)} names and wildcards failed: {outcome.failures}")
        messages = bind.serial("example.org") - before - 1  # one of them deletes
        mine, theirs, servers = (statistics.median(each) * 1000 for each in (dns01, http, trips))
        what = "one name by dns-01 (BIND, authoritative): median"
        return Measured(
            [
                Row(what, "ms", mine, "http-01", theirs),
                Row(
                    f"{what}, without the server's round trips",
                    "ms",
                    mine - servers,
                    "http-01",
                    theirs,
                    at_most(ALLOWED),
                ),
                Row(
                    f"{len(MANY)} names, each with its wildcard: messages that add",
                    "",
                    messages,
                    target=at_most(1),
                ),
                Row(f"{len(MANY)} names, each with its wildcard: one order", "ms", outcome.seconds * 1000),
            ],
            {ours.name: ours.cost, by_http.name: by_http.cost},
            [f"round trips to BIND (zone, add, look, delete), alone: {servers:.1f} ms"],
        )


def _round_trips(bind: Bind) -> float:
    """Return the seconds that the least there is to ask of the DNS server takes, with nothing around it."""
    record = dns.name.from_text("_acme-challenge.alone.example.org")
    add, delete = dns.update.UpdateMessage("example.org"), dns.update.UpdateMessage("example.org")
    add.add(record, 60, "TXT", "value")
    delete.delete(record, "TXT", "value")
    messages = (dns.message.make_query(record, "SOA"), add, dns.message.make_query(record, "TXT"), delete)
    began = time.monotonic()
    for message in messages:
        dns.query.udp(message, "127.0.0.1", timeout=5, port=bind.port)
    return time.monotonic() - began
