"""What resolvers are asked, and what is made of their answers."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import dns.name
import pytest
from tests.peers import Bind

from acmems.dns.client.resolver import Resolver
from acmems.exceptions import ValidatorUnavailable
from acmems.net.address import Address

RECORDS = """
joined TXT "one " "record"
two TXT "a"
two TXT "b"
alias CNAME two
alias-out CNAME host.example.net.
host A 192.0.2.1
host AAAA 2001:db8::1
below DNAME elsewhere.example.net.
"""


@pytest.fixture(scope="module")
def resolver() -> Iterator[Resolver]:
    with Bind("example.org", records=RECORDS) as bind:
        yield Resolver([Address("127.0.0.1", bind.port)], 30)


def name(text: str) -> dns.name.Name:
    return dns.name.from_text(text)


def test_strings_of_a_record_are_joined(resolver: Resolver) -> None:
    """The strings of one record are one text, several records are several, and none are none."""
    assert resolver.texts(name("joined.example.org")) == {"one record"}
    assert resolver.texts(name("two.example.org")) == {"a", "b"}
    assert resolver.texts(name("alias.example.org")) == {"a", "b"}
    assert resolver.texts(name("host.example.org")) == frozenset()


def test_a_cname_is_followed_one_step(resolver: Resolver) -> None:
    """One step is told, within the zone and out of it; a name without one leads nowhere."""
    assert resolver.target(name("alias.example.org")) == name("two.example.org")
    assert resolver.target(name("alias-out.example.org")) == name("host.example.net")
    assert resolver.target(name("x.below.example.org")) == name("x.elsewhere.example.net")
    assert resolver.target(name("two.example.org")) is None


def test_addresses_and_name_servers(resolver: Resolver) -> None:
    """Addresses of both kinds, and the name servers of a zone."""
    assert resolver.addresses(name("host.example.org")) == ("192.0.2.1", "2001:db8::1")
    assert resolver.nameservers(name("example.org")) == (name("ns.example.org"),)


def test_the_zone_of_a_name(resolver: Resolver) -> None:
    """The zone is the nearest name above with an SOA, also where a CNAME leads out of it."""
    for text in ("a.b.example.org", "alias-out.example.org", "example.org"):
        assert resolver.zone_of(name(text)) == name("example.org")


def test_a_resolver_that_refuses(resolver: Resolver) -> None:
    """Whoever refuses is named, with the record and what to do."""
    with pytest.raises(ValidatorUnavailable, match=r"127\.0\.0\.1:\d+ .*example\.net: it fails") as caught:
        resolver.texts(name("www.example.net"))
    assert "resolver" in caught.value.advice


def test_a_resolver_that_is_silent() -> None:
    """One that does not answer is named, too."""
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        asked = Resolver([Address("127.0.0.1", silent.getsockname()[1])], 0.2)
        with pytest.raises(ValidatorUnavailable, match=r"www\.example\.net: no answer in time"):
            asked.texts(name("www.example.net"))
