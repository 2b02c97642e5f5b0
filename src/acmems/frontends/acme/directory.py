"""The directory and new nonces, which nobody signs requests for (RFC 8555 sections 7.1.1 and 7.2)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from acmems.frontends.acme.answers import AcmeAnswer
from acmems.frontends.acme.linker import Linker, RouteName
from acmems.frontends.acme.requests import PlainRequest
from acmems.frontends.acme.routes import DIRECTORY
from acmems.net.http import Exchange


class DirectoryResource:
    """Tells clients where to begin.

    Args:
        linker: returns what makes URLs.
        offered: the names of the routes that are answered.
        meta: returns the members of `meta`.
    """

    def __init__(
        self,
        linker: Callable[[], Linker],
        offered: Collection[RouteName],
        meta: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._linker = linker
        self._offered = frozenset(offered)
        self._meta = meta

    def __call__(self, request: PlainRequest, exchange: Exchange) -> AcmeAnswer:  # noqa: ARG002 - the contract
        """Return the directory."""
        linker = self._linker()
        document: dict[str, Any] = {
            member: linker.url(name) for member, name in DIRECTORY.items() if name in self._offered
        }
        if "renewal-info" in self._offered:
            document["renewalInfo"] = linker.collection("renewal-info")
        return AcmeAnswer(200, {**document, "meta": dict(self._meta())})


def new_nonce(request: PlainRequest, exchange: Exchange) -> AcmeAnswer:  # noqa: ARG001 - the contract
    """Answer with nothing but the nonce that every answer has: 200 to HEAD, 204 to GET."""
    return AcmeAnswer(200 if exchange.method == "HEAD" else 204)
