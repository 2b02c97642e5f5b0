"""Records, as those see them who have authority for them."""

from __future__ import annotations

from typing import Any

import dns.name
import dns.rdatatype
from dns.rdatatype import RdataType

from acmems.dns.client.delegations import Delegations
from acmems.dns.client.resolver import Resolver, ResolverSilent
from acmems.exceptions import ValidatorUnavailable


class Records:
    """Looks records up where a resolver that the CA shares learns nothing of it.

    The resolver is asked itself only if no name server answers: it would keep "no such name" beyond the
    moment in which somebody creates a record that was missing.

    Args:
        resolver: asked for name servers, and for what these do not tell.
        delegations: finds name servers; None: by that resolver.
    """

    def __init__(self, resolver: Resolver, delegations: Delegations | None = None) -> None:
        self.resolver = resolver
        self.delegations = delegations or Delegations(resolver)

    def texts(self, name: dns.name.Name) -> frozenset[str]:
        """Return the TXT values of a name; none where it does not exist.

        Raises:
            ValidatorUnavailable: nobody tells.
        """
        try:
            found = self._find(name, dns.rdatatype.TXT)
        except ResolverSilent:
            raise
        except ValidatorUnavailable:
            return self.resolver.texts(name)
        return frozenset(b"".join(record.strings).decode("utf-8", "replace") for record in found)

    def target(self, name: dns.name.Name) -> dns.name.Name | None:
        """Return where a CNAME leads from a name; None if nowhere.

        Raises:
            ValidatorUnavailable: nobody tells.
        """
        return self.delegations.target(name, last_resort=True)

    def nameservers(self, zone: dns.name.Name) -> tuple[dns.name.Name, ...]:
        """Return the name servers of a zone, as the zone above has them.

        Raises:
            ValidatorUnavailable: nobody tells.
        """
        try:
            return tuple(record.target for record in self._find(zone, dns.rdatatype.NS))
        except ResolverSilent:
            raise
        except ValidatorUnavailable:
            return self.resolver.nameservers(zone)

    def addresses(self, host: dns.name.Name) -> tuple[str, ...]:
        """Return the addresses of a host, as a zone above has them if it must.

        Raises:
            ValidatorUnavailable: nobody tells.
        """
        try:
            return tuple(
                record.address
                for kind in (dns.rdatatype.A, dns.rdatatype.AAAA)
                for record in self._find(host, kind)
            )
        except ResolverSilent:
            raise
        except ValidatorUnavailable:
            return self.resolver.addresses(host)

    def _find(self, name: dns.name.Name, kind: RdataType) -> tuple[Any, ...]:
        return self.delegations.records(name, kind)
