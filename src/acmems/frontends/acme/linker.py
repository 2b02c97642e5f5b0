"""The URLs of the ACME front end: this is the only place that makes or reads one."""

from __future__ import annotations

import re
from typing import Final, Literal
from urllib.parse import urlsplit

RouteName = Literal[
    "directory",
    "new-nonce",
    "new-account",
    "account",
    "account-orders",
    "key-change",
    "new-order",
    "order",
    "finalize",
    "authorization",
    "challenge",
    "certificate",
    "alternate",
    "revoke",
    "renewal-info",
]
TEMPLATES: Final[dict[RouteName, str]] = {
    "directory": "/directory",
    "new-nonce": "/new-nonce",
    "new-account": "/new-account",
    "account": "/account/{id}",
    "account-orders": "/account/{id}/orders",
    "key-change": "/key-change",
    "new-order": "/new-order",
    "order": "/order/{id}",
    "finalize": "/order/{id}/finalize",
    "authorization": "/authorization/{id}",
    "challenge": "/challenge/{id}/{type}",
    "certificate": "/certificate/{id}",
    "alternate": "/certificate/{id}/{number}",
    "revoke": "/revoke-certificate",
    "renewal-info": "/renewal-info/{id}",
}
"""The paths below the base; `{id}` stands for what names one resource of many."""

_PARAMETER = r"[A-Za-z0-9_.-]{1,200}"
_LONGEST = 2048  # characters of a URL


def _reader(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{[a-z]+\}", template)
    return re.compile(f"({_PARAMETER})".join(map(re.escape, parts)), re.ASCII)


_READERS: Final = {name: _reader(template) for name, template in TEMPLATES.items()}


class Linker:
    """Makes and reads URLs below one base, which never comes from a request.

    Args:
        base: the URL that all begin with, without a slash at the end.
    """

    def __init__(self, base: str) -> None:
        self.base = base
        self._prefix = urlsplit(base).path
        self._origin = base.removesuffix(self._prefix) if self._prefix else base

    def url(self, name: RouteName, *parameters: str, query: str = "") -> str:
        """Return the URL of a resource.

        Args:
            name: what it is.
            parameters: what its template leaves open, in order.
            query: what follows a `?`, if anything.
        """
        parts = iter(parameters)
        path = re.sub(r"\{[a-z]+\}", lambda _: next(parts), TEMPLATES[name])
        return f"{self.base}{path}{f'?{query}' if query else ''}"

    def collection(self, name: RouteName) -> str:
        """Return the URL to which clients append a slash and what names one of many resources."""
        return self.base + TEMPLATES[name].partition("/{")[0]

    def requested(self, target: str) -> str:
        """Return the URL of a request: `url` in the envelope must be the same."""
        return self._origin + target

    def path(self, target: str) -> str | None:
        """Return the path of a request target below the base; None where it is not below it."""
        path = target.partition("?")[0]
        return path[len(self._prefix) :] if path.startswith(f"{self._prefix}/") else None

    def parameters(self, name: RouteName, url: str) -> tuple[str, ...] | None:
        """Return what a URL that a client sent has for the open parts of a template, None for any other URL.

        Args:
            name: what it should be the URL of.
            url: what the client sent.
        """
        if len(url) > _LONGEST or not url.startswith(f"{self.base}/"):
            return None
        match = _READERS[name].fullmatch(url[len(self.base) :])
        return None if match is None else match.groups()

    def up(self, url: str) -> str:
        """Return the `Link` field to what a resource belongs to."""
        return f'<{url}>;rel="up"'

    def alternate(self, url: str) -> str:
        """Return the `Link` field to another chain of the same certificate (RFC 8555 section 7.4.2)."""
        return f'<{url}>;rel="alternate"'
