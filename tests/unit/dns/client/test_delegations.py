"""Who has authority for names, and what a resolver is asked for that."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dns.message
import dns.name
import pytest
from tests.peers import Bind

from acmems.dns.client.cnames import LONGEST
from acmems.dns.client.delegations import Delegations
from acmems.dns.client.question import ask
from acmems.dns.client.resolver import Resolver, ResolverSilent
from acmems.exceptions import ValidatorUnavailable
from acmems.net.address import Address
from acmems.system.clock import Clock

ZONES = ("example.org", "sub.example.org")
RECORDS = "alias CNAME a.sub\ncircle CNAME circle\nsub NS ns.sub\nlame NS nobody.example.org.\n"


def name(text: str) -> dns.name.Name:
    return dns.name.from_text(text)


class World(Resolver):
    """Knows two zones on one address, and keeps what it is asked.

    Args:
        tops: the zones that it knows.
        host: where their name servers are.
    """

    def __init__(self, tops: tuple[str, ...] = ZONES, host: str = "127.0.0.1") -> None:
        super().__init__()
        self.tops = tops
        self.host = host
        self.asked: list[str] = []

    def nameservers(self, zone: dns.name.Name) -> tuple[dns.name.Name, ...]:
        self.asked.append(zone.to_text(omit_final_dot=True))
        return (name("ns.example.org"),) if self.asked[-1] in self.tops else ()

    def addresses(self, host: dns.name.Name) -> tuple[str, ...]:
        self.asked.append(host.to_text(omit_final_dot=True))
        return (self.host,)

    def zone_of(self, name: dns.name.Name) -> dns.name.Name:
        self.asked.append(name.to_text(omit_final_dot=True))
        return dns.name.from_text("example.org")

    def target(self, asked: dns.name.Name) -> dns.name.Name | None:
        self.asked.append(asked.to_text(omit_final_dot=True))
        return name("y.example.org")


@pytest.fixture(scope="module")
def bind() -> Iterator[Bind]:
    """A name server for two zones, one of them delegated by the other."""
    with Bind(*ZONES, records=RECORDS) as server:
        yield server


def test_a_resolver_never_hears_the_name(bind: Bind) -> None:
    """For a name that does not exist, nor that above it, only zones and name servers are looked up."""
    world = World()
    found = Delegations(world, port=bind.port)
    assert found.end(name("_acme-challenge.new.example.org")) == (
        name("_acme-challenge.new.example.org"),
        name("example.org"),
    )
    assert found.zone_of(name("_acme-challenge.x.sub.example.org")) == name("sub.example.org")
    assert found.target(name("_acme-challenge.new.example.org")) is None
    assert world.asked == ["example.org", "ns.example.org"]


def test_cnames_are_followed_into_the_zone_below(bind: Bind) -> None:
    """A CNAME is followed to its end and the zone there, or not at all; a circle is refused."""
    found = Delegations(World(), port=bind.port)
    assert found.target(name("alias.example.org")) == name("a.sub.example.org")
    assert found.end(name("alias.example.org")) == (name("a.sub.example.org"), name("sub.example.org"))
    assert found.end(name("alias.example.org"), follow=False)[0] == name("alias.example.org")
    with pytest.raises(ValidatorUnavailable, match=f"{LONGEST} are followed"):
        found.end(name("circle.example.org"))


def test_referrals_are_followed(bind: Bind) -> None:
    """A name server that refers to another leads to that; one that refers to nobody is an error."""
    world = World((*ZONES, "lame.example.org"))
    with pytest.raises(ValidatorUnavailable, match=r"no name server of lame\.example\.org answers") as caught:
        Delegations(Lame(world), port=bind.port).find(name("a.lame.example.org"))
    assert caught.value.advice
    assert "lame.example.org" in world.asked


class Lame(Resolver):
    """As `World`, but the name server of lame.example.org has no address."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def nameservers(self, zone: dns.name.Name) -> tuple[dns.name.Name, ...]:
        found = self.world.nameservers(zone)
        return (name("nobody.example.org"),) if zone == name("lame.example.org") else found

    def addresses(self, host: dns.name.Name) -> tuple[str, ...]:
        return () if host == name("nobody.example.org") else self.world.addresses(host)


