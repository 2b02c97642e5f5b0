"""Where a CA lives: the one origin that all its URLs must have (RFC 8555 section 6.1, RFC 6454)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from acmems.text import one_line

_LONGEST_URL = 2048
_PATH = re.compile(r"(?:/[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=%-]*)?")
_URL = re.compile(rf"https://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{1,5}})?{_PATH.pattern}")


@dataclass(frozen=True, slots=True)
class Origin:
    """Host and port of a CA; the scheme is always https.

    Args:
        host: lower-case name or address, IPv6 without brackets.
        port: the TCP port.
    """

    host: str
    port: int

    @property
    def authority(self) -> str:
        """Host and port as URLs and `Host` headers have them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 443 else f"{host}:{self.port}"  # noqa: PLR2004 - https

    def __str__(self) -> str:
        return f"https://{self.authority}"

    def has(self, url: str) -> bool:
        """Tell whether a URL is one of this origin, spelled as this server spells it."""
        start = str(self)
        return (
            url.startswith(start)
            and len(url) <= _LONGEST_URL
            and _PATH.fullmatch(url, len(start)) is not None
        )

    @classmethod
    def of(cls, url: str) -> Origin:
        """Return the origin of a URL.

        Raises:
            ValueError: it is no https URL, or has a user name, a fragment or odd characters.
        """
        if len(url) > _LONGEST_URL or not _URL.fullmatch(url):
            raise ValueError(f"{one_line(url, 200)!r} is not a plain https URL")
        parts = urlsplit(url)  # raises ValueError for a bad IPv6 address, and `port` for a bad port
        if not parts.hostname or parts.port == 0:
            raise ValueError(f"{one_line(url, 200)!r} is not a plain https URL")
        return cls(parts.hostname, parts.port or 443)


def target(url: str) -> str:
    """Return path and query of a URL, as a request line has them (RFC 9112 section 3.2.1)."""
    slash = url.find("/", len("https://"))
    return url[slash:] if slash > 0 else "/"
