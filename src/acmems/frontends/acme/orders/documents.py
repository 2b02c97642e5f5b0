"""Orders, authorizations and challenges as clients see them (RFC 8555 section 7.1)."""

from __future__ import annotations

import datetime
import json
from typing import Any

from acmems.frontends.acme.linker import Linker
from acmems.state.acme.order import ClientAuthorization, ClientChallenge, ClientOrder, OrderedName
from acmems.state.acme.statuses import ClientAuthorizationStatus, ClientOrderStatus

_WILDCARD = "*."


def order_document(order: ClientOrder, linker: Linker) -> dict[str, Any]:
    """Return an order as its client sees it (RFC 8555 section 7.1.3)."""
    document: dict[str, Any] = {
        "status": str(order.status),
        "expires": time_text(order.expires),
        "identifiers": [_identifier(each) for each in order.names],
        "authorizations": [
            linker.url("authorization", authorization_id(order, index))
            for index in range(len(order.authorizations))
        ],
        "finalize": linker.url("finalize", order.id),
    }
    if order.profile is not None:
        document["profile"] = order.profile
    if order.replaces is not None:
        document["replaces"] = order.replaces
    if order.status is ClientOrderStatus.VALID:
        document["certificate"] = linker.url("certificate", order.id)
    if order.error is not None:
        document["error"] = json.loads(order.error)
    return document


def authorization_document(order: ClientOrder, index: int, linker: Linker) -> dict[str, Any]:
    """Return an authorization as its client sees it (RFC 8555 section 7.1.4).

    Args:
        order: its order.
        index: its place there.
        linker: makes URLs.
    """
    authorization = order.authorizations[index]
    name = authorization.name
    document: dict[str, Any] = {
        "status": str(authorization.status),
        "expires": time_text(order.expires),
        "identifier": _identifier(OrderedName(name.type, name.value.removeprefix(_WILDCARD))),
        "challenges": [
            challenge_document(order, index, each, linker) for each in _shown_challenges(authorization)
        ],
    }
    if name.value.startswith(_WILDCARD):
        document["wildcard"] = True
    return document


def challenge_document(
    order: ClientOrder, index: int, challenge: ClientChallenge, linker: Linker
) -> dict[str, Any]:
    """Return a challenge as its client sees it (RFC 8555 section 7.1.5).

    Args:
        order: the order of its authorization.
        index: the place of the authorization there.
        challenge: the challenge.
        linker: makes URLs.
    """
    document: dict[str, Any] = {
        "type": challenge.kind,
        "url": linker.url("challenge", authorization_id(order, index), challenge.kind),
        "status": str(challenge.status),
        "token": order.authorizations[index].token,
    }
    if challenge.validated is not None:
        document["validated"] = time_text(challenge.validated)
    if challenge.error is not None:
        document["error"] = json.loads(challenge.error)
    return document


def authorization_id(order: ClientOrder, index: int) -> str:
    """Return what the URL of an authorization ends with."""
    return f"{order.id}.{index}"


def time_text(at: int) -> str:
    """Return a time as RFC 3339 writes it.

    Args:
        at: seconds since 1970.
    """
    return f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"


def _identifier(name: OrderedName) -> dict[str, str]:
    return {"type": str(name.type), "value": name.value}


def _shown_challenges(authorization: ClientAuthorization) -> tuple[ClientChallenge, ...]:
    """Return the challenges to show: of one that is over, those that were tried (section 7.1.4)."""
    if authorization.status in (ClientAuthorizationStatus.PENDING, ClientAuthorizationStatus.DEACTIVATED):
        return authorization.challenges
    tried = tuple(each for each in authorization.challenges if each.validated or each.error)
    return tried or authorization.challenges
