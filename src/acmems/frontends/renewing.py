"""Chains that are ordered anew before their clients ask, as far as the policy of today grants them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future

from acmems.exceptions import (
    AcmeException,
    CAUnavailable,
    DeadlinePassed,
    PayloadInvalid,
    PolicyRefusal,
    RateLimited,
)
from acmems.frontends.delivery import SigningPolicy
from acmems.frontends.granting import granted_again
from acmems.issuers.acme.certificates.renewal_info import fetch
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuing.failover.issuances import Issuances
from acmems.issuing.renewal.plan import RenewalAnswer
from acmems.issuing.renewal.planner import NotRenewable
from acmems.issuing.requests import AcceptedRequest, Delivery
from acmems.state.acme.certificates import AccountCertificates
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.chains.renewals import RenewalQuestion
from acmems.system.clock import Clock
from acmems.system.steps import Steps, gather

_SECONDS = 3600.0  # for which an order may be waited for
_QUESTIONS_AT_ONCE = 16
_QUESTION_SECONDS = 30.0  # for which an answer is waited for; it is asked again later


class RenewalQuestions:
    """Asks CAs when chains are to be renewed, some at a time.

    Args:
        issuers: what asks each of them, by the URLs of their directories.
    """

    def __init__(self, issuers: Mapping[str, AcmeIssuer]) -> None:
        self._issuers = issuers

    def __call__(
        self, questions: Sequence[RenewalQuestion]
    ) -> Iterable[tuple[RenewalQuestion, RenewalAnswer | AcmeException | None]]:
        """Return what CAs say about chains; one that does not answer is not asked about the others.

        Those are answered with the same error: else they would be the first to be asked about the next time,
        and a CA that is down would keep others from being asked about theirs.
        """
        by_directory: dict[str, list[RenewalQuestion]] = {}
        for question in questions:
            by_directory.setdefault(question.directory, []).append(question)
        answers: list[tuple[RenewalQuestion, RenewalAnswer | AcmeException | None]] = []
        for directory, theirs in by_directory.items():
            issuer = self._issuers.get(directory)
            if issuer is None:
                answers += [(question, None) for question in theirs]
            else:
                answers += self._ask(issuer, theirs)
        return answers

    def _ask(
        self, issuer: AcmeIssuer, questions: Sequence[RenewalQuestion]
    ) -> Sequence[tuple[RenewalQuestion, RenewalAnswer | AcmeException | None]]:
        answers: list[tuple[RenewalQuestion, RenewalAnswer | AcmeException | None]] = []
        waiting = iter(questions)
        errors: list[AcmeException] = []

        def work() -> Steps[None]:
            for question in waiting:
                answer = yield from self._answer(issuer, question)
                answers.append((question, answer))
                if isinstance(answer, CAUnavailable | DeadlinePassed | RateLimited):
                    errors.append(answer)
                    return

        issuer.run(gather([work() for _ in range(_QUESTIONS_AT_ONCE)]))
        return [*answers, *((question, errors[-1]) for question in waiting)]

    def _answer(
        self, issuer: AcmeIssuer, question: RenewalQuestion
    ) -> Steps[RenewalAnswer | AcmeException | None]:
        if question.certificate is None:
            return None
        try:
            session, clock = issuer.client.session, issuer.clock
            deadline = clock.deadline(_QUESTION_SECONDS)
            return (yield from fetch(session, question.certificate, deadline, clock.now()))
        except AcmeException as error:
            return error


class AheadRenewal:
    """Orders chains anew for clients that have asked lately: `acmems.issuing.renewal.planner.Renewing`.

    Args:
        chains: those that were issued.
        policy: returns the policy of today, which may not grant any more what it granted then.
        issuances: order them.
        clock: for dates.
        certificates: knows what ACME clients have got; None where there are none.
    """

    def __init__(
        self,
        chains: ChainRecords,
        policy: Callable[[], SigningPolicy],
        issuances: Issuances,
        clock: Clock,
        certificates: AccountCertificates | None = None,
    ) -> None:
        self._chains = chains
        self._certificates = certificates
        self._policy = policy
        self._issuances = issuances
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
            issued = self._issuances.issue(self._accepted(chain))
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
        if self._certificates is not None and self._certificates.accounts_of(chain.fingerprint):
            raise NotRenewable("an ACME client has got it, which asks by itself, most often for another key")
        policy = self._policy()
        try:
            accepted = granted_again(policy, chain.csr, chain.block)
        except (PayloadInvalid, PolicyRefusal) as error:
            raise NotRenewable(str(error)) from error
        if any(each.proof.is_required for each in policy.auth.blocks if each.name == chain.block):
            raise NotRenewable("its names are to be proved (prove): it is renewed when its client asks")
        if not accepted.storage.renews_ahead:
            raise NotRenewable("its storage has 'renew = asked': it is renewed when its client asks")
        account = self._issuances.identities(accepted).get(chain.identity)
        if account is None:
            raise NotRenewable("it would be ordered from another CA, or by another profile, by now")
        others = tuple(name for name in accepted.issuers if name != account)
        if self._issuances.fresh(dataclasses.replace(accepted, issuers=others)) is not None:
            raise NotRenewable("there is a certificate of another CA by now, which serves as well")
        lifetime, seen = chain.not_after - chain.not_before, self._chains.last_seen(chain.identity)
        if seen is None or seen + lifetime < self._clock.now():
            raise NotRenewable("its client has not asked for as long as a certificate is valid")
        return dataclasses.replace(
            accepted, is_wanted_anew=True, seconds=_SECONDS, gone=lambda: self._is_stopped
        )
