"""What a local CA publishes: its root, and the list of what is revoked (RFC 5280 section 4.2.1.13)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from acmems.exceptions import HttpRefusal
from acmems.net.http import HttpResponse

PUBLISHED: Final = "/ca/"
"""How the paths begin at which local CAs publish: `/ca/NAME.crl` and `/ca/NAME.pem`."""
ALLOWED: Final = "GET, HEAD"

Published = Callable[[str, str], bytes | None]
"""Returns what a local CA publishes, by its name and one of `MEDIA_TYPES`; None where there is nothing."""

MEDIA_TYPES: Final = {
    "crl": "application/pkix-crl",  # RFC 2585 section 4.2
    "pem": "application/pem-certificate-chain",
}
_FRESH_SECONDS = 600


def published_response(target: str, method: str, published: Published) -> HttpResponse:
    """Return what is answered to a request for what a local CA publishes.

    Args:
        target: the path, which begins with `PUBLISHED`.
        method: the method.
        published: what there is.

    Raises:
        HttpRefusal: there is nothing there, or the method is another.
    """
    name, _, kind = target.removeprefix(PUBLISHED).rpartition(".")
    body = published(name, kind) if kind in MEDIA_TYPES else None
    if body is None:
        raise HttpRefusal(404, "no local CA publishes anything here")
    if method not in {"GET", "HEAD"}:
        raise HttpRefusal(405, f"only {ALLOWED} is answered here", {"Allow": ALLOWED})
    return HttpResponse(200, body, MEDIA_TYPES[kind], {"Cache-Control": f"max-age={_FRESH_SECONDS}"})
