"""The names of an ACME order: one block must grant client and names, else each refused name is told."""

from __future__ import annotations

import ipaddress

import pytest
from tests.auth_blocks import block
from tests.client_certificates import ClientAuthority

from acmems.auth import Block, Caller
from acmems.auth.names import judge_names
from acmems.x509.identifiers import named

HERE, ELSEWHERE = (Caller(ipaddress.ip_address(each), None) for each in ("192.0.2.1", "203.0.113.1"))
WEB = block(("domain", "*.web.example.org"), ("ip", "192.0.2.0/24"), name="web")
MAIL = block(("domain", "*.mail.example.org"), ("ip", "192.0.2.0/24"), name="mail")
SECRET = block(
    ("domain", "**"), ("hmac_type", "sha256"), ("hmac_key", "a secret of no use here"), name="hmac"
)


def refused(blocks: list[Block], caller: Caller, *names: str) -> list[tuple[str, str]]:
    """Return the names that are refused, and the first words of why."""
    verdict = judge_names(blocks, caller, [named(each) for each in names])
    assert verdict.block is None
    assert verdict.reason
    return [(each.identifier.value, each.reason[:21]) for each in verdict.refusals]


def test_one_block_grants_client_and_names() -> None:
    """The first one that does."""
    names = [named("a.mail.example.org"), named("b.mail.example.org")]
    verdict = judge_names([SECRET, WEB, MAIL], HERE, names)
    assert (verdict.block, verdict.refusals) == (MAIL, ())


@pytest.mark.threat("acme orders", "names of several blocks")
def test_blocks_are_not_put_together() -> None:
    """Names that only two blocks grant, are all refused, and the words say that it is their company."""
    assert refused([WEB, MAIL], HERE, "a.web.example.org", "a.mail.example.org") == [
        ("a.web.example.org", "this name is granted,"),
        ("a.mail.example.org", "this name is granted,"),
    ]


def test_only_what_no_block_grants_is_told() -> None:
    """The others would be granted without it."""
    assert refused([WEB, MAIL], HERE, "a.web.example.org", "www.example.org", "192.0.2.7") == [
        ("www.example.org", "no auth block of this"),
        ("192.0.2.7", "no auth block of this"),
    ]


def test_who_is_accepted_by_no_block_gets_nothing() -> None:
    """Whatever the block of another client would grant; and a block with an HMAC accepts nobody here."""
    assert refused([SECRET, WEB], ELSEWHERE, "a.web.example.org") == [
        ("a.web.example.org", "no auth block of this")
    ]
    assert refused([], HERE, "a.web.example.org") == [("a.web.example.org", "no auth block of this")]


def test_a_certificate_must_cover_what_is_asked_for() -> None:
    """A client certificate that a block wants to cover all names does so for ACME clients as well."""
    covered = block(("client-certificate", "yes"), ("domain", "**.example.org"))
    client = Caller(None, None, certificate=ClientAuthority().der("a.example.org"))
    assert judge_names([covered], client, [named("a.example.org")]).block is covered
    verdict = judge_names([covered], client, [named("a.example.org"), named("b.example.org")])
    assert verdict.block is None
    assert [each.identifier.value for each in verdict.refusals] == ["b.example.org"]
