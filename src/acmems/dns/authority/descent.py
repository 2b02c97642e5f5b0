"""Authorities found from a top-level domain down, by the delegations themselves.

The resolver of a site may have a view of its own (split horizon), which is not what a public CA sees. It is
asked for the name servers of top-level domains, and for addresses that no delegation has, and nothing else.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
from dns.rdatatype import RdataType

from acmems.dns.authority.silence import Silences
from acmems.dns.authority.statement import AuthoritativeAnswer
from acmems.dns.client.answers import cut_in
from acmems.dns.client.cnames import plain
from acmems.dns.client.question import UNREADABLE, ask
from acmems.dns.client.resolver import Resolver, ResolverSilent
from acmems.exceptions import ValidatorUnavailable
from acmems.net.address import Address
from acmems.system.clock import NEVER, SYSTEM, Clock, Deadline
from acmems.system.locks import KeyedLocks

logger = logging.getLogger(__name__)

Ask = Callable[[Address, dns.name.Name, RdataType, float], dns.message.Message]
"""Asks one server, without recursion, for so many seconds; as `acmems.dns.client.question.ask`."""

_PORT = 53
_PATIENCE = 1.5  # seconds for one answer of a name server
_RESOLVER_PATIENCE = 2.0  # and for one of the resolver
_MOST_SERVERS = 4  # of a zone that are tried
_KEPT = (60.0, 3600.0)  # seconds for which a delegation is kept, at least and at most
_TOP_KEPT = 3600.0  # and for which the name servers of top-level domains are
_HOST_KEPT = 600.0  # and addresses that the resolver tells
_MOST_ZONES = 10_000
_TELLING = frozenset({dns.rcode.NOERROR, dns.rcode.NXDOMAIN})
_ADDRESSES = (dns.rdatatype.A, dns.rdatatype.AAAA)


@dataclass(frozen=True, slots=True)
class _Delegation:
    """The name servers of a zone, with the addresses that came along; others are looked up when needed."""

    servers: tuple[tuple[dns.name.Name, tuple[str, ...]], ...]
    until: float


class NobodyReached(ValidatorUnavailable):
    """None of the name servers of a zone can be reached."""


class _TooLate(ValidatorUnavailable):
    """The time for a look-up is over, which is nobody's fault."""


