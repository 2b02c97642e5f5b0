"""The registered domain of a name, which CAs count certificates by."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from publicsuffixlist import PublicSuffixList

from acmems.x509.identifiers import Identifier, IdentifierType

_IPV6_BITS = 64


def registered_domain(identifier: Identifier) -> str:
    """Return what a CA counts a certificate with this identifier for.

    Of a DNS name that is the domain below a public suffix, as bought from a registrar; of an IPv4 address the
    address, of an IPv6 address its network of 64 bits. A public suffix itself counts as its own.

    Args:
        identifier: a DNS name, with or without "*.", or an IP address.
    """
    if identifier.type is IdentifierType.IP:
        address = ipaddress.ip_address(identifier.value)
        if address.version == 6:  # noqa: PLR2004 - its own version number
            return str(ipaddress.ip_network((address, _IPV6_BITS), strict=False))
        return str(address)
    name = identifier.value.removeprefix("*.")
    return _suffixes().privatesuffix(name) or name


@lru_cache(maxsize=1)
def _suffixes() -> PublicSuffixList:
    """Return the list that the library ships; it is never fetched."""
    return PublicSuffixList()
