"""Where records go, along CNAMEs through zones that are ours and zones that are not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset
import pytest

from acmems.dns.client.cnames import LONGEST
from acmems.dns.client.servers import NobodyInCharge, ServerFailed, Servers
from acmems.dns.client.zones import Place, Zones
from acmems.exceptions import ValidatorUnavailable
from acmems.net.address import Address
from acmems.system.clock import Clock, Deadline

T = TypeVar("T")

SERVER = Address("192.0.2.53", 53)
SOA = "ns.example.org. hostmaster.example.org. 1 3600 600 86400 60"


def name(text: str) -> dns.name.Name:
    return dns.name.from_text(text)


class OurServer(Servers):
    """Has authority for example.org alone, and for some CNAMEs there."""

    def __init__(self, cnames: Mapping[str, str]) -> None:
        self.now = 1000.0
        super().__init__([SERVER], clock=Clock(monotonic=lambda: self.now))
        self.left: list[float] = []
        self.cnames = {name(owner): target for owner, target in cnames.items()}

    def ask(
        self,
        message: dns.message.Message,
        about: str,
        deadline: Deadline,
        judge: Callable[[Address, dns.message.Message], T],
    ) -> T:
        self.left.append(deadline.remaining)
        self.now += 4.0
        answer = dns.message.make_response(message)
        asked = message.question[0].name
        if not asked.is_subdomain(name("example.org")):
            answer.set_rcode(dns.rcode.REFUSED)
        else:
            answer.flags |= dns.flags.AA
            if target := self._cname(asked):
                answer.answer.append(dns.rrset.from_text(asked, 60, "IN", "CNAME", target))
            else:
                answer.authority.append(dns.rrset.from_text("example.org.", 60, "IN", "SOA", SOA))
        try:
            return judge(SERVER, answer)
        except ServerFailed as error:
            raise NobodyInCharge(f"TXT record {about}: {error}", advice=error.advice) from None

    def _cname(self, asked: dns.name.Name) -> str | None:
        """Return a name's own target, else that of the wildcard at the closest name that exists."""
        if asked in self.cnames:
            return self.cnames[asked]
        above = asked.parent()
        while above != name("example.org") and not any(each.is_subdomain(above) for each in self.cnames):
            above = above.parent()
        return self.cnames.get(name("*").relativize(dns.name.root).concatenate(above))


class World:
    """A resolver that knows CNAMEs of others; without any, it fails."""

    def __init__(self, cnames: Mapping[str, str] | None = None) -> None:
        self.cnames = cnames
        self.last_resorts: dict[str, bool] = {}

    def target(self, asked: dns.name.Name, *, last_resort: bool = False) -> dns.name.Name | None:
        self.last_resorts[asked.to_text(omit_final_dot=True)] = last_resort
        if self.cnames is None:
            raise ValidatorUnavailable("resolver 192.0.2.1:53 does not answer")
        target = self.cnames.get(asked.to_text(omit_final_dot=True))
        return name(target) if target else None


def place(
    record: str,
    ours: Mapping[str, str] | None = None,
    others: Mapping[str, str] | None = None,
    allowed: tuple[str, ...] = (),
) -> Place:
    zones = Zones(OurServer(ours or {}), [name(zone) for zone in allowed], World(others))
    return zones.place(name(record), 5)


def test_the_zone_is_what_the_server_says() -> None:
    """Without `zone`, a record goes into the zone that the server has authority for."""
    assert place("x.www.example.org") == Place(name("example.org"), name("x.www.example.org"))


def test_of_several_zones_the_longest_fits() -> None:
    """With `zone`s, the longest that the name is in is changed, in whatever order they are given."""
    allowed = ("example.org", "www.example.org", "org")
    assert place("x.www.example.org", allowed=allowed).zone == name("www.example.org")
    assert place("x.wwww.example.org", allowed=allowed).zone == name("example.org")


def test_a_name_of_others_may_lead_into_a_zone_of_ours() -> None:
    """A CNAME in another's zone is looked up by the resolver, and followed into a `zone`."""
    found = place("x.example.net", others={"x.example.net": "y.example.org."}, allowed=("example.org",))
    assert found == Place(name("example.org"), name("y.example.org"))


