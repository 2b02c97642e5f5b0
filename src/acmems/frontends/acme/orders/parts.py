"""What the resources of orders work with."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final

from acmems.events import Bus, Event, FailedEvent, FrontEndName
from acmems.exceptions import AcmeException
from acmems.frontends.acme.answers import AcmeAnswer
from acmems.frontends.acme.linker import Linker
from acmems.frontends.acme.problems import AcmeProblem, problem_of
from acmems.frontends.acme.proving.validation import Validation
from acmems.frontends.acme.requests import SignedRequest
from acmems.frontends.acme.routes import SignedResource
from acmems.frontends.delivery import SigningPolicy
from acmems.frontends.problems import for_operator
from acmems.issuing.failover.issuances import Issuances
from acmems.issuing.limits.gcra import Rate
from acmems.issuing.running import stopping
from acmems.net.http import Exchange
from acmems.state.acme.certificates import AccountCertificates
from acmems.state.acme.orders import ClientOrders
from acmems.state.chains import ChainRecords
from acmems.state.chains.alternates import AlternateRecords
from acmems.state.chains.renewals import RenewalRecords
from acmems.system.clock import SYSTEM, Clock
from acmems.system.steps import OWNER, SharedThreads, StepLoop, Steps
from acmems.text import one_line

FRONT_END: Final[FrontEndName] = "acme"
"""What metrics call the front end of ACME clients."""
ORDER_RATE: Final = Rate(3000, 3_600_000)
"""New orders of one address: as many at once, and as many in each hour."""
ID_OCTETS = 18
"""Random octets of the id of an order, and of the token of an authorization: RFC 8555 wants 16 at least."""
_LONGEST_REASON = 4096  # characters
_THREADS = 4  # they wait for the database


Prove = Callable[[Validation], Future[AcmeProblem | None]]
"""Looks for the proof of a name: `Prover.prove`."""


@dataclass(frozen=True, slots=True)
class OrderParts:
    """What the resources of orders work with.

    Args:
        policy: returns what holds now.
        issuances: turn accepted requests into chains.
        orders: keeps orders.
        certificates: keeps whose certificates were issued.
        chains: those that were issued.
        alternates: further chains of the same certificates.
        plans: when chains are to be renewed.
        linker: returns what makes URLs.
        bus: told of what happens.
        loop: runs the steps of resources.
        prove: looks for the proofs of names.
        clock: for times.
        order_rate: how many orders one address may make.
        make_id: returns what nobody can guess.
        threads: in which the database is waited for.
    """

    policy: Callable[[], SigningPolicy]
    issuances: Issuances
    orders: ClientOrders
    certificates: AccountCertificates
    chains: ChainRecords
    alternates: AlternateRecords
    plans: RenewalRecords
    linker: Callable[[], Linker]
    bus: Bus
    loop: StepLoop
    prove: Prove
    clock: Clock = SYSTEM
    order_rate: Rate = ORDER_RATE
    make_id: Callable[[], str] = lambda: secrets.token_urlsafe(ID_OCTETS)
    threads: SharedThreads = field(default_factory=lambda: SharedThreads(_THREADS, "acmems-acme-orders"))

    @property
    def now(self) -> int:
        """The time, in seconds since 1970."""
        return int(self.clock.now().timestamp())

    def tell(self, event: Event) -> None:
        """Tell of something that has happened."""
        self.bus.emit(event)

    def tell_failure(self, stage: str, error: BaseException, **known: Any) -> None:
        """Tell the operator of a failure that perhaps no client hears of.

        Args:
            stage: what was being done.
            error: what went wrong; anything but an `AcmeException` is a bug.
            known: what is known of the request, as fields of the event.
        """
        is_bug = not isinstance(error, AcmeException)
        reason = (
            f"a bug: {type(error).__name__}" if is_bug else one_line(for_operator(error), _LONGEST_REASON)
        )
        self.bus.emit(
            FailedEvent(
                stage=stage,
                status=problem_of(error, "-").status,
                reason=reason,
                bug=error if is_bug else None,
                front_end=FRONT_END,
                **known,
            )
        )


StepResource = Callable[[SignedRequest, Exchange], Steps[AcmeAnswer]]
"""Answers signed requests in steps; as `SignedResource`."""


def in_steps(loop: StepLoop, resource: StepResource) -> SignedResource:
    """Return a resource that answers in the steps of another."""

    def answer(request: SignedRequest, exchange: Exchange) -> Future[AcmeAnswer]:
        def steps() -> Steps[AcmeAnswer]:
            OWNER.set((None if request.account is None else request.account.id, request.client))
            return (yield from resource(request, exchange))

        try:
            return loop.submit(steps())
        except RuntimeError:  # the loop is closed
            raise stopping() from None

    return answer
