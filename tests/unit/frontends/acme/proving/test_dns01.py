"""dns-01, and what the DNS of strangers answers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import dns.name
import pytest
from tests.strangers import ChangingDns

from acmems.challenges.txt import txt_value
from acmems.frontends.acme.problems import AcmeProblem
from acmems.frontends.acme.proving.dns01 import Dns01Check
from acmems.frontends.acme.proving.lookups import Lookups
from acmems.frontends.acme.proving.validation import Validation
from acmems.net.address import Address
from acmems.system.clock import SYSTEM
from acmems.x509.identifiers import named

KEY_AUTHORIZATION = f"{'t' * 43}.{'k' * 43}"
VALUE = txt_value(KEY_AUTHORIZATION)
RECORD = "_acme-challenge.a.example.org"
LONG = ".".join(["a" * 60] * 4)

Records = Callable[[dns.name.Name, str], Sequence[str]]


def check(records: Records, name: str = "a.example.org") -> list[tuple[str, str]]:
    with ChangingDns(records) as server:
        lookups = Lookups((Address("127.0.0.1", server.port),))
        validation = Validation("dns-01", named(name), "", KEY_AUTHORIZATION)
        Dns01Check(lookups).check(validation, SYSTEM.deadline(30))
        return server.asked


@pytest.mark.parametrize("name", ["a.example.org", "*.a.example.org"])
def test_the_record_is_found_beside_others(name: str) -> None:
    """A name and its wildcard have theirs at the same place."""
    texts = [VALUE, "x" * 43, "v=spf1 -all"]
    asked = check(lambda *_: [f'{RECORD} 60 TXT "{text}"' for text in texts], name)
    assert asked == [(RECORD, "TXT")]


def test_cnames_are_followed() -> None:
    """As far as the resolver tells where they lead."""
    chain = [f"{RECORD} 60 CNAME b.example.net.", f'b.example.net 60 TXT "{VALUE}"']
    check(lambda *_: chain)


def test_a_record_of_several_strings_is_one_text() -> None:
    """The strings of a TXT record belong together (RFC 8555 section 8.4)."""
    check(lambda *_: [f'{RECORD} 60 TXT "{VALUE[:10]}" "{VALUE[10:]}"'])


def circle(*_: object) -> list[str]:
    return [f"{RECORD} 60 CNAME b.example.net.", f"b.example.net 60 CNAME {RECORD}."]


def long_chain(*_: object) -> list[str]:
    links = [RECORD, *(f"{n}.example.net" for n in range(30))]
    pairs = itertools.pairwise(links)
    return [*(f"{one} 60 CNAME {other}." for one, other in pairs), f'{links[-1]} 60 TXT "{VALUE}"']


@pytest.mark.threat(
    "proving inside", "a DNS in circles, or with huge answers", "reading what only this server can fetch"
)
@pytest.mark.parametrize(
    ("records", "kind", "words"),
    [
        (lambda *_: [], "dns", f"there are no TXT records at {RECORD}"),
        (
            lambda *_: [f'{RECORD} 60 TXT "the secret"'],
            "incorrectResponse",
            f"is the one expected, {VALUE}; 0 of",
        ),
        (lambda *_: [f'{RECORD} 60 TXT "{"x" * 43}"'], "incorrectResponse", "1 of them could be of other"),
        (lambda *_: [f'{RECORD} 60 TXT "{VALUE.lower()}"'], "incorrectResponse", "none of the 1 TXT records"),
        (lambda *_: [f'b.example.org 60 TXT "{VALUE}"'], "dns", "no"),
        (circle, "dns", "no"),
        (long_chain, "dns", "no usable answer"),
        (
            lambda *_: [f'{RECORD} 60 TXT "{n:04}{"x" * 200}"' for n in range(200)],
            "incorrectResponse",
            "the 200 TXT",
        ),
    ],
    ids=[
        "none",
        "another",
        "of another",
        "lower case",
        "of another name",
        "a circle",
        "a long chain",
        "many",
    ],
)
def test_other_answers_prove_nothing(records: Records, kind: str, words: str) -> None:
    """And what they hold is counted, not shown: a CNAME may lead to what the client cannot see."""
    with pytest.raises(AcmeProblem) as caught:
        check(records)
    assert caught.value.kind == kind
    assert words in caught.value.reason
    assert "secret" not in caught.value.reason


def test_a_name_that_is_too_long_for_a_record_is_told() -> None:
    """No question is asked."""
    with pytest.raises(AcmeProblem) as caught:
        check(lambda *_: [], LONG)
    assert caught.value.kind == "dns"


def test_a_resolver_that_is_silent_is_told_without_its_address() -> None:
    """Where resolvers are is no client's business."""
    lookups = Lookups((Address("127.0.0.1", 1),))
    with pytest.raises(AcmeProblem) as caught:
        lookups.addresses("a.example.org", SYSTEM.deadline(0.2))
    assert caught.value.kind == "dns"
    assert "127.0.0.1" not in caught.value.reason
    with pytest.raises(AcmeProblem, match="took too long"):
        lookups.texts(dns.name.from_text(RECORD), SYSTEM.deadline(0))


def test_addresses_of_one_family_are_enough() -> None:
    """Where the resolver fails for the other."""

    def only_ipv4(_: dns.name.Name, kind: str) -> list[str]:
        return ["a.example.org 60 A 192.0.2.1"] if kind == "A" else circle()

    with ChangingDns(only_ipv4) as server:
        lookups = Lookups((Address("127.0.0.1", server.port),))
        found = lookups.addresses("a.example.org", SYSTEM.deadline(30))
        assert list(map(str, found)) == ["192.0.2.1"]
        server.records = lambda *_: []
        with pytest.raises(AcmeProblem, match="no A or AAAA records"):
            lookups.addresses("a.example.org", SYSTEM.deadline(30))
