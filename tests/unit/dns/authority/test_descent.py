"""Authorities found from the top down, at real name servers, and what does not count as an answer."""

from __future__ import annotations

from collections.abc import Iterator

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import pytest
from tests.authorities import BIND, DEAD, KNOT_ADDRESS, Hierarchy

from acmems.dns.authority.descent import Descent, NobodyReached
from acmems.dns.authority.statement import Statement
from acmems.dns.authority.statements import Statements
from acmems.dns.caa.climbing import relevant_policy
from acmems.dns.caa.policy import listed
from acmems.exceptions import ValidatorUnavailable
from acmems.net.address import Address
from acmems.system.clock import NEVER, Clock, Deadline

CAA, A, AAAA = dns.rdatatype.CAA, dns.rdatatype.A, dns.rdatatype.AAAA


def name(text: str) -> dns.name.Name:
    return dns.name.from_text(text)


@pytest.fixture(scope="module")
def servers() -> Iterator[Hierarchy]:
    with Hierarchy() as running:
        yield running


class World:
    """Looks names up in the hierarchy, by a clock that a test moves."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        hierarchy.forget()
        self.now = 1000.0
        self.hierarchy = hierarchy
        clock = Clock(monotonic=lambda: self.now)
        self.descent = Descent(hierarchy.resolver, clock=clock, ask_server=hierarchy.ask)
        self.statements = Statements(self.descent, clock)

    def look_up(self, text: str, kind: dns.rdatatype.RdataType = CAA) -> Statement:
        return self.statements.look_up(name(text), kind, NEVER)

    def policy(self, text: str) -> tuple[str, tuple[str, ...]] | None:
        found = relevant_policy(text, lambda each: self.statements.look_up(each, CAA, NEVER))
        return None if found is None else (found.domain, listed(found.records))


@pytest.fixture
def world(servers: Hierarchy) -> World:
    return World(servers)


class TestAnswers:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("example.org", ("example.org", ('0 issue "ca.example"',))),
            ("www.example.org", ("example.org", ('0 issue "ca.example"',))),
            ("new.deep.example.org", ("example.org", ('0 issue "ca.example"',))),
            ("closed.example.org", ("closed.example.org", ('0 issue ";"',))),
            ("host.closed.example.org", ("closed.example.org", ('0 issue ";"',))),
            ("alias.example.org", ("cdn.knot.org", ('0 issue "cdn.example"',))),
            ("below.alias.example.org", ("cdn.knot.org", ('0 issue "cdn.example"',))),
            ("nowhere.example.org", ("example.org", ('0 issue "ca.example"',))),
            ("www.tree.example.org", ("www.deep.knot.org", ('128 tbs "unknown"',))),
            ("any.wild.example.org", ("any.wild.example.org", ('0 issue "wild.example"',))),
            ("free.example.org", ("free.example.org", ('0 iodef "mailto:caa@example.org"',))),
            ("www.inner.example.org", ("example.org", ('0 issue "ca.example"',))),
            ("www.knot.org", None),
            ("knot.org", None),
            ("unregistered.org", None),
            ("org", None),
        ],
    )
    def test_caa(self, world: World, text: str, found: tuple[str, tuple[str, ...]] | None) -> None:
        """Records stand at the name, where its CNAME leads, or above it, in whichever zone that is."""
        assert world.policy(text) == found

    @pytest.mark.parametrize(
        ("text", "kind", "count", "exists", "zone"),
        [
            ("www.example.org", A, 1, True, "example.org"),
            ("www.example.org", AAAA, 0, True, "example.org"),
            ("v6.example.org", AAAA, 1, True, "example.org"),
            ("text.example.org", A, 0, True, "example.org"),
            ("missing.example.org", A, 0, False, "example.org"),
            ("alias.example.org", A, 1, True, "knot.org"),
            ("nowhere.example.org", A, 0, False, "knot.org"),
            ("www.unregistered.org", A, 0, False, "org"),
            ("missing.inner.example.org", A, 0, False, "inner.example.org"),
        ],
    )
    def test_addresses(
        self, world: World, text: str, kind: dns.rdatatype.RdataType, count: int, exists: bool, zone: str
    ) -> None:
        """What there is, whether the name exists at all, and which zone says so."""
        found = world.look_up(text, kind)
        assert (len(found.records), found.exists) == (count, exists)
        assert count or found.zone == name(zone)
        assert found.seconds == 60.0

    def test_the_resolver_is_asked_for_the_top_only(self, world: World) -> None:
        """The resolver of a site may see other names than the CA: it never hears those that are examined."""
        world.policy("www.example.org")
        world.policy("www.knot.org")
        assert world.hierarchy.resolver.asked == ["org", "ns.org"]

    def test_a_name_server_without_glue(self, world: World) -> None:
        """The address of a name server in another top-level domain is looked up."""
        with pytest.raises(ValidatorUnavailable, match=r"192\.0\.2\.2:53: (REFUSED|NOTAUTH)"):
            world.look_up("www.far.org")
        assert "ns.provider.test" in world.hierarchy.resolver.asked


class TestWhatDoesNotCount:
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("www.broken.org", "SERVFAIL"),
            ("www.lame.org", "has no authority|REFUSED"),
            ("www.dead.org", "Timeout"),
            ("circle.example.org", "lead on and on|SERVFAIL"),
            ("www.half.org", "SERVFAIL"),
        ],
    )
    def test_failures(self, world: World, text: str, reason: str) -> None:
        """SERVFAIL, lame and dead servers, and CNAMEs without an end say nothing of a name."""
        with pytest.raises(ValidatorUnavailable, match=reason):
            world.look_up(text)

    def test_a_top_level_domain_that_is_not_known(self, world: World) -> None:
        """Names of a place of its own are nothing that could be told of."""
        with pytest.raises(ValidatorUnavailable, match="knows no name servers of lan"):
            world.look_up("printer.lan")
        with pytest.raises(ValidatorUnavailable, match="of lan were not known lately"):
            world.look_up("other.lan")
        assert world.hierarchy.resolver.asked == ["lan"]
        assert not world.descent.is_suspended
        assert world.policy("www.example.org") is not None

    def test_time_that_is_over(self, world: World) -> None:
        """After the deadline nobody is asked any more, and nobody is blamed for it."""
        over = Deadline(0.0, lambda: 1.0)
        with pytest.raises(ValidatorUnavailable, match="in time"):
            world.statements.look_up(name("www.example.org"), CAA, over)
        assert not world.hierarchy.asked
        assert not world.descent.is_suspended

    def test_a_server_that_is_dead_is_left_alone(self, world: World) -> None:
        """It costs its time once, then for a minute not at all, then once again, for two minutes."""
        for number, asked in ((0, 1), (1, 1), (61, 2), (119, 2), (2, 3)):
            world.now += number
            with pytest.raises(NobodyReached):
                world.descent.ask(name(f"n{number}.dead.org"), CAA, NEVER)
            assert world.hierarchy.asked[DEAD] == asked
        assert not world.descent.is_suspended

    def test_a_zone_of_which_one_server_answers(self, world: World) -> None:
        """The dead one is asked once, the other one each time."""
        for number in range(3):
            with pytest.raises(ValidatorUnavailable, match="SERVFAIL"):
                world.descent.ask(name(f"n{number}.half.org"), CAA, NEVER)
        assert (world.hierarchy.asked[DEAD], world.hierarchy.asked[KNOT_ADDRESS]) == (1, 3)

    def test_no_dns_at_all(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        """Where the resolver is silent, nobody is asked for a minute; the log says so once."""
        caplog.set_level("INFO")
        world.hierarchy.resolver.is_silent = True
        for number in range(3):
            with pytest.raises(ValidatorUnavailable):
                world.descent.ask(name(f"n{number}.example.org"), CAA, NEVER)
        assert world.descent.is_suspended
        assert world.hierarchy.resolver.asked == ["org"]
        (line,) = caplog.messages
        assert "for 60 seconds" in line
        assert "pre-check = none" in line
        world.hierarchy.resolver.is_silent = False
        world.now += 61
        assert not world.descent.is_suspended
        assert world.policy("www.example.org") is not None

    def test_a_firewall(self, world: World) -> None:
        """Where the top-level domain's servers cannot be reached, nobody is asked for a while, and longer."""
        asked: list[str] = []

        def ask(server: Address, *_: object) -> dns.message.Message:
            asked.append(server.host)
            raise OSError("no route")

        resolver = world.hierarchy.resolver
        descent = Descent(resolver, clock=Clock(monotonic=lambda: world.now), ask_server=ask)
        for seconds, count in ((0, 1), (59, 1), (2, 2), (119, 2), (2, 3)):
            world.now += seconds
            with pytest.raises(NobodyReached):
                descent.ask(name("www.example.org"), CAA, NEVER)
            assert len(asked) == count
            assert descent.is_suspended

    def test_what_answers_for_all(self, world: World) -> None:
        """What answers in the place of all name servers, without authority, is not asked for each name."""
        asked: list[str] = []

        def ask(server: Address, name: dns.name.Name, *_: object) -> dns.message.Message:
            asked.append(name.to_text())
            return dns.message.make_response(dns.message.make_query(name, CAA), recursion_available=True)

        clock = Clock(monotonic=lambda: world.now)
        descent = Descent(world.hierarchy.resolver, clock=clock, ask_server=ask)
        for number in range(3):
            with pytest.raises(ValidatorUnavailable):
                descent.ask(name(f"n{number}.example.org"), CAA, NEVER)
        assert asked == ["n0.example.org."]
        assert descent.is_suspended

    def test_an_error_with_authority(self, world: World) -> None:
        """A server that fails and calls that authoritative says nothing of the name."""

        def ask(server: Address, name: dns.name.Name, *_: object) -> dns.message.Message:
            answer = dns.message.make_response(dns.message.make_query(name, CAA))
            answer.flags |= dns.flags.AA
            answer.set_rcode(dns.rcode.SERVFAIL)
            return answer

        descent = Descent(world.hierarchy.resolver, ask_server=ask)
        with pytest.raises(ValidatorUnavailable, match="SERVFAIL"):
            descent.ask(name("www.example.org"), CAA, NEVER)


class TestKeeping:
    def test_delegations_are_kept(self, world: World) -> None:
        """The way down is gone once, until its time is over."""
        world.look_up("www.knot.org", A)
        assert (world.hierarchy.asked[BIND], world.hierarchy.asked[KNOT_ADDRESS]) == (1, 1)
        world.look_up("cdn.knot.org", A)
        assert (world.hierarchy.asked[BIND], world.hierarchy.asked[KNOT_ADDRESS]) == (1, 2)
        world.now += 61
        world.look_up("ns.knot.org", A)
        assert world.hierarchy.asked[BIND] == 2

    def test_a_delegation_that_has_changed(self, world: World) -> None:
        """Where name servers do not tell any more, those are asked next time who delegate."""
        world.look_up("www.knot.org", A)
        with pytest.raises(ValidatorUnavailable):
            world.descent.ask(name("www.broken.org"), CAA, NEVER)
        before = world.hierarchy.asked[BIND]
        with pytest.raises(ValidatorUnavailable):
            world.descent.ask(name("www.broken.org"), CAA, NEVER)
        assert world.hierarchy.asked[BIND] == before + 1
