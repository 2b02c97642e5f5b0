"""Finalizing orders (RFC 8555 section 7.4): the certificate request must ask for what was ordered."""

from __future__ import annotations

from acmems.auth import Block
from acmems.auth.names import judge_names
from acmems.auth.processor import MAX_SIZE
from acmems.exceptions import PayloadInvalid
from acmems.frontends.acme.answers import AcmeAnswer
from acmems.frontends.acme.envelope.members import decoded
from acmems.frontends.acme.orders.access import own_order
from acmems.frontends.acme.orders.documents import order_document
from acmems.frontends.acme.orders.parts import OrderParts
from acmems.frontends.acme.orders.profiles import issuers_of
from acmems.frontends.acme.orders.progress import OrderProgress, OrderView
from acmems.frontends.acme.problems import AcmeProblem, malformed
from acmems.frontends.acme.requests import SignedRequest
from acmems.issuing.requests import AcceptedRequest
from acmems.net.http import Exchange
from acmems.state.acme.order import ClientOrder
from acmems.state.acme.statuses import ClientOrderStatus
from acmems.system.steps import Steps, outcome
from acmems.x509 import csr
from acmems.x509.csr import CertificateRequest


class FinalizeResource:
    """Takes certificate requests for orders.

    Args:
        parts: what it works with.
        progress: has orders issued.
    """

    def __init__(self, parts: OrderParts, progress: OrderProgress) -> None:
        self._parts = parts
        self._progress = progress

    def __call__(self, request: SignedRequest, exchange: Exchange) -> Steps[AcmeAnswer]:
        """Have an order issued, and answer with it: when it has ended, or as it is after a while.

        The same certificate request once more is answered in the same way, as for a client that has lost the
        first answer.

        Raises:
            AcmeProblem: the order is not ready, or the request is none for it.
            StateUnavailable: that cannot be noted.
        """
        parts = self._parts
        order = yield from own_order(parts, request, request.parameters[0])
        wanted = self._request(request)
        accepted = None
        if order.status is ClientOrderStatus.READY:
            accepted = self._accepted(request, exchange, order, wanted)
            now, block = parts.now, accepted.block or order.block
            # Of several at once, one counts, whichever server they have come to.
            changed = yield from outcome(
                parts.orders.change(order.id, lambda each: each.finalize(wanted.pem, now, block))
            )
            order = changed if changed is not None else order
        if order.csr != wanted.pem:
            raise _not_ready(order)
        view = yield from self._progress.follow(order, exchange.reference, lambda: exchange.gone, accepted)
        return order_answer(parts, view)

    def _request(self, request: SignedRequest) -> CertificateRequest:
        """Read the certificate request.

        Raises:
            AcmeProblem: there is none, or none that is acceptable.
        """
        text = request.json().get("csr")
        if not isinstance(text, str):
            raise malformed("'csr' must be a certificate request: its DER in base64url")
        encoded = decoded(text, "'csr'")
        if len(encoded) > MAX_SIZE:
            raise AcmeProblem("badCSR", f"the certificate request is larger than {MAX_SIZE} bytes")
        try:
            read = csr.parse_der(encoded, self._parts.policy().auth.rules)
        except PayloadInvalid as error:
            raise AcmeProblem("badCSR", str(error)) from None
        if read.spki == request.key.public_octets:
            raise AcmeProblem(
                "badCSR", "the certificate request is for the key of the account: make another key"
            )
        return read

    def _accepted(
        self, request: SignedRequest, exchange: Exchange, order: ClientOrder, wanted: CertificateRequest
    ) -> AcceptedRequest:
        """Return what an issuance is asked for.

        Raises:
            AcmeProblem: the names are not those of the order, or the policy of today does not grant them.
        """
        parts, ordered = self._parts, order.identifiers
        if wanted.identifiers != ordered:
            missing = [each.value for each in ordered if each not in wanted.identifiers]
            further = [each.value for each in wanted.identifiers if each not in ordered]
            said = [
                f"{words} {', '.join(names)}"
                for words, names in (("it lacks", missing), ("it also holds", further))
                if names
            ]
            raise AcmeProblem(
                "badCSR",
                f"the names of the certificate request are not those of the order: {'; '.join(said)}",
            )
        policy = parts.policy()
        satisfied = [each for each in policy.auth.blocks if _is_proved(order, each)]
        first = [each for each in satisfied if each.name == order.block]
        others = [each for each in satisfied if each.name != order.block]
        verdict = judge_names([*first, *others], request.caller, ordered)
        block = verdict.block
        if block is None:
            names = ", ".join(each.identifier.value for each in verdict.refusals)
            raise AcmeProblem(
                "unauthorized",
                f"these names are not granted any more: {names}",
                advice=verdict.reason,
                names=wanted.names,
            )
        return AcceptedRequest(
            wanted,
            block.validators,
            block.storage,
            exchange.reference,
            request.client,
            block.name,
            grants=block.grants,
            most_orders=block.max_orders,
            arrived=parts.clock.monotonic(),
            seconds=policy.seconds,
            subject=policy.subject,
            issuers=issuers_of(parts.issuances, block.issuers, order.profile),
            replaces=order.replaces,
        )


def _is_proved(order: ClientOrder, block: Block) -> bool:
    """Tell whether an order has the proofs that a block wants, which may want more than the one of before."""
    wanted = ((each, block.proof.types_for(each.name.identifier)) for each in order.authorizations)
    return not block.proof.is_required or all(each.is_proved_by(types) for each, types in wanted)


def order_answer(parts: OrderParts, view: OrderView) -> AcmeAnswer:
    """Return the answer that shows an order; some clients look at its `Location` from then on."""
    linker = parts.linker()
    headers = {"Location": linker.url("order", view.order.id)}
    if view.retry_after is not None:
        headers["Retry-After"] = str(view.retry_after)
    return AcmeAnswer(200, order_document(view.order, linker), headers)


def _not_ready(order: ClientOrder) -> AcmeProblem:
    words = {
        ClientOrderStatus.PENDING: "its names are not all proved: do its authorizations first",
        ClientOrderStatus.READY: "its status has just changed: look at it again",
        ClientOrderStatus.PROCESSING: "it was finalized with another certificate request: make a new order",
        ClientOrderStatus.VALID: "it was finalized with another certificate request: make a new order",
        ClientOrderStatus.INVALID: "it has failed: make a new order",
    }
    return AcmeProblem("orderNotReady", f"the order is {order.status}: {words[order.status]}")
