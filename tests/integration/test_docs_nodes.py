"""Three servers behind HAProxy, as documented, that are killed, held and cut off while machines ask them."""

from __future__ import annotations

import dataclasses
import logging
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.fault_proxy import FaultProxy
from tests.faults import NEW_ORDER
from tests.peers import (
    CALM,
    Acmems,
    ChallTestSrv,
    Pebble,
    Postgres,
    Settings,
    curl_sign,
    free_port,
    make_key_and_csr,
    verify_chain,
    wait_until,
)
from tests.peers.forwarders import HAProxy
from tests.peers.process import PeerFailed
from tests.relay import Relay

LEASES = "leases WHERE name <> 'renewals'"  # those of orders

story = logging.getLogger("story")

DOCS = Path(__file__).parents[2] / "docs"
PART = (DOCS / "operations.md").read_text(encoding="utf-8").partition("## Several servers with one state")[2]
TEXTS: list[str] = re.findall(r"^```text\n(.*?)^```$", PART, re.MULTILINE | re.DOTALL)
TEXT = next(each for each in TEXTS if "backend" in each)
NODES = "abc"
MACHINES = 8
pytestmark = pytest.mark.timeout(400)  # a thousand processes ask, and servers are held


@dataclass
class Node:
    """One of the servers, the way from it to the database, and where it is asked."""

    server: Acmems
    relay: Relay
    challenge_port: int
    health_port: int


@dataclass
class Cluster:
    """The servers, what is before them, and what they share."""

    nodes: list[Node]
    port: int
    ca: FaultProxy
    pebble: Pebble
    postgres: Postgres
    database: str
    folder: Path
    csrs: list[Path] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/sign"

    def rows(self, table: str) -> int:
        ((count,),) = self.postgres.execute(f"SELECT count(*) FROM {table}", self.database)  # noqa: S608 - a test's
        return int(count)

    def ask_until_answered(self, csr: Path, until: float) -> bytes:
        """Ask as a machine does from cron, again and again, and return its chain."""
        while True:
            try:
                reply = curl_sign(self.url, csr)
                if reply.status == 200:
                    return reply.body
                words = reply.body.decode(errors="replace").strip().partition("\n")[0]
                story.info("%s is answered %d: %s", csr.stem, reply.status, words)
            except PeerFailed as error:
                story.info("%s gets no answer: %s", csr.stem, str(error).partition("\n")[0])
            assert time.monotonic() < until, f"{csr.stem} got no certificate"
            time.sleep(1)


def haproxy(port: int, http_port: int, nodes: list[tuple[int, int, int]]) -> str:
    """Return the documented configuration with the addresses of a test."""
    text = TEXT.replace("bind :1313", f"bind 127.0.0.1:{port}").replace(
        "bind :80", f"bind 127.0.0.1:{http_port}"
    )
    for number, (sign, challenge, health) in enumerate(nodes, 1):
        for documented, used in ((1313, sign), (1380, challenge)):
            place = f"192.0.2.{number}:{documented} port 9313"
            assert place in text
            text = text.replace(place, f"127.0.0.1:{used} port {health}")
    return text


@pytest.fixture(scope="module")
def pebble(dns: ChallTestSrv) -> Iterator[Pebble]:
    """A CA that fetches every proof, through HAProxy."""
    with Pebble(dns.address, env=CALM) as running:
        yield running


@pytest.fixture
def cluster(pebble: Pebble, postgres: Postgres, tmp_path: Path) -> Iterator[Cluster]:
    """Three servers, each with files and a way to the database of its own."""
    database = postgres.make_database()
    nodes: list[Node] = []
    with ExitStack() as stack:
        ca = stack.enter_context(FaultProxy(pebble))
        for name in NODES:
            folder = tmp_path / name
            folder.mkdir()
            relay = stack.enter_context(Relay(postgres.port))
            challenge_port, health_port = free_port(), free_port()
            settings = dataclasses.replace(Settings.of(pebble, folder), challenge_port=challenge_port)
            settings.mgmt = "trusted-proxy = 127.0.0.1"
            settings.storage = '[storage "state"]\ntype = sql\n'
            settings.auth += f"\n[state]\nurl = {postgres.url_of(database, port=relay.port)}\n"
            settings.auth += f"\n[metrics]\nlistener = 127.0.0.1:{health_port}\n"
            server = stack.enter_context(Acmems(ca.before(settings)))
            nodes.append(Node(server, relay, challenge_port, health_port))
        port = free_port()
        places = [(each.server.port, each.challenge_port, each.health_port) for each in nodes]
        stack.enter_context(HAProxy(port, haproxy(port, pebble.http_port, places)))
        yield Cluster(nodes, port, ca, pebble, postgres, database, tmp_path)


