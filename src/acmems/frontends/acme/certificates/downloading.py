"""Sending the chain of an order to its account (RFC 8555 section 7.4.2)."""

from __future__ import annotations

from acmems.events import DeliveredEvent
from acmems.frontends.acme.answers import AcmeAnswer
from acmems.frontends.acme.linker import Linker
from acmems.frontends.acme.orders.access import own_order
from acmems.frontends.acme.orders.parts import FRONT_END, OrderParts
from acmems.frontends.acme.orders.progress import OrderProgress
from acmems.frontends.acme.problems import AcmeProblem
from acmems.frontends.acme.requests import SignedRequest
from acmems.net.http import Exchange
from acmems.state.acme.order import ClientOrder
from acmems.system.steps import Steps
from acmems.x509.chain import OfferedChain

CHAIN_TYPE = "application/pem-certificate-chain"
_ANY = ("*/*", "application/*", CHAIN_TYPE)


class CertificateResource:
    """Sends chains.

    Where the CA outside offers several, `preferred-chain` has chosen the first. The CA's own links to the
    others are not passed on: clients get them from `AlternateResource`.

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
        order, fingerprint = yield from own_certificate(parts, request)
        check_form(exchange)
        delivery = self._progress.take_delivery(order)
        if delivery is not None and delivery.source == "issued":
            offered: OfferedChain | None = OfferedChain(delivery.chain.pem, delivery.chain.alternates)
        else:
            offered = yield from parts.threads.call(lambda: parts.alternates.offered(fingerprint))
        if offered is None and delivery is not None:
            offered = OfferedChain(delivery.chain.pem)
        if offered is None:
            raise not_kept()
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
        links = links_to_others(parts.linker(), order.id, len(offered.alternates), 0)
        return AcmeAnswer(200, links=links, body=offered.pem, content_type=CHAIN_TYPE)


def own_certificate(parts: OrderParts, request: SignedRequest) -> Steps[tuple[ClientOrder, str]]:
    """Return an order of the account that asks, and the fingerprint of its certificate.

    Args:
        parts: has the orders.
        request: what is asked; its first parameter is the id of the order.

    Raises:
        AcmeProblem: there is none that may be sent, or it is another's.
        StateUnavailable: it cannot be read.
    """
    order = yield from own_order(parts, request, request.parameters[0])
    fingerprint = order.certificate
    if fingerprint is None:
        raise AcmeProblem("malformed", "there is no certificate of this order", status=404)
    if parts.chains.is_revoked(fingerprint):
        raise AcmeProblem("malformed", "this certificate was revoked: make a new order", status=404)
    return order, fingerprint


def not_kept() -> AcmeProblem:
    """Return the problem of a certificate that is not kept any more."""
    return AcmeProblem("malformed", "this certificate is not kept any more: make a new order", status=404)


def links_to_others(linker: Linker, order: str, alternates: int, number: int) -> tuple[str, ...]:
    """Return the `Link` fields from one chain of a certificate to the others (RFC 8555 section 7.4.2).

    Args:
        linker: makes URLs.
        order: the id of the order.
        alternates: how many there are beside the first.
        number: of the chain that is sent, 0 for the first.
    """
    urls = [linker.url("certificate", order)]
    urls += [linker.url("alternate", order, str(each)) for each in range(1, alternates + 1)]
    return tuple(linker.alternate(url) for each, url in enumerate(urls) if each != number)


def check_form(exchange: Exchange) -> None:
    """Refuse who accepts no chain in PEM; who says nothing accepts it.

    Raises:
        AcmeProblem: the client wants another form.
    """
    accepted = [each.partition(";")[0].strip().lower() for each in _accept(exchange).split(",")]
    if any(accepted) and not any(each in _ANY for each in accepted):
        raise AcmeProblem("malformed", f"chains are sent as {CHAIN_TYPE} only", status=406)


def _accept(exchange: Exchange) -> str:
    return ",".join(map(str, exchange.headers.get_all("Accept", ())))
