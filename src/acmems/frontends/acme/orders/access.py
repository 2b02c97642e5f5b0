"""Finding an order, or one of its authorizations, for the account that has made it."""

from __future__ import annotations

import re

from acmems.frontends.acme.orders.parts import OrderParts
from acmems.frontends.acme.problems import AcmeProblem
from acmems.frontends.acme.requests import SignedRequest
from acmems.state.acme.order import ClientOrder
from acmems.state.acme.statuses import ClientOrderStatus
from acmems.system.steps import Steps

_AUTHORIZATION = re.compile(r"([A-Za-z0-9_-]+)\.(0|[1-9][0-9]{0,3})", re.ASCII)


def own_order(parts: OrderParts, request: SignedRequest, name: str) -> Steps[ClientOrder]:
    """Return an order of the account that asks.

    Args:
        parts: has the orders.
        request: what is asked.
        name: the id of the order.

    Raises:
        AcmeProblem: there is none, or it is another's.
        StateUnavailable: it cannot be read.
    """
    order = parts.orders.known(name)
    if order is None:
        order = yield from parts.threads.call(lambda: parts.orders.find(name))
    # One that is being processed is not over: some clients take an order for lost by its time.
    is_over = order is not None and order.status is not ClientOrderStatus.PROCESSING
    if order is None or (is_over and order.is_expired(parts.now)):
        raise AcmeProblem("malformed", "there is no such order, or not any more: make a new one", status=404)
    if order.account != request.owner.id:
        raise AcmeProblem("unauthorized", "this belongs to another account")
    return order


def as_it_is(parts: OrderParts, order: ClientOrder) -> Steps[ClientOrder]:
    """Return an order as it is by now, which other servers may have changed.

    Raises:
        StateUnavailable: it cannot be read.
    """
    known = parts.orders.known(order.id)
    if known is None:
        known = yield from parts.threads.call(lambda: parts.orders.find(order.id))
    return order if known is None else known


def own_authorization(parts: OrderParts, request: SignedRequest, name: str) -> Steps[tuple[ClientOrder, int]]:
    """Return an order of the account that asks, and the place of one of its authorizations.

    Args:
        parts: has the orders.
        request: what is asked.
        name: what the URL of the authorization ends with.

    Raises:
        AcmeProblem: there is none, or it is another's.
        StateUnavailable: it cannot be read.
    """
    match = _AUTHORIZATION.fullmatch(name)
    if match is None:
        raise _no_authorization()
    order = yield from own_order(parts, request, match[1])
    index = int(match[2])
    if index >= len(order.authorizations):
        raise _no_authorization()
    return order, index


def _no_authorization() -> AcmeProblem:
    return AcmeProblem("malformed", "there is no such authorization", status=404)