@pytest.mark.threat("proving", "a CNAME in a circle or to others")
def test_without_zone_no_name_of_others_is_followed_to_ours() -> None:
    """Whoever owns another zone cannot have records put into ours, unless `zone` allows it."""
    with pytest.raises(ValidatorUnavailable, match=r"in the zone example\.org that is not its own"):
        place("x.example.net", others={"x.example.net": "y.example.org."})


def test_a_zone_serves_where_the_server_answers_no_questions() -> None:
    """With `zone`, a record is put there even if neither server nor resolver tell of it."""
    assert place("x.example.net", allowed=("example.net",)) == Place(
        name("example.net"), name("x.example.net")
    )


def test_a_resolver_that_fails_is_told() -> None:
    """What the resolver did is told beside what the server did."""
    with pytest.raises(NobodyInCharge) as caught:
        place("x.example.net")
    assert str(caught.value) == (
        "TXT record x.example.net: DNS server 192.0.2.53:53 is not authoritative for x.example.net; "
        "resolver 192.0.2.1:53 does not answer"
    )


@pytest.mark.threat("proving", "a CNAME in a circle or to others")
def test_eight_cnames_are_followed_and_no_more() -> None:
    """A chain of eight is followed to its end; one of nine is refused."""
    chain = {f"{number}.example.org": f"{number + 1}.example.org." for number in range(LONGEST)}
    assert place("0.example.org", chain).name == name("8.example.org")
    with pytest.raises(ValidatorUnavailable, match="more than 8 CNAMEs"):
        place("0.example.org", {**chain, "8.example.org": "9.example.org."})


def test_each_question_has_a_time_of_its_own() -> None:
    """Whatever the questions before it took, each may take as long as the first."""
    chain = {f"{number}.example.org": f"{number + 1}.example.org." for number in range(LONGEST)}
    server = OurServer(chain)
    Zones(server, [], World({})).place(name("0.example.org"), 5)
    assert len(server.left) > LONGEST
    assert set(server.left) == {5.0}


@pytest.mark.threat("proving", "a CNAME in a circle or to others")
def test_a_circle_is_told() -> None:
    """CNAMEs that lead back are refused, and the name where the circle closes is told."""
    with pytest.raises(ValidatorUnavailable, match=r"in a circle, back to a\.example\.org"):
        place("a.example.org", {"a.example.org": "b.example.org.", "b.example.org": "A.example.org."})


WILDCARD = {"*.example.org": "y.example.org.", "own.example.org": "y.example.org."}


@pytest.mark.threat("proving", "a CNAME in a circle or to others")
@pytest.mark.parametrize("record", ["x.example.org", "x.www.example.org"])
@pytest.mark.parametrize("allowed", [(), ("example.org",)])
def test_a_wildcard_is_no_delegation(record: str, allowed: tuple[str, ...]) -> None:
    """Where a wildcard made the CNAME, at whatever depth, the record goes to its own name."""
    assert place(record, WILDCARD, allowed=allowed) == Place(name("example.org"), name(record))


def test_a_cname_beside_a_wildcard_is_followed() -> None:
    """A name's own CNAME is followed, even if the wildcard beside it leads to the same target."""
    assert place("own.example.org", WILDCARD).name == name("y.example.org")


def test_a_wildcard_is_followed_where_nothing_may_be_changed() -> None:
    """In a zone that may not be changed, a wildcard is the only way into one that may."""
    found = place("x.example.org", {"*.example.org": "y.sub.example.org."}, allowed=("sub.example.org",))
    assert found == Place(name("sub.example.org"), name("y.sub.example.org"))


def test_a_resolver_is_not_asked_where_the_record_may_go() -> None:
    """The resolver hears a name only if there is no place for its record unless it is a CNAME."""
    world = World({})
    zones = Zones(OurServer({}), [name("example.net")], world)
    zones.place(name("x.example.net"), 5)
    with pytest.raises(ValidatorUnavailable):
        zones.place(name("x.example.com"), 5)
    assert world.last_resorts == {"x.example.net": False, "x.example.com": True}
