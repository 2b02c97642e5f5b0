"""ACME clients of others at acmems, which asks a CA outside: each registers, orders, renews and revokes."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from tests.acme_front_end import AcmeFrontEnd
from tests.fault_proxy import FaultProxy
from tests.faults import AUTHORIZATION, NEW_ORDER
from tests.peers import (
    CALM,
    Acmems,
    ChallTestSrv,
    Pebble,
    PeerFailed,
    Settings,
    names_of,
    program,
    verify_chain,
)
from tests.peers.acme_clients import CLIENTS, Ability, Directory, ExternalAccount, ForeignClient

from acmems.issuers.acme.certificates.renewal_info import certificate_id

SLOW = 40.0
"""Seconds that names are being validated: more than lego waits for its certificate."""
KEY = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
VERIFICATION = """
[verification "nothing"]
type = dns01-exec
command = {true}
follow-cnames = no
"""
BLOCK = """
[auth "{name}"]
{method}
domain = *.{domain}
domain = *.a.{domain}

[auth "{name} with proofs"]
{method}
domain = **.proved.{domain}
prove = dns-01
"""
PROVER = """#!/bin/sh
exec curl -sSf -d '{{"host": "'"$1"'.", "value": "'"$2"'"}}' http://127.0.0.1:{port}/set-txt
"""


PLAIN_SPOKEN = [each for each in CLIENTS if each.name in {"acme.sh", "certbot", "lego", "uacme", "x-crypto"}]
"""Clients that print what a server says, and end."""


def domain_of(client: type[ForeignClient]) -> str:
    """Return the domain below which a client may have names; no other client may."""
    return f"{client.name}.example.org".replace("acme.sh", "acme-sh")


def blocks() -> str:
    """Return a block for each client: by its external account, or by its address where it knows none."""
    return "".join(
        BLOCK.format(
            name=client.name,
            method=f"eab-kid = {client.name}\neab-hmac-key = {KEY}"
            if Ability.EXTERNAL_ACCOUNT in client.abilities
            else "ip = 127.0.0.1",
            domain=domain_of(client),
        )
        for client in CLIENTS
    )


@pytest.fixture(scope="module")
def ca() -> Iterator[Pebble]:
    """A CA that believes everything."""
    with Pebble(env={**CALM, "PEBBLE_VA_ALWAYS_VALID": "1"}) as running:
        yield running


@contextlib.contextmanager
def serving(settings: Settings, dns: ChallTestSrv) -> Iterator[Directory]:
    """Run a server that takes ACME clients, and tell what they are told of it."""
    prover = settings.folder / "prover"
    prover.write_text(PROVER.format(port=dns.management_port), encoding="utf-8")
    prover.chmod(0o755)
    settings.verification, settings.auth = VERIFICATION.format(true=program("true")), blocks()
    front_end = AcmeFrontEnd(settings.folder, settings)
    settings.auth += f"resolver = {dns.address}\n"
    with Acmems(settings):
        yield Directory(f"{front_end.url}/directory", front_end.chain, str(prover))


@pytest.fixture(scope="module")
def settings(ca: Pebble, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A configuration with that CA outside."""
    return Settings.of(ca, tmp_path_factory.mktemp("acmems"))


@pytest.fixture(scope="module")
def directory(settings: Settings, dns: ChallTestSrv) -> Iterator[Directory]:
    """A server with that CA outside, as ACME clients inside are told of it."""
    with serving(settings, dns) as told:
        yield told


def registered(kind: type[ForeignClient], folder: Path, told: Directory) -> ForeignClient:
    """Return a client with an account, or which makes one when it orders."""
    made = kind(folder, told)
    made.register(ExternalAccount(made.name, KEY) if Ability.EXTERNAL_ACCOUNT in made.abilities else None)
    return made


@pytest.fixture(scope="module", params=CLIENTS, ids=lambda client: client.name)
def client(
    request: pytest.FixtureRequest, directory: Directory, tmp_path_factory: pytest.TempPathFactory
) -> ForeignClient:
    """A client with an account."""
    return registered(request.param, tmp_path_factory.mktemp(request.param.name), directory)


