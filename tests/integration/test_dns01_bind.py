"""The dns-01 validator against a real BIND."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from tests.peers import Bind

from acmems.challenges import DnsUpdate, Proof
from acmems.challenges.dns01_dnsupdate import txt_value
from acmems.exceptions import ValidatorUnavailable
from acmems.ini import Address
from acmems.names import Identifier

RECORD = "_acme-challenge.www.example.org"


@pytest.fixture(scope="module")
def bind() -> Iterator[Bind]:
    """A name server for example.org, and for sub.example.org as a zone of its own."""
    with Bind("example.org", "sub.example.org") as server:
        yield server


@pytest.fixture
def validator(bind: Bind) -> DnsUpdate:
    return DnsUpdate("dns", Address("127.0.0.1", bind.port), timeout=30)


def proof(name: str, token: str) -> Proof:
    return Proof(Identifier.dns(name), token, f"{token}.thumbprint", lambda: None)


def values(*tokens: str) -> set[str]:
    return {txt_value(f"{token}.thumbprint") for token in tokens}


def test_a_base_name_and_its_wildcard_share_a_record(bind: Bind, validator: DnsUpdate) -> None:
    """Two values stand beside each other under one name, and withdrawing one leaves the other."""
    base, wildcard = proof("www.example.org", "base"), proof("www.example.org", "wildcard")
    validator.present(base)
    validator.present(wildcard)
    assert bind.texts(RECORD) == values("base", "wildcard")
    validator.withdraw(base)
    assert bind.texts(RECORD) == values("wildcard")
    validator.withdraw(wildcard)
    assert bind.texts(RECORD) == set()


def test_presenting_and_withdrawing_again_is_harmless(bind: Bind, validator: DnsUpdate) -> None:
    """What is there already is added once, and what is gone already is no error."""
    mine = proof("www.example.org", "again")
    validator.present(mine)
    validator.present(mine)
    assert bind.texts(RECORD) == values("again")
    validator.withdraw(mine)
    validator.withdraw(mine)
    assert bind.texts(RECORD) == set()


@pytest.mark.parametrize("name", ["example.org", "a.b.c.example.org", "sub.example.org", "a.sub.example.org"])
def test_every_depth_finds_its_zone(bind: Bind, validator: DnsUpdate, name: str) -> None:
    """Names at the top of a zone, deep in it, and in a zone below it are proved."""
    mine = proof(name, "depth")
    validator.present(mine)
    assert bind.texts(f"_acme-challenge.{name}") == values("depth")
    validator.withdraw(mine)
    assert bind.texts(f"_acme-challenge.{name}") == set()


def test_many_threads_prove_many_values(bind: Bind, validator: DnsUpdate) -> None:
    """Values that threads present at the same time are all there, and all gone afterwards."""
    proofs = [proof("www.example.org", f"thread-{number}") for number in range(8)]

    def together(work: object) -> None:
        assert callable(work)
        threads = [threading.Thread(target=work, args=(mine,)) for mine in proofs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    together(validator.present)
    assert bind.texts(RECORD) == values(*(mine.token for mine in proofs))
    together(validator.withdraw)
    assert bind.texts(RECORD) == set()


def test_a_long_answer_comes_over_tcp(bind: Bind, validator: DnsUpdate) -> None:
    """More values than a datagram holds still come and go one by one."""
    proofs = [proof("www.example.org", f"long-{number}") for number in range(40)]
    for mine in proofs:
        validator.present(mine)
    assert bind.texts(RECORD) == values(*(mine.token for mine in proofs))
    for mine in proofs:
        validator.withdraw(mine)
    assert bind.texts(RECORD) == set()


def test_a_name_of_no_zone_is_told(validator: DnsUpdate) -> None:
    """A name that the server has no zone for is an error that says so."""
    with pytest.raises(
        ValidatorUnavailable, match=r"is not authoritative for _acme-challenge\.www\.example\.net"
    ):
        validator.present(proof("www.example.net", "token"))
