"""Who has authority for a name: name servers are asked, so that resolvers do not keep "no such name"."""

from __future__ import annotations

import contextlib
import copy
import math
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
from dns.rdatatype import RdataType

from acmems.dns.client.answers import (
    below_name,
    cut_in,
    has_own_cname,
    is_delegation,
    records_in,
    target_in,
    zone_in,
)
from acmems.dns.client.cnames import LONGEST, plain
from acmems.dns.client.question import UNREADABLE, ask
from acmems.dns.client.resolver import Resolver, ResolverSilent
from acmems.exceptions import ValidatorUnavailable
from acmems.net.address import Address
from acmems.system.clock import SYSTEM, Clock
from acmems.system.locks import KeyedLocks

_PORT = 53
_PATIENCE = 2.0  # seconds for one answer
_KEPT = 10.0  # seconds for which the name servers of a zone are not looked up again
_FAILURE_KEPT = 1.0  # the same where the resolver failed: enough for the other names of an order
_MOST_KEPT = 1000
_TELLING = frozenset({dns.rcode.NOERROR, dns.rcode.NXDOMAIN})


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
    """Finds the zones of names, where CNAMEs lead, and records, at those who have authority for them.

    A resolver keeps "no such name" for minutes (RFC 2308), and what covers a name with it (RFC 8020,
    RFC 8198). Where a CA shares it, the CA would not see a record that was asked for before it existed. So
    the resolver is asked for zones and their name servers only, which exist, and these for the name. Where
    they do not answer, the resolver is asked for what it has authority for itself, without recursion: so
    it asks nobody, and keeps nothing.

    Args:
        resolver: asked for name servers and their addresses.
        timeout: how long one answer may take, in seconds.
        nameservers: asked before the name servers of the zones, for what they have authority for.
        clock: for how long answers of the resolver are kept.
        port: of the name servers.
    """

    def __init__(
        self,
        resolver: Resolver,
        timeout: float = _PATIENCE,
        *,
        nameservers: Sequence[Address] = (),
        clock: Clock = SYSTEM,
        port: int = _PORT,
    ) -> None:
        self.resolver = resolver
        self.timeout = timeout
        self.nameservers = tuple(nameservers)
        self._clock = clock
        self._port = port
        self._locks = KeyedLocks()  # of many threads that want to know of one zone, one asks
        self._known: dict[
            dns.name.Name, tuple[float, tuple[ZoneServer, ...], ValidatorUnavailable | None]
        ] = {}
        self._silent: dict[Address, float] = {}  # until when they are asked after the others

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
        except ValidatorUnavailable as error:
            if not last_resort or isinstance(error, ResolverSilent):
                raise
            return self.resolver.target(name)

    def zone_of(self, name: dns.name.Name) -> dns.name.Name:
        """Return the zone that a name is in; the resolver tells that of the name above if nobody else does.

        Raises:
            ValidatorUnavailable: nobody tells.
        """
        try:
            return self.find(name).zone
        except ResolverSilent:
            raise
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
        raise ValidatorUnavailable(f"its CNAMEs lead on and on, beyond {plain(name)}; {LONGEST} are followed")

    def servers(self, zone: dns.name.Name) -> tuple[ZoneServer, ...]:
        """Return the name servers of a zone; none where the name is no zone's.

        Raises:
            ValidatorUnavailable: the resolver does not tell.
        """
        if (kept := self._kept(zone)) is not None:
            return kept
        with self._locks.hold(zone, self._clock.deadline(math.inf)):
            if (kept := self._kept(zone)) is not None:
                return kept
            if len(self._known) >= _MOST_KEPT:
                self._known.clear()
            try:
                found = tuple(
                    ZoneServer(
                        host, tuple(Address(each, self._port) for each in self.resolver.addresses(host))
                    )
                    for host in self.resolver.nameservers(zone)
                )
            except ValidatorUnavailable as error:
                self._known[zone] = (self._clock.monotonic() + _FAILURE_KEPT, (), error)
                raise
            self._known[zone] = (self._clock.monotonic() + _KEPT, found, None)
            return found

    def find(self, name: dns.name.Name) -> Authority:
        """Return who has authority for a name.

        Raises:
            ValidatorUnavailable: nobody tells.
        """
        told = self._ask(name, dns.rdatatype.CNAME)
        return Authority(told.zone, target_in(name, told.answer))

    def is_by_wildcard(self, name: dns.name.Name) -> bool:
        """Tell whether a wildcard record made the CNAME of a name, which then has no record of its own.

        Raises:
            ValidatorUnavailable: nobody tells.
        """
        below = below_name(name)
        return below is not None and has_own_cname(below, self._ask(below, dns.rdatatype.CNAME).answer)

    def zone_above(self, name: dns.name.Name) -> dns.name.Name:
        """Return the zone that a name is in which may be a CNAME, or below a DNAME.

        Raises:
            ValidatorUnavailable: nobody tells.
        """
        while True:
            name = name.parent()
            told = self._ask(name, dns.rdatatype.SOA)
            # Servers follow a CNAME for this: the SOA is then that of its target.
            if target_in(name, told.answer) is None:
                return zone_in(name, told.answer) or told.zone

    def records(self, name: dns.name.Name, kind: RdataType) -> tuple[dns.rdata.Rdata, ...]:
        """Return the records of a name, at the end of its CNAMEs.

        What a zone's name servers are, and their addresses, is told by the zone above.

        Raises:
            ValidatorUnavailable: nobody tells, or more than `LONGEST` CNAMEs lead on.
        """
        for _ in range(LONGEST + 1):
            answer = self._ask(name, kind).answer
            found = records_in(answer, name, kind)
            target = None if found or kind == dns.rdatatype.CNAME else target_in(name, answer)
            if target is None:
                return found
            name = target
        raise ValidatorUnavailable(f"its CNAMEs lead on and on, beyond {plain(name)}")

    def _kept(self, zone: dns.name.Name) -> tuple[ZoneServer, ...] | None:
        until, found, failure = self._known.get(zone, (-math.inf, (), None))
        if self._clock.monotonic() >= until:
            return None
        if failure is not None:
            raise copy.copy(failure)
        return found

    def _ask(self, name: dns.name.Name, kind: RdataType) -> _Told:
        """Return what those say who have authority for a name."""
        for address in _numeric(self.nameservers):
            if (told := self._told_by(address, name, kind)) is not None:
                return told
        try:
            return self._descend(name, kind)
        except ResolverSilent:
            raise
        except ValidatorUnavailable:
            for address in _numeric(self.resolver.servers):
                if (told := self._told_by(address, name, kind)) is not None:
                    return told
            raise

    def _told_by(self, address: Address, name: dns.name.Name, kind: RdataType) -> _Told | None:
        """Return what one server says of a name, None if that is nothing, or not its zone."""
        try:
            answer = self._exchange(address, name, kind)
            if answer.rcode() not in _TELLING or not (
                answer.flags & dns.flags.AA or is_delegation(answer, name, kind)
            ):
                return None
            above = name
            while (zone := zone_in(above, answer)) is None and above != dns.name.root:
                # A CNAME came without the SOA of its zone, and asking for that would follow it.
                above = above.parent()
                soa = self._exchange(address, above, dns.rdatatype.SOA)
                zone = None if target_in(above, soa) else zone_in(above, soa)
                if zone is not None:
                    break
        except (OSError, *UNREADABLE):
            return None
        return None if zone is None else _Told(answer, zone)

    def _descend(self, name: dns.name.Name, kind: RdataType) -> _Told:
        """Return what the name servers of its zone say of a name, from the top down to that zone."""
        zone = self._top(name, including=kind == dns.rdatatype.SOA)
        while True:
            answer = self._ask_zone(zone, name, kind)
            below = cut_in(answer, zone, name)
            if answer.flags & dns.flags.AA:
                return _Told(answer, below or zone)
            if is_delegation(answer, name, kind):
                return _Told(answer, zone)
            if below is None:
                raise ValidatorUnavailable(
                    f"the name servers of {plain(zone)} neither tell {plain(name)} nor who does",
                    advice="correct the delegation, or set `nameserver`",
                )
            zone = below

    def _top(self, name: dns.name.Name, *, including: bool) -> dns.name.Name:
        """Return a zone above a name: a known one, else what the resolver knows, as the registered domain."""
        # Labels without the root's and the first: a name that may not exist yet is no zone's.
        deepest = len(name) - (1 if including else 2)
        for depth in range(deepest, 0, -1):
            zone = name.split(depth + 1)[1]
            if zone in self._known and self._known[zone][1] and self._kept(zone):
                return zone
        for depth in dict.fromkeys((min(2, deepest), 1, *range(3, deepest + 1))):
            zone = name.split(depth + 1)[1]
            if self.servers(zone):
                return zone
        raise ValidatorUnavailable(
            f"no zone is known that {plain(name)} is in", advice="set `zone`, or a `resolver` that knows it"
        )

    def _ask_zone(self, zone: dns.name.Name, name: dns.name.Name, kind: RdataType) -> dns.message.Message:
        now = self._clock.monotonic()
        every = [(server.host, address) for server in self.servers(zone) for address in server.addresses]
        reasons = []
        for host, address in sorted(every, key=lambda each: self._silent.get(each[1], now) > now):
            try:
                answer = self._exchange(address, name, kind)
            except (OSError, *UNREADABLE) as error:
                reasons.append(f"{plain(host)} ({address}): {type(error).__name__}")
                continue
            if answer.rcode() in _TELLING:
                return answer
            reasons.append(f"{plain(host)} ({address}): {dns.rcode.to_text(answer.rcode())}")
        told = "; ".join(reasons) or "none of them has an address"
        raise ValidatorUnavailable(
            f"no name server of {plain(zone)} answers for {plain(name)}: {told}",
            advice="see that they are reached by UDP and TCP, or set `nameserver`",
        )

    def _exchange(self, address: Address, name: dns.name.Name, kind: RdataType) -> dns.message.Message:
        """Ask one server, without recursion; one that does not answer is asked after others for a while."""
        try:
            return ask(address, name, kind, self.timeout)
        except (OSError, *UNREADABLE):
            if len(self._silent) >= _MOST_KEPT:
                self._silent.clear()
            self._silent[address] = self._clock.monotonic() + _KEPT
            raise


@dataclass(frozen=True, slots=True)
class _Told:
    """What is said of a name by those who have authority for it, and the zone that it is in."""

    answer: dns.message.Message
    zone: dns.name.Name


def _numeric(servers: Iterable[Address]) -> Iterator[Address]:
    """Yield all addresses of servers that the configuration may name by their hosts."""
    for server in servers:
        with contextlib.suppress(OSError):
            for found in socket.getaddrinfo(server.host, server.port, type=socket.SOCK_DGRAM):
                yield Address(str(found[4][0]), server.port)