class Descent:
    """Asks those who have authority for a name, found from its top-level domain down.

    Args:
        resolver: tells the name servers of top-level domains; None: that of the system.
        clock: for how long delegations are kept.
        port: of the name servers.
        ask_server: asks one server.
    """

    def __init__(
        self,
        resolver: Resolver | None = None,
        *,
        clock: Clock = SYSTEM,
        port: int = _PORT,
        ask_server: Ask = ask,
    ) -> None:
        self._resolver = resolver or Resolver(timeout=_RESOLVER_PATIENCE)
        self._clock = clock
        self._port = port
        self._ask_server = ask_server
        self._silences = Silences(clock)
        self._locks = KeyedLocks()  # of many threads that want to know of one top-level domain, one asks
        self._zones: OrderedDict[dns.name.Name, _Delegation] = OrderedDict()
        self._lock = threading.Lock()  # guards the zones
        self._hosts: dict[dns.name.Name, tuple[float, tuple[str, ...]]] = {}  # until when, and addresses

    @property
    def is_suspended(self) -> bool:
        """Whether nobody is to be asked, because the DNS as a whole did not answer lately."""
        return self._silences.lasts(dns.name.root)

    def ask(self, name: dns.name.Name, kind: RdataType, deadline: Deadline) -> AuthoritativeAnswer:
        """Return what those say of a name who have authority for it.

        Raises:
            ValidatorUnavailable: they say nothing definite, or not in time.
        """
        if self.is_suspended:
            raise NobodyReached("the DNS did not answer lately, so that it is not asked now")
        zone = self._closest(name)
        while True:
            try:
                answer, below = self._ask_zone(zone, name, kind, deadline)
            except _TooLate:
                raise
            except ValidatorUnavailable as error:
                self._forget(zone)  # others may have it by now
                if isinstance(error, NobodyReached) or _is_top(zone):
                    self._note_silence(zone, error)
                raise
            if below is None or answer.flags & dns.flags.AA:
                return AuthoritativeAnswer(answer, below or zone)
            self._learn(below, answer)
            zone = below

    def _note_silence(self, zone: dns.name.Name, error: ValidatorUnavailable) -> None:
        """Leave those alone for a while who do not answer; all of the DNS where its top does not.

        There a firewall may be in the way, or something that answers in the place of all name servers.
        """
        seconds = self._silences.note(dns.name.root if _is_top(zone) else zone)
        if _is_top(zone) and seconds is not None:
            logger.info(
                "the DNS does not answer this server, so that names are not examined before orders for %d "
                "seconds: %s; set `pre-check = none` in [account] if that is meant to be so",
                *(seconds, error),
            )

    def _closest(self, name: dns.name.Name) -> dns.name.Name:
        """Return the closest zone at or above a name whose name servers are known; else find its top's.

        Raises:
            ValidatorUnavailable: nobody tells them.
        """
        now = self._clock.monotonic()
        for depth in range(len(name), 1, -1):
            zone = name.split(depth)[1]
            if (known := self._zones.get(zone)) is not None and now < known.until:
                return zone
        top: dns.name.Name = name.split(2)[1]
        with self._locks.hold(top, NEVER):
            known = self._zones.get(top)
            if known is None or self._clock.monotonic() >= known.until:
                self._find_top(top)
        return top

    def _find_top(self, top: dns.name.Name) -> None:
        if self._silences.lasts(top):
            raise NobodyReached(f"the name servers of {plain(top)} were not known lately")
        try:
            hosts = self._resolver.nameservers(top)
        except ResolverSilent as error:
            self._note_silence(top, error)
            raise
        except ValidatorUnavailable:
            self._silences.note(top)
            raise
        if not hosts:
            self._silences.note(top)
            raise ValidatorUnavailable(f"the resolver knows no name servers of {plain(top)}")
        self._silences.end(top)
        servers = tuple((host, ()) for host in sorted(hosts)[:_MOST_SERVERS])
        self._keep(top, _Delegation(servers, self._clock.monotonic() + _TOP_KEPT))

    def _learn(self, zone: dns.name.Name, referral: dns.message.Message) -> None:
        """Remember the name servers of a zone that another one refers to."""
        hosts: list[dns.name.Name] = []
        seconds = _KEPT[1]
        for rrset in referral.authority:
            if rrset.rdtype == dns.rdatatype.NS and rrset.name == zone:
                hosts += [record.target for record in rrset]
                seconds = min(seconds, float(rrset.ttl))
        addresses = {
            host: tuple(
                record.address
                for rrset in referral.additional
                if rrset.rdtype in _ADDRESSES and rrset.name == host
                for record in rrset
            )
            for host in hosts
        }
        # Those whose addresses are known come first: they cost no look-up.
        servers = sorted(addresses.items(), key=lambda each: not each[1])[:_MOST_SERVERS]
        self._keep(zone, _Delegation(tuple(servers), self._clock.monotonic() + max(_KEPT[0], seconds)))

    def _ask_zone(
        self, zone: dns.name.Name, name: dns.name.Name, kind: RdataType, deadline: Deadline
    ) -> tuple[dns.message.Message, dns.name.Name | None]:
        """Return the first answer of a zone's name servers that tells anything, and the zone below, if any.

        Raises:
            NobodyReached: none of them can be reached.
            ValidatorUnavailable: those that can be do not tell, or not in time.
        """
        if self._silences.lasts(zone):
            raise NobodyReached(f"the name servers of {plain(zone)} did not answer lately")
        known = self._zones.get(zone)
        reasons: list[str] = []
        is_reached = False
        for address in self._addresses(known.servers if known is not None else ()):
            if self._silences.lasts(address):
                reasons.append(f"{address}: did not answer lately")
                continue
            if deadline.passed:
                raise _TooLate(f"no answer for {plain(name)} in time")
            try:
                answer = self._ask_server(address, name, kind, _PATIENCE)
            except (OSError, *UNREADABLE) as error:
                self._silences.note(address)
                reasons.append(f"{address}: {type(error).__name__}")
                continue
            self._silences.end(address)
            is_reached = True
            below = cut_in(answer, zone, name)
            if answer.rcode() in _TELLING and (answer.flags & dns.flags.AA or below is not None):
                for whose in (zone, dns.name.root):
                    self._silences.end(whose)
                return answer, below
            said = dns.rcode.to_text(answer.rcode())
            reasons.append(f"{address}: {'has no authority' if answer.rcode() in _TELLING else said}")
        told = "; ".join(reasons) or "they have no addresses"
        kind_of_error = ValidatorUnavailable if is_reached else NobodyReached
        raise kind_of_error(f"no name server of {plain(zone)} tells {plain(name)}: {told}")

    def _addresses(self, servers: Sequence[tuple[dns.name.Name, tuple[str, ...]]]) -> Iterator[Address]:
        """Yield addresses, IPv4 first: many a machine has no way to the others."""
        for host, known in servers:
            try:
                found = known or self._addresses_of(host)
            except ResolverSilent:
                return
            except ValidatorUnavailable as error:
                logger.debug("the addresses of the name server %s are not known: %s", plain(host), error)
                continue
            for address in sorted(found, key=lambda each: ":" in each)[:2]:
                yield Address(address, self._port)

    def _addresses_of(self, host: dns.name.Name) -> tuple[str, ...]:
        """Return the addresses of a name server that no delegation tells."""
        until, found = self._hosts.get(host, (0.0, ()))
        if self._clock.monotonic() >= until:
            found = self._resolver.addresses(host)
            if len(self._hosts) >= _MOST_ZONES:
                self._hosts.clear()
            self._hosts[host] = (self._clock.monotonic() + _HOST_KEPT, found)
        return found

    def _keep(self, zone: dns.name.Name, delegation: _Delegation) -> None:
        with self._lock:
            self._zones[zone] = delegation
            self._zones.move_to_end(zone)
            while len(self._zones) > _MOST_ZONES:
                self._zones.popitem(last=False)

    def _forget(self, zone: dns.name.Name) -> None:
        with self._lock:
            self._zones.pop(zone, None)


def _is_top(zone: dns.name.Name) -> bool:
    """Tell whether a zone is a top-level domain."""
    return len(zone) <= 2  # noqa: PLR2004 - a label, and the root's
