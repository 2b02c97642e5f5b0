"""Where a TXT record goes: CNAME and DNAME followed to their end, and the zone there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from acmems.dns.client.answers import below_name, has_own_cname, target_in, zone_in
from acmems.dns.client.cnames import follow, plain, refusal
from acmems.dns.client.servers import NobodyInCharge, ServerFailed, Servers
from acmems.exceptions import ValidatorUnavailable
from acmems.net.address import Address
from acmems.text import one_line


class Targets(Protocol):
    """Looks up where CNAME and DNAME lead, for names of zones that are not ours."""

    def target(self, name: dns.name.Name, /, *, last_resort: bool = False) -> dns.name.Name | None:
        """Return where a CNAME or DNAME leads from a name; None if nowhere.

        Args:
            name: the name.
            last_resort: whether a resolver may be asked for the name itself if no name server answers.

        Raises:
            ValidatorUnavailable: nobody tells.
        """


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record is put.

    Args:
        zone: the zone.
        name: the name in it.
    """

    zone: dns.name.Name
    name: dns.name.Name


class Zones:
    """Finds the places of records.

    Args:
        servers: who has authority for the zones.
        allowed: the zones that may be changed; empty: the one that a record itself is in.
        resolver: tells where CNAMEs lead from names that the servers have no authority for.
    """

    def __init__(self, servers: Servers, allowed: Sequence[dns.name.Name], resolver: Targets) -> None:
        self.servers = servers
        self.allowed = tuple(sorted(allowed, key=len, reverse=True))
        self.resolver = resolver

    def place(self, record: dns.name.Name, timeout: float) -> Place:
        """Return where a record goes.

        Args:
            record: the name of the TXT record that the CA will ask for.
            timeout: how long the answer to each question may take, in seconds.

        Raises:
            ValidatorUnavailable: the servers do not tell, or it must not go there.
        """
        name, zone = follow(record, lambda name: self._look(name, record, timeout))
        if self.allowed:
            return Place(self._allowed(record, name), name)
        if zone is None:
            raise NobodyInCharge(
                f"TXT record {plain(record)}: {self._names()} is not authoritative for {plain(name)}",
                advice="name the primary server of that zone as `dns-server`, or the zone as `zone`",
            )
        if name != record and zone != self._home(record.parent(), record, timeout):
            raise refusal(
                record,
                f"its CNAME leads to {plain(name)}, in the zone {plain(zone)} that is not its own",
                f"if that zone may be changed, add `zone = {plain(zone)}`, and all others that may",
            )
        return Place(zone, name)

    def _allowed(self, record: dns.name.Name, name: dns.name.Name) -> dns.name.Name:
        for zone in self.allowed:
            if name.is_subdomain(zone):
                return zone
        where = "it is" if name == record else f"its CNAME leads to {plain(name)},"
        raise refusal(record, f"{where} in none of the zones that may be changed", "add the zone as `zone`")

    def _look(
        self, name: dns.name.Name, record: dns.name.Name, timeout: float
    ) -> tuple[dns.name.Name | None, dns.name.Name | None]:
        """Return where a CNAME leads from a name, or else the zone that it is in, as far as known."""
        try:
            # Not for SOA: servers follow a CNAME for that, and give up where it leads in a circle.
            answer = self._ask(name, dns.rdatatype.CNAME, record, timeout)
        except NobodyInCharge as error:
            return self._elsewhere(name, error), None
        target = target_in(name, answer)
        if target is not None and not (self._may_change(name) and self._by_wildcard(name, record, timeout)):
            return target, None
        zone = zone_in(name, answer)
        if zone is None and not self.allowed:
            zone = self._home(name, record, timeout)
        return None, zone

    def _may_change(self, name: dns.name.Name) -> bool:
        return not self.allowed or any(name.is_subdomain(zone) for zone in self.allowed)

    def _by_wildcard(self, name: dns.name.Name, record: dns.name.Name, timeout: float) -> bool:
        """Tell whether a wildcard record made the CNAME of a name, which then has no record of its own."""
        below = below_name(name)
        return below is not None and has_own_cname(
            below, self._ask(below, dns.rdatatype.CNAME, record, timeout)
        )

    def _elsewhere(self, name: dns.name.Name, reason: NobodyInCharge) -> dns.name.Name | None:
        try:
            # Without a CNAME there is no place for the record: a resolver that keeps that does no harm.
            return self.resolver.target(name, last_resort=not (self.allowed and self._may_change(name)))
        except ValidatorUnavailable as error:
            if self.allowed:
                return None  # a server may take updates and answer no questions
            raise NobodyInCharge(
                f"{reason}; {one_line(error)}",
                advice="name the primary server of that zone as `dns-server`, or the zone as `zone`",
            ) from None

    def _home(self, name: dns.name.Name, record: dns.name.Name, timeout: float) -> dns.name.Name | None:
        """Return the zone that a name is in, asked for at the name itself and at all above."""
        while name != dns.name.root:
            try:
                answer = self._ask(name, dns.rdatatype.SOA, record, timeout)
                # Servers follow a CNAME for this: the SOA is then that of its target.
                zone = None if target_in(name, answer) else zone_in(name, answer)
            except NobodyInCharge:
                zone = None  # without a SOA of its own, a server may still tell that of a name above
            if zone is not None:
                return zone
            name = name.parent()
        return None

    def _ask(
        self, name: dns.name.Name, kind: dns.rdatatype.RdataType, record: dns.name.Name, timeout: float
    ) -> dns.message.Message:
        # Not recursive: another server's answer would not tell what this one may change.
        question = dns.message.make_query(name, kind, flags=0)

        def judge(server: Address, answer: dns.message.Message) -> dns.message.Message:
            if answer.flags & dns.flags.AA and answer.rcode() in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
                return answer
            if answer.rcode() in {
                dns.rcode.NOERROR,
                dns.rcode.NXDOMAIN,
                dns.rcode.REFUSED,
                dns.rcode.NOTAUTH,
            }:
                raise ServerFailed(
                    server,
                    f"is not authoritative for {plain(name)}",
                    advice="name the primary server of that zone as `dns-server`, or the zone as `zone`",
                    not_its_zone=True,
                )
            raise ServerFailed(
                server,
                f"answered {dns.rcode.to_text(answer.rcode())} when asked for the zone of {plain(name)}",
                advice="look at the log of that server: the zone may not be loaded",
            )

        return self.servers.ask(question, plain(record), self.servers.clock.deadline(timeout), judge)

    def _names(self) -> str:
        return "DNS server " + ", ".join(map(str, self.servers.addresses))
