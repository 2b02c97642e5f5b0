"""Chains that are ordered anew before their clients ask, as far as the policy of today grants them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future

from acmems.exceptions import (
    AcmeException,
    CAUnavailable,
    DeadlinePassed,
    PayloadInvalid,
    PolicyRefusal,
    RateLimited,
)
from acmems.frontends.granting import granted_again
from acmems.frontends.sign import SigningPolicy
from acmems.issuers.acme.certificates.renewal_info import fetch
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuing.issuance import Issuance
from acmems.issuing.renewal.planner import NotRenewable, RenewalAnswer
from acmems.issuing.requests import AcceptedRequest, Delivery
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.chains.renewals import RenewalRecord
from acmems.system.clock import Clock
from acmems.system.steps import Steps, gather

_SECONDS = 3600.0  # for which an order may be waited for
_QUESTIONS_AT_ONCE = 16
_QUESTION_SECONDS = 30.0  # for which an answer is waited for; it is asked again later


class RenewalQuestions:
    """Asks the CA when chains are to be renewed, some at a time.

    Args:
        issuer: asks about one.
        directory: the URL of the CA's directory.
    """

    def __init__(self, issuer: AcmeIssuer, directory: str) -> None:
        self._issuer = issuer
        self._directory = directory

    def __call__(
        self, plans: Sequence[RenewalRecord]
    ) -> Iterable[tuple[RenewalRecord, RenewalAnswer | AcmeException | None]]:
        """Return what the CA says about chains; once it does not answer, it is not asked about the others."""
        answers: list[tuple[RenewalRecord, RenewalAnswer | AcmeException | None]] = []
        waiting = iter(plans)

        def work() -> Steps[None]:
            for plan in waiting:
                answer = yield from self._answer(plan)
                answers.append((plan, answer))
                if isinstance(answer, CAUnavailable | DeadlinePassed | RateLimited):
                    return

        if plans:
            self._issuer.run(gather([work() for _ in range(_QUESTIONS_AT_ONCE)]))
        return answers

    def _answer(self, plan: RenewalRecord) -> Steps[RenewalAnswer | AcmeException | None]:
        if plan.certificate is None or plan.directory != self._directory:
            return None
        try:
            session, clock = self._issuer.client.session, self._issuer.clock
            deadline = clock.deadline(_QUESTION_SECONDS)
            return (yield from fetch(session, plan.certificate, deadline, clock.now()))
        except AcmeException as error:
            return error


class AheadRenewal:
    """Orders chains anew for clients that have asked lately: `acmems.issuing.renewal.planner.Renewing`.

    Args:
        chains: those that were issued.
        policy: returns the policy of today, which may not grant any more what it granted then.
        issuance: orders them.
        clock: for dates.
    """

    def __init__(
        self, chains: ChainRecords, policy: Callable[[], SigningPolicy], issuance: Issuance, clock: Clock
    ) -> None:
        self._chains = chains
        self._policy = policy
        self._issuance = issuance
        self._clock = clock
        self._is_stopped = False

    def stop(self) -> None:
        """Wait for nothing any more: what goes on is left to the next process."""
        self._is_stopped = True

    def __call__(self, chain: ChainRecord, _is_open: bool) -> Future[None]:
        """Order a chain anew; whether that names its predecessor is seen when the order is placed.

        Args:
            chain: the chain.
        """
        renewed: Future[None] = Future()
        try:
            issued = self._issuance.issue(self._accepted(chain))
        except Exception as error:  # noqa: BLE001 - whatever it is, the planner notes it
            renewed.set_exception(error)
            return renewed

        def note(issued: Future[Delivery]) -> None:
            if (error := issued.exception()) is not None:
                renewed.set_exception(error)
            else:
                renewed.set_result(None)

        issued.add_done_callback(note)
        return renewed

    def _accepted(self, chain: ChainRecord) -> AcceptedRequest:
        """Return what is asked for.

        Raises:
            NotRenewable: it is not to be renewed.
        """
        if chain.csr is None or chain.block is None:
            raise NotRenewable("who may have it is not known: it is renewed when its client asks")
        try:
            accepted = granted_again(self._policy(), chain.csr, chain.block)
        except (PayloadInvalid, PolicyRefusal) as error:
            raise NotRenewable(str(error)) from error
        if not accepted.storage.renews_ahead:
            raise NotRenewable("its storage has 'renew = asked': it is renewed when its client asks")
        if self._issuance.key(accepted.request).digest != chain.identity:
            raise NotRenewable("it would be ordered from another CA, or by another profile, by now")
        lifetime, seen = chain.not_after - chain.not_before, self._chains.last_seen(chain.identity)
        if seen is None or seen + lifetime < self._clock.now():
            raise NotRenewable("its client has not asked for as long as a certificate is valid")
        return dataclasses.replace(
            accepted, is_wanted_anew=True, seconds=_SECONDS, gone=lambda: self._is_stopped
        )
