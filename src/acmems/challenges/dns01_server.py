"""dns-01 answered by acmems itself, for a zone that the site delegates to it (RFC 8555 section 8.4)."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Self

import dns.exception
import dns.name

from acmems.challenges.context import ValidatorContext
from acmems.challenges.contract import Proof
from acmems.challenges.dns_options import label_option
from acmems.challenges.txt import txt_value
from acmems.dns.server import NameServer, TxtTable, Zone, name_server_plan
from acmems.exceptions import NoChallengeMethodsSupported
from acmems.net.address import Address, parse_address
from acmems.net.listening import ListenerPlan
from acmems.settings.options import Options
from acmems.settings.values import positive_int
from acmems.state.proofs import Found, ProofLookups
from acmems.x509.identifiers import Identifier, IdentifierType, is_name

DEFAULT_LISTENERS = (Address("0.0.0.0", 1353), Address("::", 1353))  # noqa: S104 - resolvers ask from anywhere


class _SharedTexts:
    """Values that other nodes present in a zone: `OtherTexts`."""

    def __init__(self, lookups: ProofLookups, origin: dns.name.Name) -> None:
        self._lookups = lookups
        self._origin = origin

    @property
    def is_active(self) -> bool:
        return self._lookups.is_active

    def find(self, name: dns.name.Name, found: Callable[[Sequence[str] | None], None]) -> bool:
        base = name.relativize(self._origin).to_text().lower()
        if not self._lookups.is_active or not is_name(base):
            return False
        place = _place(name)

        def choose(proofs: Found | None) -> None:
            found(
                None
                if proofs is None
                else [txt_value(each.key_authorization) for each in proofs.get(place, ())]
            )

        self._lookups.find([place], choose)
        return True


class DnsServer:
    """Proves names by TXT records in a zone that it answers for.

    The site points `_acme-challenge.NAME` to `NAME.ZONE` with a CNAME, once.

    Args:
        zone: what it answers for.
        listeners: where it is asked, UDP and TCP.
        rate_limit: queries a second of one network that are answered in full.
        challenge_type: `dns-01` or `dns-account-01`.
    """

    sees_requests = True
    leaves_traces = False
    is_immediate = True
    shows_one_at_a_time = False

    def __init__(
        self,
        name: str,
        zone: Zone,
        listeners: Sequence[Address],
        rate_limit: int = 200,
        challenge_type: str = "dns-01",
    ) -> None:
        self.name = name
        self.challenge_type = challenge_type
        self.listeners = tuple(listeners)
        self._zone = zone
        self._rate_limit = rate_limit

    @classmethod
    def from_options(cls, name: str, options: Options, context: ValidatorContext) -> Self:
        """Make the validator that a section describes."""
        origin = options.required(
            "zone", _dns_name, meaning="zone that is delegated to acmems, such as `acme.example.org`"
        )
        nameservers = options.many(
            "ns",
            _name_server,
            meaning="name server in the delegation of the zone, which is this machine; followed by its "
            "addresses if the name is in the zone itself",
        )
        if not nameservers and not options.has("ns"):
            options.report(f"{options.section} needs 'ns = …', the name of this machine")
        for server in nameservers:
            if origin is not None and server.name.is_subdomain(origin) and not server.addresses:
                options.report(f"ns: {server} lies in the zone, so its addresses must stand behind it", "ns")
        listeners = options.many(
            "listener",
            parse_address,
            DEFAULT_LISTENERS,
            empty_is_none=True,
            meaning="`host:port` or `[v6]:port` on which queries are accepted, over UDP and TCP; forward "
            "port 53 to it; empty: none",
        )
        rate_limit = options.one(
            "rate-limit",
            positive_int,
            200,
            meaning="queries per second from one network (/24, /56) that are answered in full over UDP; "
            "further ones are referred to TCP",
        )
        origin = origin or dns.name.from_text("invalid")
        table = context.records.setdefault(origin, TxtTable(origin, int(time.time())))
        zone = Zone(origin, nameservers, table=table, others=_SharedTexts(context.lookups, origin))
        return cls(name, zone, listeners, rate_limit, label_option(options))

    @property
    def zone(self) -> dns.name.Name:
        """The name of the delegated zone."""
        return self._zone.origin

    @property
    def nameservers(self) -> tuple[NameServer, ...]:
        """The name servers of the zone."""
        return self._zone.nameservers

    def target(self, base: str) -> dns.name.Name:
        """Return where the site's CNAME for a name (without `*.`) leads.

        Raises:
            NoChallengeMethodsSupported: it is too long.
        """
        try:
            return dns.name.from_text(base, self.zone)
        except dns.exception.DNSException:
            raise NoChallengeMethodsSupported(
                f"{base} is too long to be proved here: with .{self.zone.to_text(omit_final_dot=True)} "
                f"behind it is no DNS name"
            ) from None

    def proves(self, identifier: Identifier) -> bool:
        """Tell whether it is a DNS name, wildcard or not."""
        return identifier.type is IdentifierType.DNS

    def locate(self, proofs: Sequence[Proof]) -> Mapping[Proof, str]:
        """Return the names of the records."""
        return {proof: _place(self.target(proof.identifier.base)) for proof in proofs}

    def present(self, proofs: Sequence[Proof]) -> None:
        """Answer with these records from now on."""
        for proof, name in [(proof, self.target(proof.identifier.base)) for proof in proofs]:
            self._zone.add(name, txt_value(proof.key_authorization), proof.on_request)

    def withdraw(self, proofs: Sequence[Proof]) -> None:
        """Answer with these records no more."""
        for proof in proofs:
            try:
                name = self.target(proof.identifier.base)
            except NoChallengeMethodsSupported:
                continue  # then no record was presented for it
            self._zone.remove(name, txt_value(proof.key_authorization), proof.on_request)

    def plan(self, descriptors: int | None = None) -> ListenerPlan:
        """Return what its listener is to be.

        Args:
            descriptors: how many connections may be open; None: as many as the protocol's limits say.
        """
        return name_server_plan(
            f"dns {self.name}",
            self._zone,
            self.listeners,
            self._rate_limit,
            defaults=DEFAULT_LISTENERS,
            descriptors=descriptors,
        )

    def __repr__(self) -> str:
        return f"DnsServer({self.name!r}, {self.zone.to_text(omit_final_dot=True)})"


def _place(name: dns.name.Name) -> str:
    return f"dns:{name.canonicalize().to_text()}"


def _dns_name(text: str) -> dns.name.Name:
    return dns.name.from_text(Identifier.dns(text.rstrip(".")).value)


def _name_server(text: str) -> NameServer:
    name, *addresses = text.split() or [""]
    return NameServer(_dns_name(name), tuple(map(ipaddress.ip_address, addresses)))
