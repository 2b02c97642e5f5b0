"""Orders whose names have to be proved to a CA outside: that begins as soon as they are ready here.

The certificate request comes last, and some clients wait 30 seconds for their certificate from then on. What
comes of it need not be told: whoever finalizes the order goes on from there, or hears why it has failed.
"""

from __future__ import annotations

from concurrent.futures import Future

from acmems.frontends.acme.orders.parts import OrderParts
from acmems.frontends.acme.orders.profiles import issuers_of
from acmems.frontends.acme.problems import AcmeProblem
from acmems.issuing.preparing.preparation import PreparationRequest
from acmems.state.acme.order import ClientOrder
from acmems.state.acme.statuses import ClientOrderStatus
from acmems.system.steps import Signal, Steps


def prepare(parts: OrderParts, order: ClientOrder, reference: str = "-") -> Future[None] | None:
    """Have the names of an order proved outside, if it is ready and policy still grants it.

    Args:
        parts: what resources work with.
        order: the order.
        reference: names the request in the log that has made it ready.

    Returns:
        a future, as `Issuances.prepare` does; None where nothing is prepared.
    """
    if order.status is not ClientOrderStatus.READY:
        return None
    blocks = parts.policy().auth.blocks
    block = next((each for each in blocks if each.name == order.block), None)
    if block is None or block.refusal(order.identifiers, None) is not None:
        return None
    try:
        issuers = issuers_of(parts.issuances, block.issuers, order.profile)
    except AcmeProblem:
        return None  # since a reload of the configuration; who finalizes the order is told so
    return parts.issuances.prepare(
        PreparationRequest(
            order.identifiers,
            block.validators,
            block.storage,
            reference,
            order.client,
            block.name,
            block.max_orders,
            issuers,
            order.replaces,
        )
    )


def prepared(parts: OrderParts, order: ClientOrder, seconds: float) -> Steps[None]:
    """Do the same, and wait until that has ended, however it has, for so many seconds at most."""
    future = prepare(parts, order)
    if future is not None and not future.done():
        ended = Signal()
        future.add_done_callback(lambda _: parts.loop.soon(ended.set))
        yield ended.wait(seconds)
