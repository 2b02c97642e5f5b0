"""Orders and authorizations that a client looks at (POST-as-GET), and authorizations that it gives up."""

from __future__ import annotations

from acmems.frontends.acme.answers import AcmeAnswer
from acmems.frontends.acme.orders.access import own_authorization, own_order
from acmems.frontends.acme.orders.challenges import ChallengeTrials
from acmems.frontends.acme.orders.documents import authorization_document
from acmems.frontends.acme.orders.finalizing import order_answer
from acmems.frontends.acme.orders.parts import OrderParts
from acmems.frontends.acme.orders.progress import OrderProgress
from acmems.frontends.acme.problems import malformed
from acmems.frontends.acme.requests import SignedRequest
from acmems.net.http import Exchange
from acmems.state.acme.order import ClientOrder
from acmems.state.acme.statuses import ClientAuthorizationStatus
from acmems.system.steps import Steps, outcome


class OrderResource:
    """Shows orders; one that is processed, when it has ended or after a while.

    Args:
        parts: what it works with.
        progress: has orders issued.
        trials: look for proofs.
    """

    def __init__(self, parts: OrderParts, progress: OrderProgress, trials: ChallengeTrials) -> None:
        self._parts = parts
        self._progress = progress
        self._trials = trials

    def __call__(self, request: SignedRequest, exchange: Exchange) -> Steps[AcmeAnswer]:
        """Return an order.

        Raises:
            AcmeProblem: there is none, or it is another's.
            StateUnavailable: it cannot be read.
        """
        request.require_get()
        order = yield from own_order(self._parts, request, request.parameters[0])
        self._trials.resume(order, request)
        view = yield from self._progress.follow(order, exchange.reference, lambda: exchange.gone)
        return order_answer(self._parts, view)


class AuthorizationResource:
    """Shows authorizations, and takes note where a client gives one up (RFC 8555 section 7.5.2).

    Args:
        parts: what it works with.
        trials: look for proofs.
    """

    def __init__(self, parts: OrderParts, trials: ChallengeTrials) -> None:
        self._parts = parts
        self._trials = trials

    def __call__(self, request: SignedRequest, exchange: Exchange) -> Steps[AcmeAnswer]:
        """Return an authorization.

        Raises:
            AcmeProblem: there is none, it is another's, or something else than giving it up is asked for.
            StateUnavailable: it cannot be read or changed.
        """
        parts = self._parts
        order, index = yield from own_authorization(parts, request, request.parameters[0])
        if not request.is_get:
            # Clients such as lego send what else their type of an authorization has.
            if request.json().get("status") != "deactivated":
                raise malformed('the only change of an authorization is {"status": "deactivated"}')
            changed = yield from outcome(parts.orders.change(order.id, lambda each: _given_up(each, index)))
            order = order if changed is None else changed
        else:
            order = yield from self._trials.follow(order, index, request, lambda: exchange.gone)
        headers = self._trials.headers(order, index)
        return AcmeAnswer(200, authorization_document(order, index, parts.linker()), headers)


def _given_up(order: ClientOrder, index: int) -> ClientOrder:
    authorization = order.authorizations[index].become(ClientAuthorizationStatus.DEACTIVATED)
    return order.with_authorization(index, authorization)
