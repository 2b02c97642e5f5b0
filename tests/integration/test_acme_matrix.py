"""ACME clients of others: each registers, orders, renews and revokes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cryptography import x509
from tests.peers import CALM, Pebble, names_of, verify_chain
from tests.peers.acme_clients import CLIENTS, Ability, Directory, ExternalAccount, ForeignClient

KEY = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"


@pytest.fixture(scope="module")
def ca() -> Iterator[Pebble]:
    """A CA that believes everything, and wants to know who registers."""
    accounts = {"externalAccountMACKeys": {client.name: KEY for client in CLIENTS}}
    with Pebble(env={**CALM, "PEBBLE_VA_ALWAYS_VALID": "1"}, options=accounts) as running:
        yield running


@pytest.fixture(scope="module", params=CLIENTS, ids=lambda client: client.name)
def client(
    request: pytest.FixtureRequest, ca: Pebble, tmp_path_factory: pytest.TempPathFactory
) -> ForeignClient:
    """A client with an account."""
    folder = tmp_path_factory.mktemp(request.param.name)
    made: ForeignClient = request.param(folder, Directory(ca.directory_url, ca.ca_file))
    external = ExternalAccount(made.name, KEY) if Ability.EXTERNAL_ACCOUNT in made.abilities else None
    made.register(external)
    return made


def status_of(ca: Pebble, chain: bytes) -> str:
    serial = x509.load_pem_x509_certificate(chain).serial_number
    return ca.management(f"/cert-status-by-serial/{serial:x}").decode()


def test_a_client_orders_renews_and_revokes(client: ForeignClient, ca: Pebble) -> None:
    """A certificate is what was asked for, its successor is another one, and that can be revoked."""
    name = "www.example.org"
    chain = client.order(name)
    assert names_of(chain) == {name}
    verify_chain(chain, ca.root_pem())
    renewed = client.renew(name)
    assert names_of(renewed) == {name}
    assert renewed != chain
    if Ability.REVOCATION in client.abilities:
        client.revoke(name)
        assert "Revoked" in status_of(ca, renewed)
        assert "Valid" in status_of(ca, chain)
