"""Addresses: where a server listens, and the networks that clients come from."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_HOST_NAME = re.compile(r"(?=.{1,253}\Z)(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")
_LARGEST_PORT = 65535


@dataclass(frozen=True, order=True, slots=True)
class Address:
    """A host (IP address in short form, or name) and a TCP or UDP port; port 0 is any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_network(value: str) -> IPNetwork:
    """Parse an IP address or network, such as 192.0.2.7 or 2001:db8::/32."""
    try:
        return ipaddress.ip_network(value)
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError(
            f"{value!r} is neither an IP address nor a network, such as 192.0.2.0/24 or 2001:db8::/32"
        ) from None
    raise ValueError(
        f"{value!r} is one address within a network: write {meant} for the network, or "
        f"{value.partition('/')[0]} for the address"
    )


def parse_address(value: str, default_port: int | None = None) -> Address:
    """Parse `host:port`, `192.0.2.1:port` or `[2001:db8::1%eth0]:port`.

    Args:
        value: the text.
        default_port: the port where the text has none; None: it must have one.
    """
    if "://" in value:
        raise ValueError(
            f"{value!r} is a URL: write host and port alone, such as 127.0.0.1:1313 or [::1]:1313"
        )
    if default_port is None and re.fullmatch(r"[0-9]{1,5}", value):
        raise ValueError(f"{value!r} is a port without a host: write for instance 127.0.0.1:{value}")
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", value)
    if bracketed:
        host, port = _ipv6(bracketed[1]), bracketed[2]
    elif default_port is not None and value.count(":") > 1:
        host, port = _ipv6(value), None
    else:
        name, colon, rest = value.rpartition(":")
        host, port = _host(name if colon else value), rest if colon else None
    if port is None and default_port is not None:
        return Address(host, default_port)
    if port is None or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > _LARGEST_PORT:
        raise ValueError(
            f"{value!r} needs a port from 0 to {_LARGEST_PORT}, such as 127.0.0.1:1313 or [::1]:1313"
        )
    return Address(host, int(port))


def _ipv6(host: str) -> str:
    try:
        return str(ipaddress.IPv6Address(host))
    except ValueError:
        raise ValueError(f"{host!r} is not an IPv6 address") from None


def _host(host: str) -> str:
    if host in {"", "*"}:
        raise ValueError("a host is missing; for all addresses write 0.0.0.0 and [::]")
    if ":" in host:
        raise ValueError("an IPv6 address stands in brackets, such as [::1]:1313")
    if re.fullmatch(r"[0-9.]+", host):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise ValueError(f"{host!r} is not an IPv4 address") from None
    if not _HOST_NAME.fullmatch(host):
        raise ValueError(f"{host!r} is not a host name")
    return host.lower()
