"""Challenges that clients answer (RFC 8555 section 7.5.1), where names are to be proved inside."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import replace

from acmems.exceptions import AcmeException
from acmems.frontends.acme.answers import AcmeAnswer
from acmems.frontends.acme.orders.access import as_it_is, own_authorization
from acmems.frontends.acme.orders.documents import authorization_id, challenge_document
from acmems.frontends.acme.orders.endings import error_document
from acmems.frontends.acme.orders.parts import OrderParts
from acmems.frontends.acme.orders.preparing import prepare, prepared
from acmems.frontends.acme.problems import AcmeProblem
from acmems.frontends.acme.proving.validation import Validation
from acmems.frontends.acme.requests import SignedRequest
from acmems.net.http import Exchange
from acmems.state.acme.order import ClientChallenge, ClientOrder
from acmems.state.acme.statuses import ClientAuthorizationStatus, ClientChallengeStatus, ClientOrderStatus
from acmems.system.steps import Signal, Steps, outcome

logger = logging.getLogger(__name__)

HOLD_SECONDS = 5.0
"""How long who looks at an authorization may be kept waiting while its proof is looked for."""
OUTSIDE_SECONDS = 20.0
"""How long the last challenge of an order stays `processing` while its names are proved outside: most clients
wait a minute or longer for a challenge, and some no more than 30 seconds from finalize on."""
_LOOK_SECONDS = 1.0  # between two looks at what another server may have found
_RETRY_AFTER = "2"  # seconds


class ChallengeTrials:
    """Looks for proofs; for the thread of the loop.

    As with orders, the state has all that is needed: who looks at an authorization whose proof nobody is
    looking for, after a crash, or at its order, has that begun again.

    Args:
        parts: what it works with.
        hold_seconds: how long who looks at an authorization may be kept waiting.
    """

    def __init__(self, parts: OrderParts, *, hold_seconds: float = HOLD_SECONDS) -> None:
        self._parts = parts
        self._hold_seconds = hold_seconds
        self._running: dict[str, Signal] = {}  # by the authorization's id

    def __call__(self, request: SignedRequest, exchange: Exchange) -> Steps[AcmeAnswer]:
        """Show a challenge, or begin to look for its proof where the client says that it is there.

        Raises:
            AcmeProblem: there is none, or it is another's.
            StateUnavailable: it cannot be read or changed.
        """
        parts, kind = self._parts, request.parameters[1]
        order, index = yield from own_authorization(parts, request, request.parameters[0])
        challenge = order.authorizations[index].challenge(kind)
        if challenge is None:
            raise AcmeProblem("malformed", "there is no such challenge", status=404)
        if not request.is_get:
            request.json()  # which has no members that mean anything
            changed = yield from outcome(
                parts.orders.change(order.id, lambda each: _begun(each, index, kind))
            )
            order = order if changed is None else changed
        challenge = order.authorizations[index].challenge(kind) or challenge
        if challenge.status is ClientChallengeStatus.PROCESSING:
            self._want(order, index, challenge, request)
        elif request.is_get:
            order = yield from self.follow(order, index, request, lambda: exchange.gone)
            challenge = order.authorizations[index].challenge(kind) or challenge
        linker = parts.linker()
        up = linker.up(linker.url("authorization", authorization_id(order, index)))
        document = challenge_document(order, index, challenge, linker)
        return AcmeAnswer(200, document, self.headers(order, index), (up,))

    def follow(
        self, order: ClientOrder, index: int, request: SignedRequest, gone: Callable[[], bool]
    ) -> Steps[ClientOrder]:
        """Return an order when the proof of a name was found or not, or as it is after a while.

        Args:
            order: the order, as it was found.
            index: the place of the name's authorization.
            request: who looks at it.
            gone: tells whether the client has hung up.
        """
        parts, until = self._parts, self._parts.clock.monotonic() + self._hold_seconds
        challenge = _tried(order, index)
        if challenge is not None:
            self._want(order, index, challenge, request)
        while challenge is not None and not gone():
            running = self._running.get(authorization_id(order, index))
            left = until - parts.clock.monotonic()
            if running is None or left <= 0:
                break
            yield running.wait(min(left, _LOOK_SECONDS))
            order = yield from as_it_is(parts, order)
            challenge = _tried(order, index)
        return order

    def resume(self, order: ClientOrder, request: SignedRequest) -> None:
        """Have the proofs of an order looked for that nobody is looking for, for who looks at the order.

        Args:
            order: the order, as it was found.
            request: who looks at it.
        """
        for index in range(len(order.authorizations)):
            challenge = _tried(order, index)
            if challenge is not None:
                self._want(order, index, challenge, request)

    def headers(self, order: ClientOrder, index: int) -> dict[str, str]:
        """Return when to look at an authorization again, as header fields."""
        return {} if _tried(order, index) is None else {"Retry-After": _RETRY_AFTER}

    def _want(
        self, order: ClientOrder, index: int, challenge: ClientChallenge, request: SignedRequest
    ) -> None:
        """Have somebody look for a proof."""
        name = authorization_id(order, index)
        if name not in self._running:
            self._running[name] = Signal()
            self._parts.loop.submit(self._try(order, index, challenge, request.key.thumbprint))

    def _try(
        self, order: ClientOrder, index: int, challenge: ClientChallenge, thumbprint: str
    ) -> Steps[None]:
        parts, authorization = self._parts, order.authorizations[index]
        name = authorization_id(order, index)
        validation = Validation(
            challenge.kind,
            authorization.name.identifier,
            authorization.token,
            f"{authorization.token}.{thumbprint}",
            order.account,
        )
        try:
            failure = yield from outcome(parts.prove(validation))
            error = None if failure is None else error_document(failure, "-")

            def ended(each: ClientOrder) -> ClientOrder:
                return _ended(each, index, challenge.kind, parts.now, error)

            last = ended((yield from as_it_is(parts, order)))
            if last.status is ClientOrderStatus.READY:
                yield from prepared(parts, last, OUTSIDE_SECONDS)
            changed = yield from outcome(parts.orders.change(order.id, ended))
            if changed is not None and last.status is not ClientOrderStatus.READY:
                prepare(parts, changed)  # another name's proof was found at the same moment
        except (AcmeProblem, CancelledError) as error:  # too many wait, or the server stops
            logger.debug("a name is not validated now: %s", error)
        except AcmeException as error:  # the next look tries again
            parts.tell_failure("prove", error, reference="-", client=order.client)
        finally:
            self._running.pop(name).set()


def _tried(order: ClientOrder, index: int) -> ClientChallenge | None:
    """Return the challenge whose proof is being looked for."""
    authorization = order.authorizations[index]
    if authorization.status is not ClientAuthorizationStatus.PENDING:
        return None
    found = (each for each in authorization.challenges if each.status is ClientChallengeStatus.PROCESSING)
    return next(found, None)


def _begun(order: ClientOrder, index: int, kind: str) -> ClientOrder:
    """Return an order in which a proof is being looked for; one at a time, and none for a failed order."""
    authorization = order.authorizations[index]
    challenge = authorization.challenge(kind)
    is_wanted = order.status is ClientOrderStatus.PENDING and (
        authorization.status is ClientAuthorizationStatus.PENDING
    )
    if challenge is None or not is_wanted or _tried(order, index) is not None:
        return order
    changed = authorization.with_challenge(challenge.become(ClientChallengeStatus.PROCESSING))
    return order.with_authorization(index, changed)


def _ended(order: ClientOrder, index: int, kind: str, at: int, error: str | None) -> ClientOrder:
    """Return an order with what has come of looking for a proof."""
    authorization = order.authorizations[index]
    challenge = authorization.challenge(kind)
    if challenge is None or authorization.status is not ClientAuthorizationStatus.PENDING:
        return order
    if error is None:
        ended = challenge.become(ClientChallengeStatus.VALID, at=at)
    else:
        ended = replace(challenge.become(ClientChallengeStatus.INVALID, error=error), validated=None)
    return order.with_authorization(index, authorization.with_challenge(ended))
