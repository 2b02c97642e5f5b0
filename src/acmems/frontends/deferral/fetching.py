"""A request for the answer to an earlier one, by whoever may make that again."""

from __future__ import annotations

import re

from acmems.auth import Block
from acmems.events import RefusedEvent
from acmems.exceptions import HttpRefusal, PayloadInvalid, PolicyRefusal
from acmems.frontends.deferral.deferrals import Deferrals, FoundRequest
from acmems.frontends.deferral.deferring import REQUESTS, DeferringExchange
from acmems.frontends.deferral.preferences import Preferences
from acmems.frontends.delivery import SigningParts
from acmems.frontends.problems import failure_event, problem, problem_response
from acmems.issuing.requests import AcceptedRequest, Delivery
from acmems.net.http import Exchange, Handling
from acmems.net.listening.shares import share_of
from acmems.state.chains import ChainRecord
from acmems.state.deferred import DeferredOutcome
from acmems.x509.chain import Chain, parse

ALLOWED = "GET"

_PATH = re.compile(re.escape(REQUESTS) + r"([A-Za-z0-9_-]{32})", re.ASCII)
_UNKNOWN = "there is no such request, or it was forgotten: POST the CSR to /sign again"
_UNCACHED = {"Cache-Control": "no-store"}


def begin(parts: SigningParts, exchange: Exchange, deferrals: Deferrals) -> Handling:
    """Take a request for an answer; it has no body.

    Raises:
        HttpRefusal: it is no GET.
    """
    if exchange.method != ALLOWED:
        raise HttpRefusal(405, "GET the answer to a request here", {"Allow": ALLOWED})
    return Handling(0, _FetchingExchange(parts, exchange, deferrals).answer)


class _FetchingExchange(DeferringExchange):
    """One request for an answer.

    Whoever may not have it learns what everybody learns who asks for one that is not there. First is seen who
    asks, by address and HMAC; only then the state is asked.
    """

    def __init__(self, parts: SigningParts, exchange: Exchange, deferrals: Deferrals) -> None:
        super().__init__(parts, exchange, deferrals)
        self._blocks: list[Block] = []

    def answer(self) -> None:
        """See who asks, and look for the request."""
        exchange = self._exchange
        match = _PATH.fullmatch(exchange.target)
        try:
            if not self.processor.may_be_acceptable():
                raise PolicyRefusal(self.processor.reason)  # noqa: TRY301 - answered like those of `accepting`
            self._blocks = self.processor.accepting(exchange.target.encode("ascii", "replace"), "path")
        except PolicyRefusal as refusal:
            self._hide(str(refusal))
            return
        if match is None:
            self._hide("this is not the path of a request")
            return

        def note(found: FoundRequest | Exception) -> None:
            exchange.hand_over(lambda: self._found(found))

        self._deferrals.find(match[1], (None, share_of(self.processor.client)), note)

    def _found(self, found: FoundRequest | Exception) -> None:
        try:
            if isinstance(found, Exception):
                raise found  # noqa: TRY301 - answered like others
            self._answer(found)
        except (PolicyRefusal, PayloadInvalid) as refusal:
            self._hide(str(refusal))
        except Exception as failure:  # noqa: BLE001 - whatever it is, client and operator are told
            self._refuse(failure)

    def _answer(self, found: FoundRequest) -> None:
        """Send what there is of a request.

        Raises:
            PolicyRefusal, PayloadInvalid: whoever asks may not have it.
            AcmeException: as `Issuance.issue`.
        """
        request, record = found.request, found.chain
        if request is None:
            self._hide("there is no such request, or it was forgotten")
            return
        grant = self.processor.grant_body(request.csr, self._blocks)
        accepted = self._accepted(grant)
        identities = self._parts.issuances.identities(accepted)
        if request.identity not in identities:
            self._hide("its certificate was to be issued by another CA, or by another profile")
            return
        is_of_ours = record is not None and record.identity in identities
        chain = _deliverable(record, accepted) if record is not None and is_of_ours else None
        if chain is not None:
            self._send_chain(Delivery(chain, "stored"), accepted.storage)
        elif request.outcome is not None and request.outcome.status is not None:
            self._send_outcome(request.outcome, request.outcome.status)
        else:
            preferences = Preferences.from_headers(self._exchange.headers)
            running = self._deferrals.join(accepted, found)
            self._await(running, accepted.storage, self._wait_of(preferences, 0.0))

    def _send_outcome(self, outcome: DeferredOutcome, status: int) -> None:
        """Send the error that has come of a request."""
        headers = dict(_UNCACHED)
        if outcome.retry_at is not None:
            left = (outcome.retry_at - self._parts.clock.now()).total_seconds()
            headers["Retry-After"] = str(max(1, int(left)))
        reason = outcome.reason or ""
        error = HttpRefusal(status, reason, headers)
        self._parts.bus.emit(failure_event(error, seconds=self._seconds, **self._known))
        self._send(problem(status, reason, headers, str(self._exchange.headers.get("Accept", ""))))

    def _hide(self, reason: str) -> None:
        """Answer as if there were no such request; the operator is told why."""
        accept = str(self._exchange.headers.get("Accept", ""))
        response = problem_response(HttpRefusal(404, _UNKNOWN, _UNCACHED), self._exchange.reference, accept)
        known = {**self._known, "names": (), "block": None}
        event = RefusedEvent(status=response.status, reason=reason, seconds=self._seconds, **known)
        self._parts.bus.emit(event)
        self._send(response)


def _deliverable(record: ChainRecord, accepted: AcceptedRequest) -> Chain | None:
    """Return a chain that may be sent to whoever asks, None if it may not."""
    try:
        chain = parse(record.pem)
    except ValueError:
        return None
    return None if accepted.refusal(chain) else chain
