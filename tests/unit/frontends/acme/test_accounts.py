"""Accounts of ACME clients: RFC 8555 section 7.3."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from tests.acme_client import AcmeClient, Key, algorithm_of, flattened, jwk_of
from tests.acme_serving import Serving
from tests.auth_blocks import block

from acmems.events import AcmeAccountEvent, AnsweredEvent, RefusedEvent
from acmems.frontends.acme.service import ACCOUNT_RATE

KEYS: list[Key] = [
    ec.generate_private_key(ec.SECP256R1()),
    ec.generate_private_key(ec.SECP384R1()),
    ec.generate_private_key(ec.SECP521R1()),
    rsa.generate_private_key(65537, 2048),
    ed25519.Ed25519PrivateKey.generate(),
]


@pytest.fixture
def member(client: AcmeClient) -> AcmeClient:
    """A client that has an account."""
    assert client.register(contact=["mailto:a@example.org"]).status == 201
    return client


def account_events(acme: Serving) -> list[str]:
    return [each.act for each in acme.events if isinstance(each, AcmeAccountEvent)]


class TestNewAccount:
    @pytest.mark.parametrize("key", KEYS, ids=lambda key: type(key).__name__)
    def test_each_kind_of_key(self, acme: Serving, key: Key) -> None:
        """A key makes an account, and later finds it; what the URL shows is what was given."""
        with acme.client() as client:
            client.key = key
            made = client.register(contact=["mailto:a@example.org"])
            assert made.status == 201
            assert made.json["contact"] == ["mailto:a@example.org"]
            assert made.json["status"] == "valid"
            again = client.register(contact=["mailto:b@example.org"])
            assert (again.status, again.location) == (200, made.location)
            assert client.post(made.location).json == made.json
        assert account_events(acme) == ["made"]

    def test_only_existing(self, client: AcmeClient) -> None:
        """Who only asks for an account gets none made."""
        assert client.register(onlyReturnExisting=True).problem == "accountDoesNotExist"
        made = client.register()
        found = client.register(onlyReturnExisting=True)
        assert (found.status, found.location) == (200, made.location)

    @pytest.mark.parametrize(
        ("contact", "problem"),
        [
            (["tel:+4930123"], "unsupportedContact"),
            (["mailto:a@example.org?subject=x"], "invalidContact"),
            (["mailto:a@example.org,b@example.org"], "invalidContact"),
            (["mailto:a@example.org\n"], "invalidContact"),
            (["mailto:"], "invalidContact"),
            (["mailto:a@example.org"] * 11, "invalidContact"),
            ("mailto:a@example.org", "invalidContact"),
            ([None], "invalidContact"),
        ],
    )
    def test_contacts(self, client: AcmeClient, contact: Any, problem: str) -> None:
        """Contacts are e-mail addresses, each in a URL of its own; an account needs none."""
        assert client.register(contact=contact).problem == problem
        assert client.register().status == 201

    @pytest.mark.parametrize("name", ["termsOfServiceAgreed", "onlyReturnExisting"])
    def test_what_is_no_flag(self, client: AcmeClient, name: str) -> None:
        """Text in the place of true or false is refused, not guessed at."""
        assert client.register(**{name: "yes"}).problem == "malformed"

    @pytest.mark.threat("ACME clients", "floods of accounts")
    def test_strangers_get_none(self, acme: Serving, client: AcmeClient) -> None:
        """Where no block could ever accept a client, it cannot fill the state with accounts."""
        acme.blocks = (block(("ip", "192.0.2.0/24"), ("domain", "**")),)
        answer = client.register()
        assert (answer.status, answer.problem) == (403, "unauthorized")

    @pytest.mark.threat("ACME clients", "floods of accounts")
    def test_a_flood(self, acme: Serving) -> None:
        """One address makes so many accounts an hour; then it hears when to come again."""
        with acme.client() as client:
            for _ in range(ACCOUNT_RATE.count):
                client.key = ec.generate_private_key(ec.SECP256R1())
                assert client.register().status == 201
            last, client.key = client.key, ec.generate_private_key(ec.SECP256R1())
            answer = client.register()
            assert (answer.status, answer.problem) == (429, "rateLimited")
            assert 1 <= int(answer.headers["Retry-After"]) <= 36
            client.key = last
            assert client.register().status == 200


class TestAccount:
    def test_update(self, acme: Serving, member: AcmeClient) -> None:
        """Contacts are replaced; what a client cannot change is ignored."""
        assert member.kid
        changed = member.post(member.kid, {"contact": [], "orders": "https://example.org"})
        assert changed.status == 200
        assert changed.json["contact"] == []
        assert changed.json["orders"].startswith(member.kid)
        assert member.post(member.kid).json == changed.json
        assert member.post(member.kid, {"contact": ["fax:1"]}).problem == "unsupportedContact"
        assert account_events(acme) == ["made", "changed"]

    @pytest.mark.threat("ACME clients", "an account that was ended")
    def test_deactivation(self, acme: Serving, member: AcmeClient) -> None:
        """What the account asks afterwards is refused by 401, and its key never gets another one."""
        assert member.kid
        assert member.post(member.kid, {"status": "valid"}).problem == "malformed"
        ended = member.post(member.kid, {"status": "deactivated"})
        assert (ended.status, ended.json["status"]) == (200, "deactivated")
        for answer in (member.post(member.kid), member.register(), member.register(onlyReturnExisting=True)):
            assert (answer.status, answer.problem) == (401, "unauthorized")
        assert account_events(acme) == ["made", "deactivated"]

    @pytest.mark.threat("ACME clients", "the account of another")
    def test_of_another_client(self, acme: Serving, member: AcmeClient) -> None:
        """Nobody sees or changes the account of another."""
        assert member.kid
        with acme.client() as other:
            other.register()
            payloads: list[bytes | dict[str, Any]] = [b"", {"status": "deactivated"}, {"contact": []}]
            for payload in payloads:
                assert other.post(member.kid, payload).problem == "unauthorized"
            assert other.post(f"{member.kid}/orders").problem == "unauthorized"
        assert member.post(member.kid).json["contact"] == ["mailto:a@example.org"]

    def test_orders(self, member: AcmeClient) -> None:
        """The list of orders is asked for by POST-as-GET, by the URLs that it has given."""
        assert member.kid
        url = member.post(member.kid).json["orders"]
        assert member.post(url).json == {"orders": []}
        assert member.post(url, {}).problem == "malformed"
        assert member.post(f"{url}?cursor=a%00").problem == "malformed"

    def test_refusals_are_told(self, acme: Serving, member: AcmeClient) -> None:
        """What is wrong with a request is a line of the log; a nonce that is too old is only counted."""
        assert member.kid
        member.post(member.kid, {"contact": ["fax:1"]})
        assert [each.status for each in acme.events if isinstance(each, RefusedEvent)] == [400]
        member.post(member.kid, nonce="old")
        assert [each.status for each in acme.events if isinstance(each, RefusedEvent)] == [400]
        assert [each.status for each in acme.events if isinstance(each, AnsweredEvent)][-1] == 400
        assert {each.front_end for each in acme.events} == {"acme"}


@pytest.fixture
def newcomer(acme: Serving) -> Iterator[AcmeClient]:
    """A client that has no account."""
    with acme.client() as made:
        yield made


def key_change(client: AcmeClient, key: Key, **changed: Any) -> dict[str, Any]:
    """Return the payload of a key change; what is given replaces what is right."""
    url = client.directory["keyChange"]
    header = {"alg": algorithm_of(key), "jwk": jwk_of(key), "url": url} | changed.get("header", {})
    payload = {"account": client.kid, "oldKey": jwk_of(client.key)} | changed.get("payload", {})
    header = {name: value for name, value in header.items() if value is not None}
    return flattened(changed.get("signer", key), header, payload)


class TestKeyChange:
    def test_the_new_key_is_the_key(self, acme: Serving, member: AcmeClient) -> None:
        """From then on, the new key signs, and the old one may have an account of its own."""
        assert member.kid
        old, new = member.key, ec.generate_private_key(ec.SECP384R1())
        inner = key_change(member, new)
        assert member.post(member.directory["keyChange"], inner).status == 200
        assert member.post(member.kid).problem == "badSignatureAlgorithm"
        member.key = new
        assert member.post(member.kid).json["contact"] == ["mailto:a@example.org"]
        before, member.key = member.kid, old
        answer = member.register()
        assert answer.status == 201
        assert answer.location != before
        assert account_events(acme) == ["made", "key changed", "made"]

    @pytest.mark.threat("ACME clients", "taking an account over by its key")
    def test_a_key_that_has_an_account(self, member: AcmeClient, newcomer: AcmeClient) -> None:
        """It stays with that: 409, and `Location` says whose it is."""
        theirs = newcomer.register().location
        answer = member.post(member.directory["keyChange"], key_change(member, newcomer.key))
        assert (answer.status, answer.location, answer.problem) == (409, theirs, "malformed")
        assert member.kid
        assert member.post(member.kid).status == newcomer.post(theirs).status == 200

    @pytest.mark.threat("ACME clients", "taking an account over by its key")
    def test_take_over(self, member: AcmeClient, newcomer: AcmeClient) -> None:
        """Nobody gets another's account: neither by naming it, nor by the key that it has."""
        newcomer.register()
        url = member.directory["keyChange"]
        mine = ec.generate_private_key(ec.SECP256R1())
        for payload in (
            {"account": member.kid, "oldKey": jwk_of(member.key)},
            {"account": newcomer.kid, "oldKey": jwk_of(member.key)},
            {"account": member.kid},
        ):
            inner = key_change(newcomer, mine, payload=payload)
            assert newcomer.post(url, inner).problem == "malformed"
        as_them = newcomer.post(url, key_change(newcomer, mine), kid=member.kid)
        assert as_them.problem == "malformed"

    @pytest.mark.parametrize(
        "changed",
        [
            {"signer": KEYS[0]},
            {"header": {"url": "https://example.org/key-change"}},
            {"header": {"nonce": "abc"}},
            {"header": {"jwk": None, "kid": "https://example.org/account/1"}},
            {"payload": {"account": 5}},
        ],
    )
    def test_the_inner_jws(self, member: AcmeClient, changed: dict[str, Any]) -> None:
        """It is checked as a whole: key, signature, URL, and no nonce."""
        inner = key_change(member, ec.generate_private_key(ec.SECP256R1()), **changed)
        answer = member.post(member.directory["keyChange"], inner)
        assert answer.problem == "malformed"

    def test_the_key_that_it_has(self, member: AcmeClient) -> None:
        """Changing a key to itself is a mistake of the client, and is called so."""
        answer = member.post(member.directory["keyChange"], key_change(member, member.key))
        assert answer.problem == "malformed"
        assert "already" in json.dumps(answer.json)
