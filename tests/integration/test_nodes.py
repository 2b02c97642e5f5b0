"""Several servers on one PostgreSQL: each thing is ordered once, and what one leaves another one finishes."""

from __future__ import annotations

import dataclasses
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.fault_proxy import FaultProxy
from tests.faults import AUTHORIZATION, CERTIFICATE, CHALLENGE, FINALIZE, NEW_ORDER, Conversation
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
    run_acmems,
    verify_chain,
    wait_until,
)
from tests.peers.client import Reply

LEASES = "leases WHERE name <> 'renewals'"  # those of orders


@pytest.fixture(scope="module")
def trusting(dns: ChallTestSrv) -> Iterator[Pebble]:
    """A CA that finds every proof, wherever it was presented."""
    with Pebble(dns.address, env={**CALM, "PEBBLE_VA_ALWAYS_VALID": "1"}) as ca:
        yield ca


@pytest.fixture
def ca(trusting: Pebble) -> Iterator[FaultProxy]:
    """The way to it."""
    with FaultProxy(trusting) as running:
        yield running


@dataclass
class Cluster:
    """Servers with one state and one account, each with files of its own."""

    servers: list[Acmems]
    postgres: Postgres
    database: str
    ca: Pebble

    def ask(self, number: int, csr: Path) -> Reply:
        return curl_sign(self.servers[number].sign_url, csr)

    def rows(self, table: str) -> int:
        """Return how many rows a table has."""
        ((count,),) = self.postgres.execute(f"SELECT count(*) FROM {table}", self.database)  # noqa: S608 - a test's
        return int(count)

    def declare_dead(self, number: int) -> None:
        """Let the time of a server that is held be over."""
        pid = self.servers[number].process.pid
        statement = f"UPDATE nodes SET expires = 0 WHERE process = {pid}"  # noqa: S608 - a test's
        self.postgres.execute(statement, self.database)

    @property
    def issued(self) -> int:
        return self.ca.log.count("Issued certificate serial")


@pytest.fixture
def cluster(
    request: pytest.FixtureRequest, postgres: Postgres, trusting: Pebble, ca: FaultProxy, tmp_path: Path
) -> Iterator[Cluster]:
    """Two servers, or as many as a test says."""
    database = postgres.make_database()
    made: list[Acmems] = []
    with ExitStack() as stack:
        for number in range(getattr(request, "param", 2)):
            folder = tmp_path / f"node{number}"
            folder.mkdir()
            settings = dataclasses.replace(Settings.of(trusting, folder), challenge_port=free_port())
            settings.auth += f"\n[state]\nurl = {postgres.url_of(database)}\n"
            made.append(stack.enter_context(Acmems(ca.before(settings))))
        yield Cluster(made, postgres, database, trusting)


@pytest.mark.parametrize("cluster", [3], indirect=True)
def test_the_same_at_all_servers(cluster: Cluster, ca: FaultProxy, tmp_path: Path) -> None:
    """A hundred clients with the same request get the same certificate, from one order."""
    _, csr = make_key_and_csr(tmp_path, ["a.example.org"])
    with ThreadPoolExecutor(25) as pool:
        replies = list(pool.map(lambda number: cluster.ask(number % 3, csr), range(100)))
    assert {reply.status for reply in replies} == {200}
    assert len({reply.body for reply in replies}) == 1
    verify_chain(replies[0].body, cluster.ca.root_pem())
    assert ca.count(path=NEW_ORDER) == 1
    assert cluster.rows("chains") == 1
    wait_until(lambda: cluster.rows("orders") == cluster.rows(LEASES) == 0, "nothing is left")


@pytest.mark.parametrize("cluster", [3], indirect=True)
def test_different_names(cluster: Cluster, ca: FaultProxy, tmp_path: Path) -> None:
    """They are ordered by whichever server is asked, all at once."""
    csrs = [make_key_and_csr(tmp_path, [f"h{n}.example.org"], stem=f"h{n}")[1] for n in range(30)]
    with ThreadPoolExecutor(30) as pool:
        replies = list(pool.map(lambda number: cluster.ask(number % 3, csrs[number]), range(30)))
    assert {reply.status for reply in replies} == {200}
    assert ca.count(path=NEW_ORDER) == 30
    assert cluster.rows("chains") == 30


