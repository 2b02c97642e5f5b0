"""Downloading the chain of an order that was finished some time ago."""

from __future__ import annotations

from acmems.exceptions import CAProtocolError
from acmems.issuers.acme.certificates.alternates import PEM_CHAIN, preferred
from acmems.issuers.acme.orders.order import OrderStatus, parse
from acmems.issuers.acme.session import Session
from acmems.system.clock import Deadline
from acmems.system.steps import Steps
from acmems.x509.chain import holds_certificates
from acmems.x509.identifiers import Identifier


def downloaded(
    session: Session,
    order_url: str,
    identifiers: tuple[Identifier, ...],
    preferred_chain: str | None,
    deadline: Deadline,
) -> Steps[bytes]:
    """Return the chain of an order as the CA sends it (PEM).

    Args:
        session: the way to the CA.
        order_url: the order.
        identifiers: what was ordered.
        preferred_chain: as for `Ordering`.
        deadline: when to give up.

    Raises:
        CAProtocolError: the CA has no certificate for it.
        CAError, RateLimited, DeadlinePassed: the CA did not answer usably.
    """
    order = parse((yield from session.post(order_url, None, deadline=deadline)), order_url, identifiers)
    if order.status is not OrderStatus.VALID or order.certificate is None:
        raise CAProtocolError(f"the CA has no certificate for the order {order_url}")
    response = yield from session.post(order.certificate, None, deadline=deadline, accept=PEM_CHAIN)
    if not holds_certificates(response.body):
        raise CAProtocolError("the CA's answer is no certificate chain")
    return (yield from preferred(session, response, preferred_chain, deadline)).pem
