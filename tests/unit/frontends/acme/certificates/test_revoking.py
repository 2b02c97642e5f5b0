"""Who may have a certificate revoked, and what becomes of that."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from tests.acme_client import AcmeClient, b64
from tests.acme_orders import Orderer, Ordering, ordering
from tests.auth_blocks import block

from acmems.exceptions import ActFailed, CAProblem, CAUnavailable
from acmems.frontends.acme.certificates.revoking import LOOK_RATE
from acmems.state.engines.contract import Database
from acmems.x509 import chain as chains

NAMES = ("a.example.org", "b.example.org")


def leaf(pem: bytes) -> bytes:
    """Return the leaf of a chain in DER."""
    return chains.leaf_of(pem).public_bytes(Encoding.DER)


class TestRight:
    """Whose wish counts."""

    @pytest.mark.parametrize("reason", [None, 0, 1, 3, 4, 5])
    def test_the_account_that_has_got_it(self, here: Ordering, client: Orderer, reason: int | None) -> None:
        """With any reason that a client may give; a second time is told so."""
        certificate = leaf(client.obtain(*NAMES).body)
        members = {} if reason is None else {"reason": reason}
        answer = client.revoke(certificate, **members)
        assert (answer.status, answer.body) == (200, b"")
        [(serial, _, told)] = here.revoked
        assert int(serial, 16) == chains.leaf_of(client_chain(here)).serial_number
        assert told == "127.0.0.1"
        assert client.revoke(certificate).problem == "alreadyRevoked"
        assert len(here.revoked) == 1

    @pytest.mark.threat("acme orders", "revocation by others")
    def test_whoever_has_its_key(self, here: Ordering, client: Orderer) -> None:
        """Without an account; the key of another certificate does not count."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = leaf(client.obtain(*NAMES, key=key).body)
        for owner, status in ((ec.generate_private_key(ec.SECP256R1()), 403), (key, 200)):
            with AcmeClient(client.directory_url, owner) as other:
                url = other.directory["revokeCert"]
                assert other.post_as_key(url, {"certificate": b64(certificate)}).status == status
        assert len(here.revoked) == 1

    def test_an_account_with_authorizations_for_all_names(self, here: Ordering, client: Orderer) -> None:
        """All of them, and valid ones; in one order or in several."""
        certificate = leaf(client.obtain(*NAMES).body)
        with here.client() as other:
            assert other.revoke(certificate).problem == "unauthorized"
            assert other.order(NAMES[0]).status == 201
            given_up = other.order(NAMES[1]).json
            other.post(given_up["authorizations"][0], {"status": "deactivated"})
            assert other.revoke(certificate).problem == "unauthorized"
            assert other.order(NAMES[1]).status == 201
            assert other.revoke(certificate, reason=1).problem == "badRevocationReason", "it is not its key"
            assert not here.revoked
            assert other.revoke(certificate).status == 200

    @pytest.mark.threat("acme orders", "revocation by others")
    def test_looking_for_authorizations_again_and_again(self, here: Ordering, client: Orderer) -> None:
        """All orders of an account are looked through, so one address may not ask for that without end."""
        certificate = leaf(client.obtain(*NAMES).body)
        with here.client() as other:
            for _ in range(LOOK_RATE.count):
                assert other.revoke(certificate).problem == "unauthorized"
            answer = other.revoke(certificate)
            assert (answer.status, answer.problem) == (429, "rateLimited")
            assert int(answer.headers["Retry-After"]) <= 60
        assert client.revoke(certificate).status == 200, "whose it is need not wait"

    @pytest.mark.threat("acme orders", "revocation by others")
    def test_names_that_are_not_granted_any_more(self, here: Ordering, client: Orderer) -> None:
        """Authorizations of before a reload are no right to what has become another's."""
        certificate = leaf(client.obtain(*NAMES).body)
        with here.client() as other:
            assert other.order(*NAMES).status == 201
            before = here.served.blocks
            here.served.blocks = (block(("all", "yes"), ("domain", NAMES[0])),)
            assert other.revoke(certificate).problem == "unauthorized"
            here.served.blocks = before
            assert other.revoke(certificate).status == 200

    @pytest.mark.threat("acme orders", "revocation by others")
    def test_names_that_are_not_proved_do_not_count(self, state: Database) -> None:
        """An order alone gives nobody a right to a certificate of others."""
        anyone = block(("all", "yes"), ("domain", "**"))
        with ordering(state, anyone) as here, here.client() as client, here.client() as other:
            certificate = leaf(client.obtain("a.example.org").body)
            here.served.blocks = (block(("all", "yes"), ("domain", "**"), ("prove", "http-01")),)
            assert other.order("a.example.org").json["status"] == "pending"
            assert other.revoke(certificate).problem == "unauthorized"
            assert not here.revoked


class TestProblems:
    """What is not revoked."""

    @pytest.mark.parametrize("reason", [2, 6, 8, 10, -1, "1", True, 1.5, [], {}])
    def test_other_reasons(self, here: Ordering, client: Orderer, reason: Any) -> None:
        """Only the CA may give them, or nobody."""
        certificate = leaf(client.obtain("a.example.org").body)
        assert client.revoke(certificate, reason=reason).problem == "badRevocationReason"
        assert not here.revoked

    @pytest.mark.parametrize(
        "members", [{}, {"certificate": 1}, {"certificate": "AA=="}, {"certificate": b64(bytes(100_000))}]
    )
    def test_what_is_no_certificate(self, client: Orderer, members: dict[str, Any]) -> None:
        """Whatever it is; so is one that is not known."""
        assert client.post(client.directory["revokeCert"], members).problem == "malformed"
        assert client.revoke(b"of somebody else").status == 404

    def test_what_the_ca_says(self, here: Ordering, client: Orderer) -> None:
        """Comes through: a reason that it does not take, another refusal, and that it does not answer."""
        certificate = leaf(client.obtain("a.example.org").body)
        refused = ActFailed("the CA does not revoke the certificate")
        refused.__cause__ = CAProblem(400, f"{CAProblem.PREFIX}badRevocationReason", "not this one")
        here.refuses = refused
        answer = client.revoke(certificate, reason=4)
        assert (answer.problem, answer.json["detail"]) == ("badRevocationReason", "not this one")
        refused.__cause__ = CAProblem(403, f"{CAProblem.PREFIX}unauthorized", "no")
        assert client.revoke(certificate).status == 502
        here.refuses = CAUnavailable("it is down", retry_after=7.0)
        answer = client.revoke(certificate)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "7")
        here.refuses = None
        assert client.revoke(certificate).status == 200


def client_chain(here: Ordering) -> bytes:
    """Return the only chain that was issued."""
    [chain] = here.house.storage.chains.values()
    return chain.pem