def test_a_thousand_of_the_same(cluster: Cluster, tmp_path: Path) -> None:
    """A thousand clients that want the same at three servers get the same certificate, from one order."""
    _, csr = make_key_and_csr(tmp_path, ["same.example.org"])
    until = time.monotonic() + 250
    with ThreadPoolExecutor(40) as pool:
        chains = set(pool.map(lambda _: cluster.ask_until_answered(csr, until), range(1000)))
    assert len(chains) == 1
    verify_chain(chains.pop(), cluster.pebble.root_pem())
    assert cluster.ca.count(path=NEW_ORDER) == 1
    story.info("1,000 requests for the same, over three servers: 1 order")


def test_servers_that_are_killed_held_and_cut_off(cluster: Cluster, tmp_path: Path) -> None:
    """Machines ask all the while: each gets its certificates, and the CA issues one for each name."""
    csrs = [
        [make_key_and_csr(tmp_path, [f"m{m}-{n}.example.org"], stem=f"m{m}-{n}")[1] for n in range(12)]
        for m in range(MACHINES)
    ]
    over = threading.Event()
    until = time.monotonic() + 280
    issued = cluster.pebble.log.count("Issued certificate serial")
    a, b, c = cluster.nodes

    def machine(number: int) -> list[bytes]:
        chains = []
        for csr in csrs[number]:
            chains.append(cluster.ask_until_answered(csr, until))
            over.wait(1)
        return chains

    def have(number: int) -> Callable[[], bool]:
        return lambda: cluster.rows("chains") >= number

    with ThreadPoolExecutor(MACHINES) as pool:
        asking = [pool.submit(machine, number) for number in range(MACHINES)]
        wait_until(have(10), "the first machines have certificates", 120)
        story.info("server a is killed")
        a.server.process.kill()
        a.server.process.wait()
        wait_until(have(30), "the others go on", 120)
        story.info("server a starts again; server b is stopped with SIGSTOP")
        a.server.restart()
        b.server.process.send_signal(signal.SIGSTOP)
        wait_until(have(50), "the others go on", 120)
        story.info("server b goes on; server c is cut off from the database")
        b.server.process.send_signal(signal.SIGCONT)
        c.relay.cut()
        wait_until(have(70), "the others go on", 120)
        story.info("server c has its database again")
        c.relay.heal()
        chains = [chain for each in asking for chain in each.result()]
    names = MACHINES * 12
    assert len(set(chains)) == names
    for chain in chains:
        verify_chain(chain, cluster.pebble.root_pem())
    assert cluster.pebble.log.count("Issued certificate serial") - issued == names
    wait_until(lambda: cluster.rows("orders") == cluster.rows(LEASES) == 0, "nothing is left", 90)
    wait_until(lambda: cluster.rows("proofs") == 0, "no proof is left", 90)
    orders = cluster.ca.count(path=NEW_ORDER)
    story.info("%d certificates, %d orders, %d issued", len(chains), orders, names)


def test_the_database_is_away(cluster: Cluster, tmp_path: Path) -> None:
    """What a server has delivered lately it delivers still, and HAProxy leaves it in its place."""
    _, csr = make_key_and_csr(tmp_path, ["stored.example.org"])
    _, other = make_key_and_csr(tmp_path, ["new.example.org"], stem="new")
    chains = {curl_sign(node.server.sign_url, csr).body for node in cluster.nodes}
    assert len(chains) == 1
    for node in cluster.nodes:
        node.relay.cut()
    story.info("all servers are cut off from the database")
    for _ in range(6):
        assert curl_sign(cluster.url, csr).body in chains
    assert curl_sign(cluster.url, other).status == 503
    for node in cluster.nodes:
        node.relay.heal()
    story.info("they have it again")
    cluster.ask_until_answered(other, time.monotonic() + 60)
