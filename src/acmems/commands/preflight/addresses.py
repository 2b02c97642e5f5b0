"""Whether the server will be able to listen where it should."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from acmems.config import Configuration
from acmems.config.listener_uses import ListenerUse
from acmems.net.address import Address
from acmems.net.holders import Holder, holders
from acmems.net.trial import LACKING, try_address
from acmems.settings.findings import Finding
from acmems.system.permissions import user_name

_LOW_PORTS = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
_FIRST_HIGH_PORT = 1024
_GRANT = (
    "let systemd grant it (systemctl edit acmems: AmbientCapabilities=CAP_NET_BIND_SERVICE, "
    "CapabilityBoundingSet=CAP_NET_BIND_SERVICE and PrivateUsers=no in [Service]), or listen on a port from "
    f"{_FIRST_HIGH_PORT} on and forward this one to it"
)


def check(config: Configuration) -> Iterator[Finding]:
    """Yield where the server cannot listen; a server that runs there already is not in the way."""
    for use in config.listener_uses:
        error = try_address(use.address, datagrams=use.takes_datagrams)
        if error is None:
            if os.geteuid() == 0 and use.address.port and _is_low(use.address.port):
                text = (
                    f"{use.address}: root may listen on a port below {_FIRST_HIGH_PORT}; any other user, "
                    f"such as that of the systemd unit, needs the capability CAP_NET_BIND_SERVICE: {_GRANT}"
                )
                yield Finding(use.location, text, warning=True)
        elif use.is_written or error.errno not in LACKING:
            yield from _findings(use, error)


def refused_listener(config: Configuration, error: OSError) -> Finding | None:
    """Return what to do about an address that a start could not listen on; None for another error.

    Args:
        config: the configuration.
        error: an error whose `filename` is the address.
    """
    for use in config.listener_uses:
        if str(use.address) == error.filename:
            return Finding(use.location, _words(use.address, error, _holders(use, error)))
    return None


def _findings(use: ListenerUse, error: OSError) -> Iterator[Finding]:
    taken_by = _holders(use, error)
    if any(holder.is_acmems for holder in taken_by):
        return
    # A socket of systemd's may be meant for acmems, and so may a process that cannot be looked at.
    is_uncertain = any(holder.pid in {None, 1} for holder in taken_by)
    yield Finding(use.location, _words(use.address, error, taken_by), warning=is_uncertain)


def _holders(use: ListenerUse, error: OSError) -> list[Holder]:
    """Return who has an address already, which whoever checks may not even be allowed to ask for."""
    if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
        return []
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM) if use.takes_datagrams else (socket.SOCK_STREAM,)
    try:
        found = socket.getaddrinfo(use.address.host, use.address.port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    hosts = dict.fromkeys(str(place[0]) for *_, place in found)
    return [holder for host in hosts for kind in kinds for holder in holders(host, use.address.port, kind)]


def _words(address: Address, error: OSError, taken_by: Sequence[Holder]) -> str:
    """Say why an address cannot be listened on, and what to do."""
    if taken_by or error.errno == errno.EADDRINUSE:
        if not taken_by:
            return f"{address} is in use by another program: end it, or write another port"
        who = " and ".join(dict.fromkeys(map(str, taken_by)))
        unless = (
            "unless that is acmems, or systemd for it, "
            if any(holder.pid in {None, 1} for holder in taken_by)
            else ""
        )
        return f"{address} is in use by {who}: {unless}end it, or write another port"
    if error.errno == errno.EACCES and _is_low(address.port):
        return (
            f"{address}: ports below {_FIRST_HIGH_PORT} need the capability CAP_NET_BIND_SERVICE, which the "
            f"user {user_name(os.geteuid())} does not have here: {_GRANT}"
        )
    if error.errno == errno.EACCES:
        return (
            f"{address}: the system does not let this program listen on the port {address.port}: see what "
            f"SELinux or another security module has logged"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{address}: this machine does not have this address: 'ip address' shows those that it has"
    if error.errno == errno.EAFNOSUPPORT:
        return f"{address}: this machine has no IPv6: remove this listener"
    words = (error.strerror or str(error)).removeprefix("cannot listen: ")
    if error.errno is not None and error.errno < 0:  # of getaddrinfo
        return f"{address}: no address is known for this name ({words}): write an IP address"
    return f"{address} cannot be listened on: {words}"


def _is_low(port: int) -> bool:
    """Tell whether a port needs a capability."""
    try:
        return port < int(_LOW_PORTS.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return port < _FIRST_HIGH_PORT
