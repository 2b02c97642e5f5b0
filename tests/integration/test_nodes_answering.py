"""Several servers with one state: a CA is answered by each of them, whichever orders."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.peers import (
    CALM,
    Acmems,
    ChallTestSrv,
    Pebble,
    Postgres,
    Resolver,
    Settings,
    curl,
    curl_sign,
    free_port,
    make_key_and_csr,
    names_of,
)
from tests.peers.client import Reply

HTTP = """
[verification "proof"]
type = http01
listener = 127.0.0.1:{port}
"""
TLS = """
[verification "proof"]
type = tls-alpn01
listener = 127.0.0.1:{port}
"""
DNS = """
[verification "proof"]
type = dns01-server
zone = acme.example.net
ns = ns.example.org
listener = 127.0.0.1:{port}
"""
AUTH = """
[auth "anyone"]
all = yes
domain = **
domain = *.www.example.org

[state]
url = {url}
"""


@dataclasses.dataclass
class Pair:
    """Two servers with one account and one state; the CA comes to the second alone.

    Args:
        first: orders.
        second: answers.
    """

    first: Acmems
    second: Acmems


@pytest.fixture(scope="module")
def ca(dns: ChallTestSrv) -> Iterator[Pebble]:
    with Pebble(dns.address, env=CALM) as ca:
        yield ca


@contextlib.contextmanager
def pair(ca: Pebble, server: Postgres, folder: Path, verification: str, port: int) -> Iterator[Pair]:
    """Start two servers of which the second listens for the CA.

    Args:
        ca: the CA.
        server: keeps the state.
        folder: for both.
        verification: with which names are proved.
        port: where the CA comes.
    """
    url = server.url_of(server.make_database())
    settings = []
    for name, where in (("first", free_port()), ("second", port)):
        (folder / name).mkdir()
        made = Settings.of(ca, folder / name)
        made.verification, made.auth = verification.format(port=where), AUTH.format(url=url)
        settings.append(made)
    with Acmems(settings[0]) as first, Acmems(settings[1]) as second:
        yield Pair(first, second)


def test_http01(ca: Pebble, postgres: Postgres, tmp_path: Path) -> None:
    """Ten names of one order are fetched from the server that knows nothing of it; afterwards it has none."""
    names = [f"host{number}.example.org" for number in range(10)]
    _, csr = make_key_and_csr(tmp_path, names)
    with pair(ca, postgres, tmp_path, HTTP, ca.http_port) as nodes:
        reply = curl_sign(nodes.first.sign_url, csr)
        assert reply.status == 200, reply.text
        assert names_of(reply.body) == set(names)
        url = f"http://127.0.0.1:{ca.http_port}/.well-known/acme-challenge/token"
        stranger = curl(url, "-H", f"Host: {names[0]}")
        assert stranger.status == 404


def test_tls_alpn01(ca: Pebble, postgres: Postgres, tmp_path: Path) -> None:
    """Its handshakes are made by the other server, also where both prove one name at the same time."""
    with pair(ca, postgres, tmp_path, TLS, ca.tls_port) as nodes, ThreadPoolExecutor(4) as machines:
        for number in range(3):
            name = f"shared{number}.example.org"
            urls = [nodes.first.sign_url, nodes.second.sign_url] * 2
            csrs = [make_key_and_csr(tmp_path, [name], stem=f"{number}-{machine}")[1] for machine in range(4)]
            replies = list(machines.map(curl_sign, urls, csrs))
            assert [reply.status for reply in replies] == [200] * 4, [reply.text for reply in replies]


def test_dns01_server(postgres: Postgres, tmp_path: Path) -> None:
    """Its records are told by the other server, also where both prove one name at the same time."""
    port = free_port()
    cname = "_acme-challenge.www CNAME www.example.org.acme.example.net."
    with (
        Resolver(port, cname) as resolver,
        Pebble(resolver.address, env=CALM) as ca,
        pair(ca, postgres, tmp_path, DNS, port) as nodes,
        ThreadPoolExecutor(2) as machines,
    ):
        names = ["www.example.org", "*.www.example.org"]
        csrs = [make_key_and_csr(tmp_path, names, stem=str(machine))[1] for machine in range(2)]
        replies = list(machines.map(ask, [nodes.first.sign_url, nodes.second.sign_url], csrs))
        assert [reply.status for reply in replies] == [200, 200], [reply.text for reply in replies]
        assert all(names_of(reply.body) == set(names) for reply in replies)


def ask(url: str, csr: Path) -> Reply:
    """Ask for a certificate, again after the pause if the CA has not seen a record.

    A resolver answers two queries for one name that come at the same time with what the first of them has
    brought, which may be from before the other server presented its record.
    """
    reply = curl_sign(url, csr)
    if reply.status == 421:
        time.sleep(int(reply.headers["Retry-After"]))
        reply = curl_sign(url, csr)
    return reply


@pytest.mark.parametrize("verification", [HTTP, TLS], ids=["http01", "tls-alpn01"])
def test_processes_of_one_server(ca: Pebble, tmp_path: Path, verification: str) -> None:
    """Whichever process takes the connection of the CA, it knows what the others present."""
    settings = Settings.of(ca, tmp_path)
    settings.mgmt = "processes = 2"
    settings.verification = verification.format(port=ca.http_port if verification is HTTP else ca.tls_port)
    csrs = [make_key_and_csr(tmp_path, [f"host{n}.example.org"], stem=str(n))[1] for n in range(16)]
    with Acmems(settings) as acmems, ThreadPoolExecutor(4) as machines:
        replies = list(machines.map(lambda csr: curl_sign(acmems.sign_url, csr), csrs))
        assert [reply.status for reply in replies] == [200] * 16, [reply.text for reply in replies]
