"""Waiting until a real secondary shows what its primary was given."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import dns.name
import pytest
from tests.peers import Bind, free_port

from acmems.challenges import DnsUpdate, Proof
from acmems.challenges.txt import txt_value
from acmems.dns.client.propagation import Propagation
from acmems.exceptions import ValidatorUnavailable
from acmems.net.address import Address
from acmems.system.clock import SYSTEM
from acmems.x509.identifiers import Identifier

RECORD = "_acme-challenge.www.example.org"
PROOF = Proof(Identifier.dns("www.example.org"), "token", "token.thumbprint", lambda: None)
VALUE = txt_value("token.thumbprint")
SUB = "_acme-challenge.sub CNAME there.example.org.\n"


class Secondary(Bind):
    """A secondary whose port is known before it starts, so that its primary can tell it of changes."""

    def __init__(self, *, port: int, primary: int) -> None:
        super().__init__("example.org", primary=primary)
        self.port, self.address = port, f"127.0.0.1:{port}"

    def _take_port(self) -> None:
        pass


@pytest.fixture
def servers() -> Iterator[tuple[Bind, Bind]]:
    """A primary that tells a secondary of every change, and that secondary."""
    port = free_port()
    with (
        Bind("example.org", records=SUB, notified=[port]) as primary,
        Secondary(port=port, primary=primary.port) as secondary,
    ):
        yield primary, secondary


def made(primary: Bind, *asked: Bind, timeout: float = 60) -> DnsUpdate:
    addresses = [Address("localhost", each.port) for each in asked]
    return DnsUpdate(
        "dns",
        [Address("127.0.0.1", primary.port)],
        timeout=30,
        propagation=Propagation("authoritative", nameservers=addresses, timeout=timeout),
    )


def test_the_secondary_shows_the_value_after_the_wait(servers: tuple[Bind, Bind]) -> None:
    """After the wait, the secondary shows the value: it came there by NOTIFY and transfer."""
    primary, secondary = servers
    validator = made(primary, primary, secondary)
    validator.present([PROOF])
    validator.wait([PROOF], SYSTEM.deadline(60), threading.Event())
    assert secondary.texts(RECORD) == primary.texts(RECORD) == {VALUE}
    validator.withdraw([PROOF])
    assert primary.texts(RECORD) == set()


def test_a_cname_is_waited_for_where_it_leads(servers: tuple[Bind, Bind]) -> None:
    """A record that is a CNAME is asked for at its end."""
    primary, secondary = servers
    validator = made(primary, secondary)
    proof = Proof(Identifier.dns("sub.example.org"), "token", "token.thumbprint", lambda: None)
    validator.present([proof])
    validator.wait([proof], SYSTEM.deadline(60), threading.Event())
    assert secondary.texts("there.example.org") == {VALUE}


def test_a_secondary_that_does_not_follow_is_told(servers: tuple[Bind, Bind]) -> None:
    """A secondary that is behind until the deadline is named, with the record."""
    primary, secondary = servers
    validator = made(primary, primary, secondary, timeout=2)
    with secondary.paused():
        validator.present([PROOF])
        with pytest.raises(ValidatorUnavailable) as caught:
            validator.wait([PROOF], SYSTEM.deadline(60), threading.Event())
    assert f"TXT record {RECORD}: name server localhost:{secondary.port}" in str(caught.value)
    assert "does not answer" in str(caught.value)
    assert "propagation-timeout" in caught.value.advice
    validator.withdraw([PROOF])
    assert primary.texts(RECORD) == set()


def test_a_server_without_the_value_is_told(servers: tuple[Bind, Bind]) -> None:
    """A server that answers, but without the value, is named."""
    primary, _ = servers
    with pytest.raises(ValidatorUnavailable, match=r"does not show it yet, waited \d+(\.\d)? s"):
        Propagation("authoritative", nameservers=[Address("127.0.0.1", primary.port)], timeout=2).wait(
            [(dns.name.from_text(RECORD), VALUE)], SYSTEM.deadline(60), threading.Event()
        )


def test_a_lame_delegation_is_told(servers: tuple[Bind, Bind]) -> None:
    """A name server that does not serve the zone is an error that says so."""
    primary, _ = servers
    with pytest.raises(ValidatorUnavailable, match="answers REFUSED"):
        Propagation("authoritative", nameservers=[Address("127.0.0.1", primary.port)], timeout=2).wait(
            [(dns.name.from_text("x.example.net"), VALUE)], SYSTEM.deadline(60), threading.Event()
        )


def test_name_servers_are_found_by_the_resolver(servers: tuple[Bind, Bind]) -> None:
    """Without `nameserver`, those of the zone are asked, at the end of a CNAME, as the resolver tells."""
    primary, _ = servers
    address = Address("127.0.0.1", primary.port)
    finding = Propagation("authoritative", [address], timeout=60, port=primary.port)
    validator = DnsUpdate("dns", [address], timeout=30, propagation=finding)
    proof = Proof(Identifier.dns("sub.example.org"), "token", "token.thumbprint", lambda: None)
    alias = [(dns.name.from_text("_acme-challenge.sub.example.org"), VALUE)]
    with pytest.raises(ValidatorUnavailable, match=r"name server ns\.example\.org .* does not show it yet"):
        finding.wait(alias, SYSTEM.deadline(2), threading.Event())
    validator.present([proof])
    finding.wait(alias, SYSTEM.deadline(60), threading.Event())
    validator.wait([proof], SYSTEM.deadline(60), threading.Event())
    validator.withdraw([proof])


def test_resolvers_are_asked(servers: tuple[Bind, Bind]) -> None:
    """With `recursive`, the wait is for the resolvers; here the secondary serves as one."""
    primary, secondary = servers
    address = Address("127.0.0.1", primary.port)
    waiting = Propagation("recursive", [Address("127.0.0.1", secondary.port)], timeout=60)
    validator = DnsUpdate("dns", [address], timeout=30, propagation=waiting)
    validator.present([PROOF])
    validator.wait([PROOF], SYSTEM.deadline(60), threading.Event())
    assert secondary.texts(RECORD) == {VALUE}
