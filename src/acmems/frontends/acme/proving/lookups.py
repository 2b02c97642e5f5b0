"""What the DNS says of names that clients prove, asked of the resolvers that are configured."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import dns.name

from acmems.dns.client.resolver import Resolver, ResolverSilent
from acmems.exceptions import ValidatorUnavailable
from acmems.frontends.acme.problems import AcmeProblem
from acmems.net.address import Address, IPAddress
from acmems.system.clock import Deadline

_PATIENCE = 5.0  # seconds for one question


class Lookups:
    """Asks resolvers; nothing is kept from one question to the next, so that an answer is as good as now.

    Args:
        servers: the resolvers; empty: those of the system.
    """

    def __init__(self, servers: Sequence[Address] = ()) -> None:
        self._servers = tuple(servers)

    def addresses(self, host: str, deadline: Deadline) -> tuple[IPAddress, ...]:
        """Return the addresses of a host, those of IPv6 first.

        Raises:
            AcmeProblem: it has none, or nobody tells.
        """
        name = dns.name.from_text(host)
        found: list[IPAddress] = []
        failures: list[str] = []
        for kind in ("AAAA", "A"):
            try:
                found += map(ipaddress.ip_address, self._resolver(deadline).addresses_of(name, kind))
            except ValidatorUnavailable as error:
                failures.append(_failure(host, error))
        if found:
            return tuple(found)
        if failures:
            raise AcmeProblem("dns", failures[0])
        raise AcmeProblem("dns", f"{host} has no A or AAAA records")

    def texts(self, name: dns.name.Name, deadline: Deadline) -> frozenset[str]:
        """Return the TXT values of a name, or of where its CNAMEs lead; none where it does not exist.

        Raises:
            AcmeProblem: nobody tells.
        """
        try:
            return self._resolver(deadline).texts(name)
        except ValidatorUnavailable as error:
            raise AcmeProblem("dns", _failure(name.to_text(omit_final_dot=True), error)) from None

    def _resolver(self, deadline: Deadline) -> Resolver:
        seconds = deadline.within(_PATIENCE).remaining
        if seconds <= 0:
            raise AcmeProblem("dns", "the DNS took too long to answer")
        return Resolver(self._servers, seconds)


def _failure(name: str, error: ValidatorUnavailable) -> str:
    """Say what is wrong without the addresses of the resolvers, which are no client's business."""
    what = "gives no answer in time" if isinstance(error, ResolverSilent) else "gives no usable answer"
    return f"the DNS {what} for {name}"
