"""Which addresses are connected to because a client says so: a rule without I/O."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from acmems.net.address import IPAddress, IPNetwork

_NEVER: dict[str, tuple[IPNetwork, ...]] = {
    what: tuple(map(ipaddress.ip_network, networks))
    for what, networks in {
        "loopback": ("127.0.0.0/8", "::1/128"),
        "an unspecified address": ("0.0.0.0/8", "::/128"),
        "link-local": ("169.254.0.0/16", "fe80::/10"),
        # Where clouds tell a machine its secrets: Alibaba, Azure, Oracle, AWS, Google; most use link-local.
        "a metadata service": (
            "100.100.100.200/32",
            "168.63.129.16/32",
            "192.0.0.192/32",
            "fd00:ec2::/32",
            "fd20:ce::254/128",
        ),
        "multicast": ("224.0.0.0/4", "ff00::/8"),
        "reserved": ("240.0.0.0/4",),
    }.items()
}
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052 section 2.1
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")  # RFC 8215: where the IPv4 address stands is not known
_COMPATIBLE = ipaddress.IPv6Network("::/96")  # RFC 4291 section 2.5.5.1
_IPV4_BITS = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Reach:
    """The addresses at which names may be proved.

    Private networks are among them, since this server stands inside. An IPv6 address that carries an IPv4
    address is judged by that as well.

    Args:
        allowed: networks that the operator allows although they would be refused.
    """

    allowed: tuple[IPNetwork, ...] = ()

    def refusal(self, address: IPAddress) -> str | None:
        """Return what keeps an address from being connected to, None if nothing does."""
        for each in (address, *_carried(address)):
            if any(each in network for network in self.allowed):
                continue
            for what, networks in _NEVER.items():
                if any(each in network for network in networks):
                    return what
        if isinstance(address, ipaddress.IPv6Address):
            if address in _LOCAL_NAT64 and not any(address in network for network in self.allowed):
                return "a translated address"
            if address.scope_id is not None:
                return "an address with a scope"
        return None


def _carried(address: IPAddress) -> Iterable[ipaddress.IPv4Address]:
    """Return the IPv4 addresses that an IPv6 address leads to."""
    if not isinstance(address, ipaddress.IPv6Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        found.append(ipaddress.IPv4Address(int(address) & _IPV4_BITS))
    return [each for each in found if each is not None]
