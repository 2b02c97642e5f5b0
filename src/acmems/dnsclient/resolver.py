"""Questions to recursive resolvers: those that are configured, else the system's."""

from __future__ import annotations

from collections.abc import Sequence

import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver

from acmems.exceptions import ValidatorUnavailable
from acmems.ini import Address
from acmems.text import one_line


class Resolver:
    """Asks resolvers; nothing is kept from one question to the next.

    Args:
        servers: the resolvers; empty: those of the system.
        timeout: how long one question may take, in seconds.
    """

    def __init__(self, servers: Sequence[Address] = (), timeout: float = 5.0) -> None:
        self.servers = tuple(servers)
        self.timeout = timeout

    def texts(self, name: dns.name.Name) -> frozenset[str]:
        """Return the TXT values of a name; none where it does not exist.

        Raises:
            ValidatorUnavailable: nobody tells.
        """
        return frozenset(
            b"".join(record.strings).decode("utf-8", "replace") for record in self._ask(name, "TXT")
        )

    def target(self, name: dns.name.Name) -> dns.name.Name | None:
        """Return where a CNAME leads from a name; None if nowhere.

        Raises:
            ValidatorUnavailable: nobody tells.
        """
        for record in self._ask(name, "CNAME"):
            return dns.name.from_text(record.target.to_text())
        return None

    def addresses(self, host: dns.name.Name) -> tuple[str, ...]:
        """Return the addresses of a host.

        Raises:
            ValidatorUnavailable: nobody tells.
        """
        return tuple(record.address for kind in ("A", "AAAA") for record in self._ask(host, kind))

    def nameservers(self, zone: dns.name.Name) -> tuple[dns.name.Name, ...]:
        """Return the name servers of a zone.

        Raises:
            ValidatorUnavailable: nobody tells.
        """
        return tuple(record.target for record in self._ask(zone, "NS"))

    def zone_of(self, name: dns.name.Name) -> dns.name.Name:
        """Return the zone that a name is in.

        Raises:
            ValidatorUnavailable: nobody tells.
        """
        while name != dns.name.root:
            if self._ask(name, "SOA"):
                return name
            name = name.parent()
        raise ValidatorUnavailable("no zone was found")

    def _ask(self, name: dns.name.Name, kind: str) -> Sequence[dns.rdata.Rdata]:
        asked = dns.resolver.Resolver(configure=not self.servers)
        if self.servers:
            asked.nameservers = [dns.nameserver.Do53Nameserver(s.host, s.port) for s in self.servers]
        try:
            return list(asked.resolve(name, kind, lifetime=self.timeout, search=False))
        except (dns.resolver.NoAnswer, dns.resolver.NXDOMAIN):
            return []
        except (dns.exception.DNSException, OSError) as error:
            who = ", ".join(map(str, self.servers)) or "the system's"
            raise ValidatorUnavailable(
                f"resolver {who} does not tell the {kind} records of {one_line(name)}: {type(error).__name__}"
            ) from None
