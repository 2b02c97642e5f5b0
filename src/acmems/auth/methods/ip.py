"""Authentication by the address that a request comes from."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import ClassVar

from acmems.auth.methods.caller import Caller
from acmems.net.address import IPNetwork, parse_network
from acmems.settings.options import Options


class IPAuthMethod:
    """Authentication by source IP, which accepts addresses and networks such as `2001:db8::/32`.

    Raises:
        ValueError: one of them is neither.
    """

    KEYS: ClassVar = ("ip",)

    def __init__(self, ips: Iterable[str | IPNetwork] | None = None) -> None:
        self.networks = [ipaddress.ip_network(ip, strict=False) for ip in ips or ()]
        written = [each.network_address if each.num_addresses == 1 else each for each in self.networks]
        self._known = ", ".join(map(str, written)) or "none"  # made once: each request may ask for it

    @classmethod
    def from_options(cls, options: Options) -> IPAuthMethod | None:
        """Return the method of a block, None where it has no `ip`."""
        networks = options.many("ip", parse_network, meaning="address or network that may send requests")
        return cls(networks) if networks else None

    def may_accept(self, caller: Caller) -> bool:
        """Tell whether the address is in one of the networks."""
        return caller.address is not None and any(caller.address in known for known in self.networks)

    def refusal(self, caller: Caller, body: bytes) -> str | None:  # noqa: ARG002 - the contract
        """Return why the address is not accepted, None if it is in one of the networks."""
        if self.may_accept(caller):
            return None
        return f"the address {caller.address or 'that the proxy gives'} is not in its ip ({self._known})"

    def accepts(self, caller: Caller, body: bytes) -> bool:
        """Tell whether the address is in one of the networks."""
        return self.refusal(caller, body) is None
