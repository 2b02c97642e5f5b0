"""What `[acme]` says of names that are proved to this server."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from acmems.net.address import Address, IPNetwork, parse_address, parse_network
from acmems.settings.options import Options

_DNS_PORT = 53


@dataclass(frozen=True, slots=True)
class ProvingOptions:
    """How names are proved inside.

    Args:
        resolvers: asked for addresses and TXT records; empty: those of the system.
        allowed: networks that are connected to although they would be refused.
    """

    resolvers: tuple[Address, ...] = ()
    allowed: tuple[IPNetwork, ...] = ()

    @classmethod
    def from_options(cls, options: Options) -> ProvingOptions:
        """Read them from `[acme]`."""
        return cls(
            options.many(
                "resolver",
                functools.partial(parse_address, default_port=_DNS_PORT),
                meaning="resolver to ask for names that `prove` has clients prove, `host` or `host:port`; "
                "default: those of the system",
            ),
            options.many(
                "prove-at",
                parse_network,
                meaning="address or network at which names may be proved although it is refused otherwise: "
                "loopback, link-local and multicast addresses, and the metadata services of clouds",
            ),
        )
