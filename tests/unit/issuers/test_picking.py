"""Which validator of a block proves which name of a request, and which names it grants."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from tests.fake_ca import CA, FakeValidator, challenge

from acmems.auth import Block
from acmems.challenges import ChallengeResponses, Http01, Validator
from acmems.config import Configuration
from acmems.exceptions import ConfigurationError, NoChallengeMethodsSupported
from acmems.frontends.http01 import host_of
from acmems.issuers.acme.authorization import Authorization, parse, pick
from acmems.issuers.acme.session import Headers, Response
from acmems.issuers.local.options import LocalCaOptions
from acmems.storages import NoStorage, Storage
from acmems.x509.identifiers import Identifier


class Dns(FakeValidator):
    """Proves names and wildcards, and no addresses."""

    def proves(self, identifier: Identifier) -> bool:
        return identifier.type.value == "dns"


BOTH = ("http-01", "dns-01")
HTTP, DNS = Http01("http", (), ChallengeResponses()), Dns("dns-01")


class Rooms:
    validators: Mapping[str, Validator] = {"http": HTTP, "dns": DNS}
    storages: Mapping[str, Storage] = {"none": NoStorage("none")}
    accounts: Mapping[str, object] = {"": None}
    local_cas: Mapping[str, LocalCaOptions] = {}
    default_issuers = ("",)
    default_validators: tuple[Validator, ...] = (HTTP,)
    default_storage: Storage = storages["none"]


def block(*pairs: tuple[str, str]) -> Block:
    usual = (("all", "yes"), ("domain", "**"), ("domain", "*.example.org"))
    return Block("b", (*usual, *pairs), Rooms())


def names(*texts: str) -> list[Identifier]:
    return [
        Identifier.ip(text) if ":" in text or text[0].isdigit() else Identifier.dns(text) for text in texts
    ]


def offered(name: Identifier, *types: str) -> Authorization:
    """Return the authorization of a name for which the CA offers some types of challenge."""
    document = {
        "status": "pending",
        "identifier": {"type": name.type.value, "value": name.base},
        "wildcard": name.is_wildcard,
        "challenges": [challenge(each, url=f"{CA}/{each}/{name.base}") for each in types],
    }
    return parse(Response(200, Headers(), json.dumps(document).encode(), CA), f"{CA}/{name.value}")


def authorizations(*texts: str) -> list[Authorization]:
    """Return those of some names, with what a CA may offer for each (RFC 8555 section 8.4, RFC 8738)."""
    return [
        offered(name, *(["dns-01"] if name.is_wildcard else ["http-01"] if text[0].isdigit() else BOTH))
        for text, name in zip(texts, names(*texts), strict=True)
    ]


@pytest.mark.parametrize(
    ("listed", "asked", "used"),
    [
        ([HTTP, DNS], ["a.example.org"], [HTTP]),
        ([DNS, HTTP], ["a.example.org"], [DNS]),
        ([HTTP, DNS], ["a.example.org", "*.example.org", "example.org"], [HTTP, DNS, HTTP]),
        ([DNS, HTTP], ["192.0.2.1", "a.example.org"], [HTTP, DNS]),
        ([DNS, HTTP], ["192.0.2.1", "*.example.org"], [HTTP, DNS]),
    ],
    ids=lambda value: " ".join(getattr(each, "challenge_type", each) for each in value),
)
def test_each_name_has_its_own(listed: list[Validator], asked: list[str], used: list[Validator]) -> None:
    """Each name is proved by the first in the list that can, whatever the others need."""
    ways = pick(authorizations(*asked), listed)
    assert [validator for _, validator in ways] == used
    assert [each.type for each, _ in ways] == [validator.challenge_type for validator in used]


def test_what_the_ca_does_not_offer_is_left_to_the_next() -> None:
    """A CA may offer fewer types of challenge for one name than for another."""
    by_dns_only = offered(Identifier.dns("b.example.org"), "dns-01")
    ways = pick([*authorizations("a.example.org"), by_dns_only], [HTTP, DNS])
    assert [validator for _, validator in ways] == [HTTP, DNS]


def test_every_name_that_cannot_be_proved_is_told() -> None:
    """The reason of each name stands in one error: nothing can prove it, or the CA does not offer that."""
    asked = [
        *authorizations("192.0.2.1", "a.example.org"),
        offered(Identifier.dns("b.example.org"), "http-01"),
    ]
    asked.append(offered(Identifier.dns("c.example.org"), "http-01"))
    with pytest.raises(NoChallengeMethodsSupported) as raised:
        pick(asked, [DNS])
    assert str(raised.value) == (
        "no verification is configured that could prove 192.0.2.1; "
        "the CA offers no dns-01 challenge for b.example.org, c.example.org"
    )
    with pytest.raises(NoChallengeMethodsSupported, match="no http-01 or dns-01 challenge for c"):
        pick([offered(Identifier.dns("c.example.org"), "tls-alpn-01")], [HTTP, DNS])


@pytest.mark.parametrize("value", ["http, http", "http,,dns", "http, nowhere", ","])
def test_lists_that_are_none(value: str) -> None:
    """A name that is unknown, missing or given twice is a mistake."""
    with pytest.raises(ConfigurationError, match="verification"):
        block(("verification", value))


@pytest.mark.parametrize(
    ("asked", "refusal"),
    [
        (["192.0.2.7"], None),
        (["2001:db8::7"], None),
        (["192.0.3.7"], "192.0.3.7 matches no address"),
        (["a.example.org", "192.0.3.7"], "192.0.3.7 matches no address"),
        (["*.example.org", "192.0.2.7"], None),
    ],
)
def test_addresses(asked: list[str], refusal: str | None) -> None:
    """IP addresses are granted by `address`, in the networks that it names (RFC 8738)."""
    granting = block(("address", "192.0.2.0/24"), ("address", "2001:db8::/32"), ("verification", "http, dns"))
    found = granting.refusal(names(*asked), None)
    assert found is None if refusal is None else refusal in (found or "")


@pytest.mark.parametrize(
    ("verification", "asked", "refusal"),
    [
        ("http", ["a.example.org", "*.example.org"], "*.example.org needs a verification by DNS"),
        (
            "dns",
            ["a.example.org", "192.0.2.7"],
            "192.0.2.7 needs a verification of type http01 or tls-alpn01",
        ),
        ("dns", ["a.example.org", "*.example.org"], None),
    ],
)
def test_names_that_nothing_can_prove(verification: str, asked: list[str], refusal: str | None) -> None:
    """A block does not grant what none of its verifications could prove."""
    granting = block(("address", "192.0.2.0/24"), ("verification", verification))
    assert granting.refusal(names(*asked), None) == refusal


def test_a_block_for_addresses_alone() -> None:
    """A block may grant addresses and no DNS name."""
    made = Block("b", [("all", "yes"), ("address", "192.0.2.1")], Rooms())
    assert made.refusal(names("192.0.2.1"), None) is None
    assert made.refusal(names("a.example.org"), None) is not None


def test_the_default_is_a_list() -> None:
    """`default-verification` is a list, too, and unknown names in it are reported."""
    text = (
        '[account]\ndir = x\n[mgmt]\ndefault-verification = {}\n[verification "a"]\ntype = http01\n'
        'listener =\n[verification "b"]\ntype = http01\nlistener =\n[auth "x"]\nall = yes\ndomain = **\n'
    )
    config = Configuration.from_text(text.format("b, a"))
    assert [validator.name for validator in config.auth.blocks[0].validators] == ["b", "a"]
    with pytest.raises(ConfigurationError, match='no \\[verification "c"\\]'):
        Configuration.from_text(text.format("a, c"))


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("[2001:DB8:0::1]:80", "2001:db8::1"),
        ("[::1]", "::1"),
        ("192.0.2.1:80", "192.0.2.1"),
        ("A.example.org", "a.example.org"),
        ("[nonsense]", "[nonsense]"),
    ],
)
def test_the_host_of_an_address(value: str, host: str) -> None:
    """A Host header names an IPv6 address in brackets, which is looked up without them, in short form."""
    assert host_of(value) == host
