"""The keys of `[account]` about what is looked up before orders."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final, Self

from acmems.net.address import Address, parse_address
from acmems.settings import values
from acmems.settings.options import Options

PUBLIC_CAS: Final = frozenset(
    {
        "https://acme-v02.api.letsencrypt.org/directory",
        "https://acme-staging-v02.api.letsencrypt.org/directory",
        "https://acme.zerossl.com/v2/DV90",
        "https://dv.acme-v02.api.pki.goog/directory",
    }
)
"""The directories of CAs that see names as all the world does."""

_DNS_PORT = 53
_CAA, _ADDRESSES, _ALL, _NONE = "caa", "addresses", "all", "none"


@dataclass(frozen=True, slots=True)
class PreCheckOptions:
    """What is looked up of a name before it is ordered.

    Args:
        caa: whether its CAA records are.
        addresses: whether its addresses are, and whether its domain is registered.
        nameservers: asked in the place of those that the DNS itself names.
    """

    caa: bool = False
    addresses: bool = False
    nameservers: tuple[Address, ...] = ()

    @classmethod
    def from_options(cls, options: Options, directory_url: str) -> Self:
        """Read the keys; what is wrong becomes findings.

        Args:
            options: the section.
            directory_url: the CA's directory.
        """
        wanted = options.one(
            "pre-check",
            values.choice(_CAA, _ADDRESSES, _ALL, _NONE),
            None,
            meaning="what is looked up in the DNS before an order, which is not placed if it must fail: "
            "`caa`: CAA records; `addresses`: whether the name has one (for `http01` and `tls-alpn01`), and "
            "whether its domain is registered; `all`: both; `none`; default: `all` for CAs that are known to "
            "be public, otherwise `caa`",
        )
        nameservers = options.many(
            "pre-check-nameserver",
            functools.partial(parse_address, default_port=_DNS_PORT),
            meaning="name server to query for that, `host` or `host:port`, instead of those that the public "
            "DNS names, for a CA that sees the names of a site as they are inside (split horizon)",
        )
        if wanted is None:
            return cls(True, directory_url in PUBLIC_CAS, nameservers)
        return cls(wanted in {_CAA, _ALL}, wanted in {_ADDRESSES, _ALL}, nameservers)


NO_PRE_CHECKS: Final = PreCheckOptions()
