"""Sending the chain of an order to its account (RFC 8555 section 7.4.2)."""

from __future__ import annotations

from acmems.events import DeliveredEvent
from acmems.frontends.acme.answers import AcmeAnswer
from acmems.frontends.acme.orders.access import own_order
from acmems.frontends.acme.orders.parts import FRONT_END, OrderParts
from acmems.frontends.acme.orders.progress import OrderProgress
from acmems.frontends.acme.problems import AcmeProblem
from acmems.frontends.acme.requests import SignedRequest
from acmems.net.http import Exchange
from acmems.system.steps import Steps

CHAIN_TYPE = "application/pem-certificate-chain"
_ANY = ("*/*", "application/*", CHAIN_TYPE)


class CertificateResource:
    """Sends chains.

    There is one chain for an order: where the CA outside offers several, `preferred-chain` has chosen. Its
    links to others lead to that CA, and are not passed on.

    Args:
        parts: what it works with.
        progress: has orders issued.
    """

    def __init__(self, parts: OrderParts, progress: OrderProgress) -> None:
        self._parts = parts
        self._progress = progress

    def __call__(self, request: SignedRequest, exchange: Exchange) -> Steps[AcmeAnswer]:
        """Return the chain of an order, the leaf first.

        Raises:
            AcmeProblem: there is none, or it is another's, or it is wanted in another form.
            StateUnavailable: it cannot be read.
        """
        request.require_get()
        parts = self._parts
        order = yield from own_order(parts, request, request.parameters[0])
        fingerprint = order.certificate
        if fingerprint is None:
            raise AcmeProblem("malformed", "there is no certificate of this order", status=404)
        _check_form(exchange)
        if parts.chains.is_revoked(fingerprint):
            raise AcmeProblem("malformed", "this certificate was revoked: make a new order", status=404)
        delivery = self._progress.take_delivery(order)
        if delivery is not None:
            pem: bytes | None = delivery.chain.pem
        else:
            pem = yield from parts.threads.call(lambda: parts.chains.pem_of(fingerprint))
        if pem is None:
            raise AcmeProblem(
                "malformed", "this certificate is not kept any more: make a new order", status=404
            )
        parts.tell(
            DeliveredEvent(
                reference=exchange.reference,
                client=request.client,
                names=tuple(each.value for each in order.identifiers),
                block=order.block,
                front_end=FRONT_END,
                status=200,
                source="stored" if delivery is None else delivery.source,
                seconds=0.0,
                fingerprint=fingerprint,
            )
        )
        return AcmeAnswer(200, body=pem, content_type=CHAIN_TYPE)


def _check_form(exchange: Exchange) -> None:
    """Refuse who accepts no chain in PEM; who says nothing accepts it.

    Raises:
        AcmeProblem: the client wants another form.
    """
    accepted = [each.partition(";")[0].strip().lower() for each in _accept(exchange).split(",")]
    if any(accepted) and not any(each in _ANY for each in accepted):
        raise AcmeProblem("malformed", f"chains are sent as {CHAIN_TYPE} only", status=406)


def _accept(exchange: Exchange) -> str:
    return ",".join(map(str, exchange.headers.get_all("Accept", ())))