def status_of(ca: Pebble, chain: bytes) -> str:
    serial = x509.load_pem_x509_certificate(chain).serial_number
    return ca.management(f"/cert-status-by-serial/{serial:x}").decode()


def replaced(settings: Settings, chain: bytes) -> bool:
    """Tell whether an order said that it replaces this certificate."""
    with contextlib.closing(sqlite3.connect(settings.folder / "account" / "state.sqlite")) as state:
        query = "SELECT count(*) FROM acme_orders WHERE replaces = ?"
        return bool(state.execute(query, [certificate_id(chain)]).fetchone()[0])


def test_a_client_orders_renews_and_revokes(client: ForeignClient, ca: Pebble, settings: Settings) -> None:
    """A certificate is what was asked for, its successor is another one, and that can be revoked."""
    name = f"www.{domain_of(type(client))}"
    chain = client.order(name)
    assert names_of(chain) == {name}
    verify_chain(chain, ca.root_pem())
    renewed = client.renew(name)
    assert names_of(renewed) == {name}
    assert renewed != chain
    assert replaced(settings, chain) is (Ability.REPLACEMENT in client.abilities)
    if Ability.REVOCATION in client.abilities:
        client.revoke(name)
        assert "Revoked" in status_of(ca, renewed)
        assert "Valid" in status_of(ca, chain)


def test_a_client_gets_several_names_and_wildcards(client: ForeignClient, ca: Pebble) -> None:
    """What a client can ask for in one order, it gets in one certificate, having proved it if it can."""
    domain = domain_of(type(client))
    if Ability.PROOF in client.abilities:
        domain = f"proved.{domain}"
    names = [f"a.{domain}"]
    if Ability.WILDCARD in client.abilities:
        names.append(f"*.a.{domain}")
    if Ability.SEVERAL_NAMES in client.abilities:
        names.append(f"b.{domain}")
    else:
        names = names[-1:]
    chain = client.order(*names)
    assert names_of(chain) == set(names)
    verify_chain(chain, ca.root_pem())


@pytest.mark.parametrize("kind", PLAIN_SPOKEN, ids=lambda kind: kind.name)
def test_a_client_tells_what_is_not_granted(
    kind: type[ForeignClient], directory: Directory, tmp_path: Path
) -> None:
    """Whoever looks after a client learns from it which of its names the policy does not grant."""
    client = registered(kind, tmp_path, directory)
    with pytest.raises(PeerFailed, match=r"b\.another\.example\.org: no auth block .* grants this name"):
        client.order(f"b.{domain_of(kind)}", "b.another.example.org")


class SlowValidation:
    """A CA whose validations take a while, seen from where authorizations come out."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._began: dict[str, float] = {}

    def __call__(self, authorization: dict[str, Any]) -> dict[str, Any]:
        """Return an authorization as it is for the time being."""
        now = time.monotonic()
        name = authorization["challenges"][0]["url"]
        if authorization["status"] != "valid" or now - self._began.setdefault(name, now) > self._seconds:
            return authorization
        challenges = [
            each | ({"status": "processing"} if each["status"] == "valid" else {})
            for each in authorization["challenges"]
        ]
        return authorization | {"status": "pending", "challenges": challenges}


@pytest.mark.timeout(300)
def test_a_ca_outside_that_takes_its_time(ca: Pebble, dns: ChallTestSrv, tmp_path: Path) -> None:
    """Each client gets its certificate, the impatient ones too, all at once; nothing is ordered twice."""

    def obtain(kind: type[ForeignClient], told: Directory) -> bytes:
        (tmp_path / kind.name).mkdir()
        return registered(kind, tmp_path / kind.name, told).order(f"slow.{domain_of(kind)}")

    with FaultProxy(ca) as proxy:
        proxy.when(path=AUTHORIZATION).edit(SlowValidation(SLOW))
        with (
            serving(proxy.before(Settings.of(ca, tmp_path)), dns) as told,
            ThreadPoolExecutor(len(CLIENTS)) as threads,
        ):
            chains = list(threads.map(lambda kind: obtain(kind, told), CLIENTS))
    for kind, chain in zip(CLIENTS, chains, strict=True):
        assert names_of(chain) == {f"slow.{domain_of(kind)}"}
    assert proxy.count(path=NEW_ORDER) == len(CLIENTS)