@pytest.mark.parametrize(
    ("path", "is_answered"),
    [(CHALLENGE, False), (FINALIZE, False), (FINALIZE, True), (CERTIFICATE, True)],
    ids=["after the order was noted", "before finalize", "after finalize", "with the certificate"],
)
def test_a_kill(cluster: Cluster, ca: FaultProxy, tmp_path: Path, path: str, *, is_answered: bool) -> None:
    """The others finish the order of a server that was killed, unasked; its client gets that certificate."""
    _, csr = make_key_and_csr(tmp_path, ["killed.example.org"])
    issued = cluster.issued
    victim = cluster.servers[0].process
    rule = ca.when(path=path, nth=1)
    (rule.call_after if is_answered else rule.call_before)(victim.kill)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(cluster.ask, 0, csr)
        victim.wait()
        assert asked.exception() is not None or asked.result().status != 200
    ca.heal()
    if path != CHALLENGE:  # once, the time is waited for after which it is taken for dead
        cluster.declare_dead(0)
    wait_until(lambda: cluster.rows("chains") == 1, "another server has finished the order", 60)
    reply = cluster.ask(1, csr)
    verify_chain(reply.body, cluster.ca.root_pem())
    assert cluster.issued - issued == 1
    assert ca.count(path=NEW_ORDER) == 1
    wait_until(lambda: cluster.rows("orders") == cluster.rows(LEASES) == 0, "nothing is left")


@pytest.mark.parametrize(
    "path",
    [NEW_ORDER, AUTHORIZATION, CHALLENGE, FINALIZE, CERTIFICATE],
    ids=["order", "authorization", "challenge", "finalize", "certificate"],
)
def test_a_server_that_is_held(cluster: Cluster, ca: FaultProxy, tmp_path: Path, path: str) -> None:
    """Another server takes over for its client; the first one wakes up, and changes nothing."""
    _, csr = make_key_and_csr(tmp_path, ["held.example.org"])
    issued = cluster.issued
    victim = cluster.servers[0].process

    held = threading.Event()

    def hold(talk: Conversation) -> None:
        victim.send_signal(signal.SIGSTOP)
        held.set()
        talk.send(talk.forward())

    ca.when(path=path, nth=1).act = hold
    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(cluster.ask, 0, csr)
        assert held.wait(60), "the server has come so far"
        other = pool.submit(cluster.ask, 1, csr)
        cluster.declare_dead(0)
        taken_over = other.result()
        assert taken_over.status == 200
        victim.send_signal(signal.SIGCONT)
        assert asked.result().body == taken_over.body
    assert cluster.issued - issued == 1
    # Before the answer to the order is noted, its successor cannot know of it.
    assert 1 <= ca.count(path=NEW_ORDER) <= 1 + (path in {NEW_ORDER, AUTHORIZATION})
    assert cluster.rows("chains") == 1
    wait_until(lambda: cluster.rows("orders") == cluster.rows(LEASES) == 0, "nothing is left")


def test_the_account(cluster: Cluster, tmp_path: Path) -> None:
    """The second server has taken the account of the first, and registered none."""
    keys = {file.read_bytes() for file in tmp_path.glob("node*/account/account.pem")}
    assert len(keys) == 1
    assert "registered a new account" not in cluster.servers[1].log


def test_another_key_for_the_account(cluster: Cluster, tmp_path: Path) -> None:
    """The other server takes it by itself, and both go on."""
    done = run_acmems("account", "rotate-key", cluster.servers[0].folder / "acmems.ini")
    assert done.returncode == 0, done.stderr
    files = [tmp_path / f"node{number}/account/account.pem" for number in range(2)]
    wait_until(lambda: files[0].read_bytes() == files[1].read_bytes(), "the other one has it as well", 60)
    for number in range(2):
        _, csr = make_key_and_csr(tmp_path, [f"k{number}.example.org"], stem=f"k{number}")
        assert cluster.ask(number, csr).status == 200


def test_a_server_that_stops(cluster: Cluster, ca: FaultProxy, tmp_path: Path) -> None:
    """What it has not finished is finished by another one."""
    _, csr = make_key_and_csr(tmp_path, ["stopped.example.org"])
    issued = cluster.issued
    ca.when(path=FINALIZE, nth=1).stall()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(cluster.ask, 0, csr)
        wait_until(lambda: ca.count(path=FINALIZE) == 1, "the order is finalized")
        cluster.servers[0].process.send_signal(signal.SIGTERM)
        wait_until(lambda: cluster.rows("chains") == 1, "another server has finished the order", 90)
    assert cluster.issued - issued == 1
    assert ca.count(path=NEW_ORDER) == 1
