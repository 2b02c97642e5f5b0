"""Connections to where a name leads: looked up once, judged, and pinned to the address that was judged."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from itertools import zip_longest

from acmems.frontends.acme.problems import AcmeProblem
from acmems.frontends.acme.proving.lookups import Lookups
from acmems.frontends.acme.proving.rates import AddressRates
from acmems.frontends.acme.proving.reach import Reach
from acmems.net.address import Address, IPAddress
from acmems.system.clock import SYSTEM, Clock, Deadline
from acmems.x509.identifiers import Identifier, IdentifierType

_MOST_ADDRESSES = 4  # of one name that are tried
_PATIENCE = 4.0  # seconds for one of them
_IPV6 = 6


def _no_ports() -> Container[int]:
    return ()


@dataclass(frozen=True, slots=True)
class Connector:
    """Connects to where a name leads, if that may be.

    Args:
        lookups: ask the DNS.
        reach: judges addresses.
        rates: how often each address is connected to.
        own_ports: the TCP ports at which this server listens; it never connects to itself.
        clock: for durations.
        stopping: set when the server stops.
    """

    lookups: Lookups
    reach: Reach = field(default_factory=Reach)
    rates: AddressRates = field(default_factory=AddressRates)
    own_ports: Callable[[], Container[int]] = _no_ports
    clock: Clock = SYSTEM
    stopping: threading.Event = field(default_factory=threading.Event)

    def connect(self, target: Identifier, port: int, account: str, deadline: Deadline) -> socket.socket:
        """Return a connection; its timeout is what is left of the time.

        Args:
            target: the name or address to connect to.
            port: the TCP port.
            account: names the account on whose behalf.
            deadline: when it must be there.

        Raises:
            AcmeProblem: there is none; the reason is for the client.
        """
        addresses = self._allowed(target, port, deadline)
        failure = ""
        for place, address in enumerate(addresses):
            self._await_turn(account, address, deadline)
            share = deadline.remaining / (len(addresses) - place)
            limit = deadline.within(min(_PATIENCE, share) if len(addresses) > 1 else deadline.remaining)
            try:
                return _connected(address, port, limit)
            except OSError as error:
                failure = f"{Address(str(address), port)} {_reason(error)}"
        raise AcmeProblem("connection", f"no connection for {target}: {failure}")

    def _allowed(self, target: Identifier, port: int, deadline: Deadline) -> list[IPAddress]:
        """Return the addresses of a target that may be connected to, both families in turn."""
        if target.type is IdentifierType.IP:
            found: tuple[IPAddress, ...] = (ipaddress.ip_address(target.value),)
        else:
            found = self.lookups.addresses(target.value, deadline)
        refusals = {address: self._refusal(address, port) for address in found}
        allowed = [address for address, refusal in refusals.items() if refusal is None]
        if not allowed:
            address, refusal = next(iter(refusals.items()))
            raise AcmeProblem(
                "unauthorized", f"this server does not connect to {address}, where {target} leads: {refusal}"
            )
        sixes = [address for address in allowed if address.version == _IPV6]
        fours = [address for address in allowed if address.version != _IPV6]
        both = [address for pair in zip_longest(sixes, fours) for address in pair if address is not None]
        return both[:_MOST_ADDRESSES]

    def _refusal(self, address: IPAddress, port: int) -> str | None:
        refusal = self.reach.refusal(address)
        if refusal is None and port in self.own_ports() and _is_own(address):
            return "this server listens there itself"
        return refusal

    def _await_turn(self, account: str, address: IPAddress, deadline: Deadline) -> None:
        while (seconds := self.rates.take(account, address)) > 0:
            if seconds > deadline.remaining or self.clock.wait(self.stopping, seconds):
                raise AcmeProblem(
                    "rateLimited", f"too many names lead to {address} at once: ask again in a few minutes"
                )


def _connected(address: IPAddress, port: int, limit: Deadline) -> socket.socket:
    if limit.remaining <= 0:
        raise TimeoutError
    return socket.create_connection((str(address), port), timeout=limit.remaining)


def _is_own(address: IPAddress) -> bool:
    """Tell whether an address is one of this machine: then packets to it come from it. None is sent."""
    family = socket.AF_INET6 if address.version == _IPV6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))  # any port
            own = ipaddress.ip_address(probe.getsockname()[0])
    except OSError:  # nothing leads there
        return False
    return own == address or address.is_loopback


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "does not answer"
    if isinstance(error, ConnectionRefusedError):
        return "refuses the connection"
    return "cannot be reached"
