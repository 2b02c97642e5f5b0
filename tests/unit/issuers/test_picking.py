"""Which validators of a block come into question for the names of a request, and which names it grants."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from tests.fake_ca import FakeValidator

from acmems.auth import Block
from acmems.challenges import ChallengeResponses, Http01, Validator
from acmems.config import Configuration
from acmems.exceptions import ConfigurationError
from acmems.frontends.http01 import host_of
from acmems.storages import NoStorage, Storage
from acmems.x509.identifiers import Identifier


class Dns(FakeValidator):
    """Proves names and wildcards, and no addresses."""

    def proves(self, identifier: Identifier) -> bool:
        return identifier.type.value == "dns"


HTTP, DNS = Http01("http", (), ChallengeResponses()), Dns("dns-01")


class Rooms:
    validators: Mapping[str, Validator] = {"http": HTTP, "dns": DNS}
    storages: Mapping[str, Storage] = {"none": NoStorage("none")}
    default_validators: tuple[Validator, ...] = (HTTP,)
    default_storage: Storage = storages["none"]


def block(*pairs: tuple[str, str]) -> Block:
    usual = (("all", "yes"), ("domain", "**"), ("domain", "*.example.org"))
    return Block("b", (*usual, *pairs), Rooms())


def names(*texts: str) -> list[Identifier]:
    return [
        Identifier.ip(text) if ":" in text or text[0].isdigit() else Identifier.dns(text) for text in texts
    ]


@pytest.mark.parametrize(
    ("listed", "asked", "validators_for"),
    [
        ("http, dns", ["a.example.org"], (HTTP, DNS)),
        ("dns,http", ["a.example.org"], (DNS, HTTP)),
        ("http, dns", ["a.example.org", "*.example.org"], (DNS,)),
        ("dns, http", ["192.0.2.1"], (HTTP,)),
        ("dns, http", ["192.0.2.1", "*.example.org"], ()),
        ("dns", ["2001:db8::1"], ()),
    ],
)
def test_provers(listed: str, asked: list[str], validators_for: tuple[Validator, ...]) -> None:
    """Those that can prove every name of a request, in the order of the list."""
    assert block(("verification", listed)).validators_for(names(*asked)) == validators_for


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
        (["*.example.org", "192.0.2.7"], "ask for IP addresses and wildcards apart"),
    ],
)
def test_addresses(asked: list[str], refusal: str | None) -> None:
    """IP addresses are granted by `address`, in the networks that it names (RFC 8738)."""
    granting = block(("address", "192.0.2.0/24"), ("address", "2001:db8::/32"), ("verification", "http, dns"))
    found = granting.refusal(names(*asked))
    assert found is None if refusal is None else refusal in (found or "")


def test_a_block_for_addresses_alone() -> None:
    """A block may grant addresses and no DNS name."""
    made = Block("b", [("all", "yes"), ("address", "192.0.2.1")], Rooms())
    assert made.refusal(names("192.0.2.1")) is None
    assert made.refusal(names("a.example.org")) is not None


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
