"""`[metrics]`: where monitoring systems ask."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Self

from acmems.net.address import Address, parse_address
from acmems.settings.options import Options


@dataclass(frozen=True, slots=True)
class MetricsOptions:
    """`[metrics]`: where monitoring systems ask.

    Args:
        listeners: where they do; none: they cannot.
    """

    listeners: tuple[Address, ...]

    @classmethod
    def from_options(cls, options: Options) -> Self:
        """Read the section; what is wrong becomes findings."""
        listeners = options.many(
            "listener",
            parse_address,
            empty_is_none=True,
            meaning="`host:port` or `[v6]:port` on which `/metrics`, `/healthz` and `/readyz` are answered, "
            "to anybody; without this key: none",
        )
        for address in listeners:
            if _is_public(address):
                options.report(
                    f"{address} may be reached from everywhere, and whoever asks there learns the names of "
                    f"auth blocks and storages: use a loopback or internal address",
                    "listener",
                    warning=True,
                )
        return cls(listeners)


def _is_public(address: Address) -> bool:
    try:
        host = ipaddress.ip_address(address.host)
    except ValueError:
        return False  # which addresses a host name has is not looked up here
    return host.is_unspecified or host.is_global
