"""New orders (RFC 8555 section 7.4): judged by the policy before anything is asked outside.

A client that comes again gets another order, though it has one for the same names: two machines may use one
account, each with a key of its own, and the second would lose its finalize where they shared an order. Here
an order costs a row and nothing at the CA. What does cost something outside is found again by its names or
by its key, whichever order asks for it.
"""

from __future__ import annotations

import math

from acmems.auth.names import NamesVerdict, judge_names
from acmems.frontends.acme.answers import AcmeAnswer
from acmems.frontends.acme.orders.documents import order_document
from acmems.frontends.acme.orders.parts import OrderParts
from acmems.frontends.acme.orders.preparing import prepare
from acmems.frontends.acme.orders.profiles import issuers_of
from acmems.frontends.acme.orders.progress import OrderProgress
from acmems.frontends.acme.orders.wishes import OrderWish, read_wish
from acmems.frontends.acme.problems import AcmeProblem, Subproblem
from acmems.frontends.acme.rates import ClientRates
from acmems.frontends.acme.requests import SignedRequest
from acmems.net.http import Exchange
from acmems.state.acme.order import ClientAuthorization, ClientChallenge, ClientOrder, OrderedName
from acmems.state.acme.statuses import ClientAuthorizationStatus, ClientChallengeStatus
from acmems.system.steps import Steps, outcome
from acmems.x509.identifiers import Identifier

ORDER_SECONDS = 86400
"""For how long an order may be finalized."""
NAMES_AT_ONCE = 10
"""So many names of an order, or fewer, count as one order of an address: each takes room in the state."""


class NewOrderResource:
    """Takes new orders.

    Args:
        parts: what it works with.
        progress: has orders issued.
    """

    def __init__(self, parts: OrderParts, progress: OrderProgress) -> None:
        self._parts = parts
        self._progress = progress
        self._rates = ClientRates(parts.order_rate, "new orders", parts.clock)

    def __call__(self, request: SignedRequest, exchange: Exchange) -> Steps[AcmeAnswer]:
        """Make an order, if the policy grants it.

        Raises:
            AcmeProblem: it does not, or the request is malformed, or it is one too many.
            StateUnavailable: it cannot be kept.
        """
        parts, owner = self._parts, request.owner
        self._rates.require_room(request.client)
        policy = parts.policy()
        wish = read_wish(request.json(), policy.auth.rules.max_names)
        verdict = judge_names(policy.auth.blocks, request.caller, tuple(wish.identifiers))
        if verdict.block is None:
            raise rejected(verdict, wish)
        block = verdict.block
        issuers_of(parts.issuances, block.issuers, wish.profile)
        authorizations = tuple(
            self._authorization(identifier, name, block.proof.types_for(identifier))
            for identifier, name in wish.identifiers.items()
        )
        if wish.replaces is not None:
            yield from self._check_replaced(owner.id, wish.replaces, wish)
        self._rates.count(request.client, math.ceil(len(authorizations) / NAMES_AT_ONCE))
        now = parts.now
        order = ClientOrder(
            id=parts.make_id(),
            account=owner.id,
            names=wish.names,
            authorizations=authorizations,
            created=now,
            expires=now + ORDER_SECONDS,
            block=block.name,
            client=request.client,
            profile=wish.profile,
            replaces=wish.replaces,
        ).begun()
        yield from outcome(parts.orders.put(order))
        self._progress.supersede(order)
        prepare(parts, order, exchange.reference)
        linker = parts.linker()
        return AcmeAnswer(201, order_document(order, linker), {"Location": linker.url("order", order.id)})

    def _authorization(
        self, identifier: Identifier, name: OrderedName, kinds: tuple[str, ...]
    ) -> ClientAuthorization:
        token = self._parts.make_id()
        if kinds:
            return ClientAuthorization(name, token, tuple(map(ClientChallenge, kinds)))
        # Listed all the same, each with a challenge, as clients expect it: there is nothing to do for them.
        kind = "dns-01" if identifier.is_wildcard else "http-01"
        done = ClientChallenge(kind, ClientChallengeStatus.VALID, self._parts.now, is_asked=False)
        return ClientAuthorization(name, token, (done,), ClientAuthorizationStatus.VALID)

    def _check_replaced(self, account: str, certificate: str, wish: OrderWish) -> Steps[None]:
        """See that an order may replace a certificate (RFC 9773 section 5).

        Raises:
            AcmeProblem: it may not.
            StateUnavailable: that cannot be known.
        """
        parts = self._parts
        found = yield from parts.threads.call(lambda: parts.certificates.named(certificate, account))
        if found is None:
            raise AcmeProblem(
                "malformed", "'replaces' names no certificate of this account: order without it", status=404
            )
        others = yield from parts.threads.call(
            lambda: parts.orders.replacing(certificate, account, parts.now)
        )
        if found.replaced_by is not None or others:
            raise AcmeProblem(
                "alreadyReplaced", "another order has replaced this certificate: order without 'replaces'"
            )
        chains = yield from parts.threads.call(lambda: parts.chains.of([found.fingerprint]))
        names = {name for chain in chains for name in chain.names}
        if chains and names.isdisjoint(each.value for each in wish.identifiers):
            raise AcmeProblem("malformed", "the certificate that 'replaces' names has none of these names")


def rejected(verdict: NamesVerdict, wish: OrderWish) -> AcmeProblem:
    """Return the problem of an order that no auth block grants, with what is wrong with each name."""
    written = wish.identifiers
    subproblems = [
        Subproblem(
            "rejectedIdentifier",
            f"{each.identifier.value}: {each.reason}",
            (written[each.identifier].type, written[each.identifier].value),
        )
        for each in verdict.refusals
    ]
    names = ", ".join(each.identifier.value for each in verdict.refusals)
    words = verdict.refusals[0].reason if verdict.refusals else ""
    return AcmeProblem(
        "rejectedIdentifier",
        f"{names}: {words}",
        subproblems=subproblems,
        advice=verdict.reason,
        names=tuple(each.value for each in written),
    )
