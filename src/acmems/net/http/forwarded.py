"""For whom a proxy speaks: `X-Forwarded-For`, as far as it is to be believed."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Sequence

from acmems.net.address import IPAddress, IPNetwork


def forwarded_for(
    peer: str, forwarded: Sequence[str], trusted_proxies: Sequence[IPNetwork]
) -> IPAddress | None:
    """Return the address that a request comes from; None where it is not understood.

    `X-Forwarded-For` counts only from a trusted proxy, and then its rightmost hop that is no trusted
    proxy itself, since the client may have written everything left of it.

    Args:
        peer: the address of the TCP peer.
        forwarded: the values of the request's `X-Forwarded-For` headers.
        trusted_proxies: who is believed.
    """
    address = parsed(peer)
    hops = [hop.strip() for value in forwarded for hop in value.split(",")]
    while hops and address is not None and is_among(address, trusted_proxies):
        address = parsed(hops.pop())
    return address


def is_among(address: IPAddress | None, networks: Sequence[IPNetwork]) -> bool:
    """Tell whether an address is in one of some networks."""
    return address is not None and any(address in network for network in networks)


@functools.lru_cache(maxsize=4096)
def parsed(text: str) -> IPAddress | None:
    """Return an address, IPv4 in its own form; None where it is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