def test_name_servers_that_do_not_answer() -> None:
    """The resolver hears the name itself as a last resort only, and else at most that above it."""
    world = World()
    found = Delegations(world, 0.2, port=1)
    with pytest.raises(ValidatorUnavailable, match=r"no name server of example\.org answers for x"):
        found.target(name("x.example.org"))
    assert found.zone_of(name("x.www.example.org")) == name("example.org")
    assert "x.example.org" not in world.asked
    assert "x.www.example.org" not in world.asked
    assert found.target(name("x.example.org"), last_resort=True) == name("y.example.org")
    assert world.asked[-1] == "x.example.org"


def test_a_private_top_level_domain() -> None:
    """A zone of one label is found, too, and a name in no zone is an error."""
    world = World(("lan",))
    with pytest.raises(ValidatorUnavailable, match="no name server of lan"):
        Delegations(world, 0.2, port=1).find(name("_acme-challenge.www.home.lan"))
    with pytest.raises(ValidatorUnavailable, match="no zone is known"):
        Delegations(World(()), 0.2, port=1).find(name("_acme-challenge.www.home.lan"))


class Counting(Resolver):
    """Counts who wants to know of zones; all ask before the first is told.

    Args:
        threads: how many there are.
        fails: whether it does not answer.
    """

    def __init__(self, threads: int = 1, *, fails: bool = False) -> None:
        super().__init__()
        self.begun = threading.Barrier(threads)
        self.fails = fails
        self.asked: list[dns.name.Name] = []

    def nameservers(self, zone: dns.name.Name) -> tuple[dns.name.Name, ...]:
        self.asked.append(zone)
        if self.fails:
            raise ResolverSilent("no answer in time")
        return (name("ns.example.org"),)

    def addresses(self, host: dns.name.Name) -> tuple[str, ...]:
        return ("127.0.0.1",)


def test_many_threads_ask_for_a_zone_once(bind: Bind) -> None:
    """The names of an order are looked up side by side, and their zone by one of them."""
    resolver = Counting(8)
    found = Delegations(resolver, port=bind.port)

    def look(number: int) -> dns.name.Name:
        resolver.begun.wait(30)
        return found.find(name(f"n{number}.example.org")).zone

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(look, range(8))) == {name("example.org")}
    assert resolver.asked == [name("example.org")]


def test_a_resolver_that_does_not_answer_costs_its_time_once() -> None:
    """All names of an order that look up one zone fail by one question, and the next order asks again."""
    now = [1000.0]
    resolver = Counting(fails=True)
    found = Delegations(resolver, clock=Clock(monotonic=lambda: now[0]))
    for number in range(5):
        with pytest.raises(ResolverSilent):
            found.target(name(f"n{number}.example.org"), last_resort=True)
    assert len(resolver.asked) == 1
    now[0] += 2.0
    with pytest.raises(ResolverSilent):
        found.zone_of(name("n.example.org"))
    assert len(resolver.asked) == 2


def test_servers_that_did_not_answer_come_last(bind: Bind, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead address of a zone's name servers costs its time once, not once for each name."""

    class Two(Counting):
        def addresses(self, host: dns.name.Name) -> tuple[str, ...]:
            return ("127.0.0.2", "127.0.0.1")

    asked: list[str] = []

    def noting(server: Address, *rest: Any) -> dns.message.Message:
        asked.append(server.host)
        return ask(server, *rest)

    monkeypatch.setattr("acmems.dns.client.delegations.ask", noting)
    found = Delegations(Two(), port=bind.port)
    for number in range(3):
        assert found.find(name(f"n{number}.example.org")).zone == name("example.org")
    assert asked == ["127.0.0.2", "127.0.0.1", "127.0.0.1", "127.0.0.1"]


def test_name_servers_that_are_named_come_first(bind: Bind) -> None:
    """A `nameserver` tells zones and CNAMEs without any resolver, which is asked for the zones of others."""
    resolver = World()
    address = Address("localhost", bind.port)
    found = Delegations(resolver, nameservers=[address], port=bind.port)
    assert found.end(name("alias.example.org")) == (name("a.sub.example.org"), name("sub.example.org"))
    assert found.find(name("alias.example.org")).zone == name("example.org")
    assert found.zone_above(name("alias.example.org")) == name("example.org")
    assert resolver.asked == []
    with pytest.raises(ValidatorUnavailable, match="no zone is known"):
        found.find(name("x.example.net"))
    assert resolver.asked
