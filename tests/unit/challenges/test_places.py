"""What is noted of where a record was put, and how it is read by another process."""

from __future__ import annotations

from collections.abc import Callable

import dns.name
import pytest

from acmems.challenges import DnsUpdate, Proof
from acmems.challenges.contract import Recalling
from acmems.challenges.dns01_exec import DnsExec
from acmems.challenges.dns01_provider import DnsProvider
from acmems.challenges.txt import place_text, read_place, record_of
from acmems.dns.client.aliases import AliasEnd
from acmems.dns.client.propagation import Propagation
from acmems.dns.client.zones import Place
from acmems.x509.identifiers import Identifier

NAME, ZONE = dns.name.from_text("www.acme.example.net"), dns.name.from_text("acme.example.net")
PROOF = Proof(Identifier.dns("www.example.org"), "token", "token.thumbprint", lambda: None)
LONG = Proof(Identifier.dns(".".join(["x" * 62] * 4)[:250]), "token", "token.thumbprint", lambda: None)


@pytest.mark.parametrize("zone", [ZONE, None, dns.name.root], ids=["known", "unknown", "root"])
@pytest.mark.parametrize("name", [NAME, dns.name.from_text(r"a\032b\.c.example.org")], ids=["usual", "odd"])
def test_a_place(name: dns.name.Name, zone: dns.name.Name | None) -> None:
    """It is read as it was written."""
    assert read_place(place_text(name, zone)) == (name, zone)


@pytest.mark.parametrize("text", ["", " ", "a..b", "x" * 64, f"{NAME} .."])
def test_what_is_no_place(text: str) -> None:
    """It is as if nothing had been noted."""
    assert read_place(text) is None


def update() -> tuple[Recalling, Callable[[], object]]:
    validator = DnsUpdate("dns")
    return validator, lambda: validator._places.get(record_of(PROOF))


def program() -> tuple[Recalling, Callable[[], object]]:
    validator = DnsExec("dns", ["/bin/true"], Propagation())
    return validator, lambda: validator._aliases._ends.get(record_of(PROOF).pair)


def provider() -> tuple[Recalling, Callable[[], object]]:
    validator = DnsProvider("dns", "powerdns", Propagation())
    return validator, lambda: validator._aliases._ends.get(record_of(PROOF).pair)


@pytest.mark.parametrize(
    ("make", "expected"),
    [(update, Place(ZONE, NAME)), (program, AliasEnd(NAME, ZONE)), (provider, AliasEnd(NAME, ZONE))],
    ids=["dnsUpdate", "exec", "provider"],
)
def test_a_record_of_another_process(
    make: Callable[[], tuple[Recalling, Callable[[], object]]], expected: object
) -> None:
    """It is withdrawn from where it was noted to be; where that is not known, it is looked for."""
    validator, known = make()
    validator.recall({PROOF: ""})
    assert known() is None
    validator.recall({PROOF: place_text(NAME, ZONE), LONG: place_text(NAME, ZONE)})
    assert known() == expected
    validator.forget([PROOF, LONG])
    assert known() is None
