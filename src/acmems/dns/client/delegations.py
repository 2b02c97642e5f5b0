"""Who has authority for a name: name servers are asked, so that resolvers do not keep "no such name"."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype

from acmems.dns.client.resolver import Resolver
from acmems.exceptions import ValidatorUnavailable
from acmems.net.address import Address
from acmems.system.clock import SYSTEM, Clock
from acmems.text import one_line

LONGEST = 8
"""How many CNAMEs and DNAMEs are followed one after the other."""
_PORT = 53
_PATIENCE = 2.0  # seconds for one answer
_KEPT = 10.0  # seconds for which the name servers of a zone are not looked up again
_MOST_KEPT = 1000
_UNREADABLE = (dns.exception.DNSException, ValueError, LookupError, struct.error, EOFError)


@dataclass(frozen=True, slots=True)
class ZoneServer:
    """A name server of a zone.

    Args:
        host: its name.
        addresses: all that it has; none: the resolver knows none.
    """

    host: dns.name.Name
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Authority:
    """Who has authority for a name.

    Args:
        zone: the zone that it is in.
        target: where a CNAME or DNAME leads from it; None: nowhere.
    """

    zone: dns.name.Name
    target: dns.name.Name | None


class Delegations:
    """Finds the zones of names, and where CNAMEs lead.

    A resolver keeps "no such name" for minutes (RFC 2308), and what covers a name with it (RFC 8020,
    RFC 8198). Where a CA shares it, the CA would not see a record that was asked for before it existed. So
    the resolver is asked for zones and their name servers only, which exist, and these for the name.

    Args:
        resolver: asked for name servers and their addresses.
        timeout: how long one answer may take, in seconds.
        clock: for how long answers of the resolver are kept.
        port: of the name servers.
    """

    def __init__(
        self, resolver: Resolver, timeout: float = _PATIENCE, *, clock: Clock = SYSTEM, port: int = _PORT
    ) -> None:
        self.resolver = resolver
        self.timeout = timeout
        self._clock = clock
        self._port = port
        # Threads may look up one zone at the same time; each of them stores the same.
        self._known: dict[dns.name.Name, tuple[float, tuple[ZoneServer, ...]]] = {}

    def target(self, name: dns.name.Name, *, last_resort: bool = False) -> dns.name.Name | None:
        """Return where a CNAME or DNAME leads from a name; None if nowhere.

        Args:
            name: the name.
            last_resort: whether the resolver may be asked for the name itself if no name server answers.

        Raises:
            ValidatorUnavailable: nobody tells.
        """
        try:
            return self.find(name).target
        except ValidatorUnavailable:
            if not last_resort:
                raise
            return self.resolver.target(name)

    def zone_of(self, name: dns.name.Name) -> dns.name.Name:
        """Return the zone that a name is in; the resolver tells that of the name above if nobody else does.

        Raises:
            ValidatorUnavailable: nobody tells.
        """
        try:
            return self.find(name).zone
        except ValidatorUnavailable:
            return self.resolver.zone_of(name.parent())

    def end(self, name: dns.name.Name, *, follow: bool = True) -> tuple[dns.name.Name, dns.name.Name]:
        """Return where CNAMEs lead from a name in the end, and the zone there.

        Args:
            name: the name.
            follow: whether CNAMEs are followed at all.

        Raises:
            ValidatorUnavailable: nobody tells, or more than `LONGEST` lead on.
        """
        for _ in range(LONGEST + 1):
            found = self.find(name)
            if found.target is None or not follow:
                return name, found.zone
            name = found.target
        raise ValidatorUnavailable(
            f"its CNAMEs lead on and on, beyond {_plain(name)}; {LONGEST} are followed"
        )

    def servers(self, zone: dns.name.Name) -> tuple[ZoneServer, ...]:
        """Return the name servers of a zone; none where the name is no zone's.

        Raises:
            ValidatorUnavailable: the resolver does not tell.
        """
        now = self._clock.monotonic()
        kept = self._known.get(zone)
        if kept is not None and now < kept[0]:
            return kept[1]
        found = tuple(
            ZoneServer(host, tuple(Address(each, self._port) for each in self.resolver.addresses(host)))
            for host in self.resolver.nameservers(zone)
        )
        if len(self._known) >= _MOST_KEPT:
            self._known.clear()
        self._known[zone] = (now + _KEPT, found)
        return found

    def find(self, name: dns.name.Name) -> Authority:
        """Return who has authority for a name.

        Raises:
            ValidatorUnavailable: nobody tells.
        """
        zone = self._top(name)
        while True:
            answer = self._ask(zone, name)
            below = _cut(answer, zone, name)
            if answer.flags & dns.flags.AA:
                return Authority(below or zone, target_in(name, answer))
            if below is None:
                raise ValidatorUnavailable(
                    f"the name servers of {_plain(zone)} neither tell {_plain(name)} nor who does",
                    advice="correct the delegation, or set `nameserver`",
                )
            zone = below

    def _top(self, name: dns.name.Name) -> dns.name.Name:
        """Return a zone above a name, or at it, that the resolver knows: mostly the registered domain."""
        deepest = len(name) - 2  # labels without the root's and the first, which may not exist yet
        for depth in dict.fromkeys((min(2, deepest), 1, *range(3, deepest + 1))):
            zone = name.split(depth + 1)[1]
            if self.servers(zone):
                return zone
        raise ValidatorUnavailable(
            f"no zone is known that {_plain(name)} is in", advice="set `zone`, or a `resolver` that knows it"
        )

    def _ask(self, zone: dns.name.Name, name: dns.name.Name) -> dns.message.Message:
        question = dns.message.make_query(name, dns.rdatatype.CNAME, flags=0)
        reasons = []
        for server in self.servers(zone):
            for address in server.addresses:
                try:
                    answer, _tcp = dns.query.udp_with_fallback(
                        question,
                        address.host,
                        timeout=self.timeout,
                        port=address.port,
                        ignore_unexpected=True,
                        ignore_errors=True,
                    )
                except (OSError, *_UNREADABLE) as error:
                    reasons.append(f"{_plain(server.host)} ({address}): {type(error).__name__}")
                    continue
                if answer.rcode() in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
                    return answer
                reasons.append(f"{_plain(server.host)} ({address}): {dns.rcode.to_text(answer.rcode())}")
        told = "; ".join(reasons) or "none of them has an address"
        raise ValidatorUnavailable(
            f"no name server of {_plain(zone)} answers for {_plain(name)}: {told}",
            advice="see that they are reached by UDP and TCP, or set `nameserver`",
        )


def target_in(name: dns.name.Name, answer: dns.message.Message) -> dns.name.Name | None:
    """Return where an answer says that a CNAME or DNAME leads from a name; None if nowhere."""
    for rrset in answer.answer:
        if rrset.rdtype == dns.rdatatype.CNAME and rrset.name == name:
            target: dns.name.Name = rrset[0].target
            return target.canonicalize()
    for rrset in answer.answer:
        if rrset.rdtype == dns.rdatatype.DNAME and name != rrset.name and name.is_subdomain(rrset.name):
            try:
                end: dns.name.Name = rrset[0].target
                return name.relativize(rrset.name).concatenate(end).canonicalize()
            except dns.name.NameTooLong:
                return None
    return None


def _cut(answer: dns.message.Message, zone: dns.name.Name, name: dns.name.Name) -> dns.name.Name | None:
    """Return the zone below another that an answer comes from or refers to; None if there is none."""
    kind = dns.rdatatype.SOA if answer.flags & dns.flags.AA else dns.rdatatype.NS
    for rrset in answer.authority:
        deeper = rrset.name.is_subdomain(zone) and rrset.name != zone
        if rrset.rdtype == kind and deeper and name.is_subdomain(rrset.name):
            return rrset.name.canonicalize()
    return None


def _plain(name: dns.name.Name) -> str:
    return one_line(name.to_text(omit_final_dot=True))
