"""The URLs that an http-01 validation may fetch (RFC 8555 section 8.3): rules without I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from acmems.frontends.acme.problems import AcmeProblem
from acmems.x509.identifiers import Identifier, IdentifierType, named

_PATH = "/.well-known/acme-challenge/"
_LONGEST = 2000
# RFC 3986 section 2, in ASCII: no blanks, no control characters, no backslash, which some read as a slash.
_URL = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class HttpPorts:
    """The ports of a scheme each, and no others are connected to.

    Args:
        http: of plain HTTP.
        https: of HTTP over TLS.
    """

    http: int = 80
    https: int = 443

    def of(self, scheme: str) -> int:
        """Return the port of `http` or `https`."""
        return self.https if scheme == "https" else self.http


@dataclass(frozen=True, slots=True)
class HttpUrl:
    """A URL that may be fetched.

    Args:
        scheme: `http` or `https`.
        host: a name or an address.
        port: the TCP port.
        target: path and query.
        is_default: whether the port is the scheme's own, so that it is not written.
    """

    scheme: str
    host: Identifier
    port: int
    target: str
    is_default: bool = True

    @classmethod
    def first(cls, identifier: Identifier, token: str, ports: HttpPorts) -> HttpUrl:
        """Return where a client presents the key authorization."""
        return cls("http", identifier, ports.http, _PATH + token)

    @property
    def authority(self) -> str:
        """What the `Host` header says."""
        is_ipv6 = self.host.type is IdentifierType.IP and ":" in self.host.value
        host = f"[{self.host.value}]" if is_ipv6 else self.host.value
        return host if self.is_default else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    def redirected(self, location: str, ports: HttpPorts) -> HttpUrl:
        """Return where a redirect leads.

        Args:
            location: the value of the `Location` header.
            ports: those that may be used.

        Raises:
            AcmeProblem: nowhere that this server goes to.
        """
        if not _URL.fullmatch(location) or len(location) > _LONGEST:
            raise _refused("its Location header is no URL of reasonable length")
        try:
            parts = urlsplit(urljoin(str(self), location))
            port = parts.port
        except ValueError:
            raise _refused("its Location header is no URL") from None
        if parts.scheme not in {"http", "https"}:
            raise _refused("it leads to another scheme than http and https")
        if parts.username is not None or parts.password is not None:
            raise _refused("its URL names a user")
        if port is not None and port != ports.of(parts.scheme):
            raise _refused(f"it leads to another port than {ports.http} for http and {ports.https} for https")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return HttpUrl(parts.scheme, self._host(parts), ports.of(parts.scheme), target, port is None)

    def _host(self, parts: SplitResult) -> Identifier:
        try:
            host = named((parts.hostname or "").removesuffix("."))
        except ValueError:
            raise _refused("it leads to no host name") from None
        if host.is_wildcard:
            raise _refused("it leads to no host name")
        if host.type is IdentifierType.IP and host != self.host:
            raise _refused("it leads to an IP address: redirect to a name")
        return host


def _refused(reason: str) -> AcmeProblem:
    return AcmeProblem("unauthorized", f"a redirect is not followed: {reason}")
