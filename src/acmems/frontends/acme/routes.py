"""Which resource is found at which path, and who may ask it by which method.

A table of a dozen rows, and no routing library: what a request target may look like is decided by the HTTP
reader and by this table alone, so that no second parser of paths, queries and percent signs sees it first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from acmems.frontends.acme.answers import AcmeAnswer
from acmems.frontends.acme.linker import TEMPLATES, RouteName
from acmems.frontends.acme.requests import PlainRequest, SignedRequest
from acmems.net.http import Exchange

Signer = Literal["nobody", "key", "account", "either"]
"""Who signs a request: nobody, a key by itself (`jwk`), an account (`kid`), or one of both."""

SignedResource: TypeAlias = Callable[[SignedRequest, Exchange], AcmeAnswer | Future[AcmeAnswer]]
"""Answers signed requests.

It MUST NOT wait for disk or network: what takes long is a future. What it raises, or what the future holds,
becomes a problem document.
"""
PlainResource: TypeAlias = Callable[[PlainRequest, Exchange], AcmeAnswer | Future[AcmeAnswer]]
"""Answers requests that nobody signs; as `SignedResource`."""

READ: Final = ("GET", "HEAD")
SIGNED: Final = ("POST",)


@dataclass(frozen=True, slots=True)
class Route:
    """What is found at one path.

    Args:
        name: what it is called in code.
        signer: who signs requests there.
    """

    name: RouteName
    signer: Signer

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that are answered there."""
        return READ if self.signer == "nobody" else SIGNED


ROUTES: Final = (
    Route("directory", "nobody"),
    Route("new-nonce", "nobody"),
    Route("new-account", "key"),
    Route("account", "account"),
    Route("account-orders", "account"),
    Route("key-change", "account"),
    Route("new-order", "account"),
    Route("order", "account"),
    Route("finalize", "account"),
    Route("authorization", "account"),
    Route("challenge", "account"),
    Route("certificate", "account"),
    Route("alternate", "account"),
    Route("revoke", "either"),
    Route("renewal-info", "nobody"),
)
DIRECTORY: Final[Mapping[str, RouteName]] = {
    "newNonce": "new-nonce",
    "newAccount": "new-account",
    "newOrder": "new-order",
    "revokeCert": "revoke",
    "keyChange": "key-change",
}
"""The members of the directory (RFC 8555 section 7.1.1), and what they lead to."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What answers at the routes, by their names; what has no resource is not there.

    Args:
        plain: at those that nobody signs requests to.
        signed: at the other ones.
    """

    plain: Mapping[RouteName, PlainResource]
    signed: Mapping[RouteName, SignedResource]

    @property
    def names(self) -> frozenset[RouteName]:
        """The names of the routes that are answered."""
        return frozenset((*self.plain, *self.signed))


class RouteTable:
    """Finds the route of a path: one look into a dictionary by its first segment, then few comparisons."""

    def __init__(self) -> None:
        self._by_segment: dict[str, list[tuple[re.Pattern[str], Route]]] = {}
        for route in ROUTES:
            template = TEMPLATES[route.name]
            pattern = re.sub(r"\\\{[a-z]+\\\}", "([A-Za-z0-9_.-]{1,200})", re.escape(template))
            segment = template.split("/")[1]
            self._by_segment.setdefault(segment, []).append((re.compile(pattern, re.ASCII), route))

    def find(self, path: str) -> tuple[Route, tuple[str, ...]] | None:
        """Return the route of a path below the base, and what its template leaves open; None for none."""
        segment = path[1:].partition("/")[0]
        for pattern, route in self._by_segment.get(segment, ()):
            if (match := pattern.fullmatch(path)) is not None:
                return route, match.groups()
        return None
