"""Questions to recursive resolvers: those that are configured, else the system's."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver

from acmems.exceptions import ValidatorUnavailable
from acmems.net.address import Address
from acmems.text import one_line


class ResolverSilent(ValidatorUnavailable):
    """No resolver answers: there is no use in asking it for something else."""


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
        return tuple(address for kind in ("A", "AAAA") for address in self.addresses_of(host, kind))

    def addresses_of(self, host: dns.name.Name, kind: str) -> tuple[str, ...]:
        """Return the addresses of a host that are of one kind, `A` or `AAAA`.

        Raises:
            ValidatorUnavailable: nobody tells.
        """
        return tuple(record.address for record in self._ask(host, kind))

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
        zone = name
        while zone != dns.name.root:
            if self._ask(zone, "SOA"):
                return zone
            zone = zone.parent()
        raise ValidatorUnavailable(
            f"resolver {self._who} knows no zone that {one_line(name.to_text(omit_final_dot=True))} is in",
            advice="set `zone`, or a `resolver` that knows it",
        )

    def _ask(self, name: dns.name.Name, kind: str) -> Sequence[Any]:
        try:
            answer = self._asked().resolve(name, kind, lifetime=self.timeout, search=False)
        except (dns.resolver.NoAnswer, dns.resolver.NXDOMAIN):
            return []
        except (dns.exception.DNSException, OSError, ValueError) as error:
            kind_of_error = (
                ResolverSilent if isinstance(error, dns.exception.Timeout) else ValidatorUnavailable
            )
            raise kind_of_error(
                f"resolver {self._who} does not tell the {kind} records of "
                f"{one_line(name.to_text(omit_final_dot=True))}: {_reason(error)}",
                advice="see that the `resolver`s, or those of the system, answer this machine",
            ) from None
        # Where a CNAME leads is the end of another zone than that of the name.
        return [] if kind == "SOA" and answer.canonical_name != name else list(answer)

    @property
    def _who(self) -> str:
        return ", ".join(map(str, self.servers)) or "of the system"

    def _asked(self) -> dns.resolver.Resolver:
        asked = dns.resolver.Resolver(configure=not self.servers)
        if self.servers:
            asked.nameservers = [
                dns.nameserver.Do53Nameserver(str(found[4][0]), server.port)
                for server in self.servers
                for found in socket.getaddrinfo(server.host, server.port, type=socket.SOCK_DGRAM)
            ]
        return asked


def _reason(error: Exception) -> str:
    if isinstance(error, dns.resolver.NoNameservers):
        return "it fails or refuses"
    if isinstance(error, dns.exception.Timeout):
        return "no answer in time"
    return one_line(error.strerror or error) if isinstance(error, OSError) else type(error).__name__
