"""Names on their way from a pending authorization to a decision (RFC 8555 sections 7.5, 8)."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from acmems.challenges import Proof, Validator
from acmems.challenges.presented.proofs import PresentedProofs
from acmems.challenges.presented.turns import ProofTurns
from acmems.exceptions import CAProblem, CAUnavailable
from acmems.issuers.acme.authorization import (
    Authorization,
    Challenge,
    check_names,
    check_valid,
    parse,
    pick,
)
from acmems.issuers.acme.key import AccountKey
from acmems.issuers.acme.polling import PollInterval
from acmems.issuers.acme.prechecks.examination import Exclusions
from acmems.issuers.acme.problems import Complaint, Decisions
from acmems.issuers.acme.session import Response, Session
from acmems.system.clock import Deadline
from acmems.system.steps import SharedThreads, Signal, StepLoop, Steps, gather, outcome
from acmems.x509.identifiers import Identifier

logger = logging.getLogger(__name__)

_VALIDATOR_THREADS = 256  # most wait until the DNS shows a proof, for minutes


@dataclass(slots=True, eq=False)
class Attempt:
    """One authorization on its way to a decision.

    Args:
        authorization: as last seen.
        challenge: the challenge that is answered.
        validator: what answers it.
        requested: set as soon as the CA was seen fetching the answer, by any thread.
        next_poll: when to look at the authorization again, in seconds of the monotonic clock.
        since: when the CA could start to decide, on the same clock.
        polls: how many looks found it undecided since then.
        proof: what is presented, None once it is withdrawn.
        complaint: what the CA has said against the name so far.
    """

    authorization: Authorization
    challenge: Challenge
    validator: Validator
    requested: threading.Event = field(default_factory=threading.Event)
    next_poll: float = 0.0
    since: float = 0.0
    polls: int = 0
    proof: Proof | None = None
    complaint: Complaint = field(default_factory=Complaint)

    @property
    def sees_requests(self) -> bool:
        """Whether it can be seen that the CA fetches the answer."""
        return self.validator.sees_requests


class Proving:
    """Has the names of an account's orders validated.

    Args:
        session: the way to the CA.
        key: the account's key.
        loop: runs the steps.
        proofs: what is presented to the CA at this moment.
        exchange_seconds: how long one request to the CA may take, repetitions included. The time for all
            of the work is far longer; a CA that fails shall be seen before it is over.
    """

    def __init__(
        self,
        session: Session,
        key: AccountKey,
        loop: StepLoop,
        proofs: PresentedProofs,
        *,
        exchange_seconds: float = 120.0,
    ) -> None:
        self.session = session
        self.exchange_seconds = exchange_seconds
        self.proofs = proofs
        self.after_request = PollInterval()  # from the CA's fetch of the proof to its decision
        self.unseen = PollInterval(first=0.05, longest=3.0)  # the same where no fetch can be seen
        self._thumbprint = key.thumbprint
        self._loop = loop
        self._clock = loop.clock
        # Not the loop's: there the CA is looked up, for which no order is to wait behind slow validators.
        self._threads = SharedThreads(_VALIDATOR_THREADS, "acmems-validator")
        self._turns = ProofTurns()
        self._waiting: set[Signal] = set()
        self._is_stopped = False

    def fetch(self, url: str, deadline: Deadline) -> Steps[tuple[Authorization, float | None]]:
        """Return an authorization as the CA sees it now, and the seconds not to ask again, if it said so.

        Raises:
            CAError, RateLimited, DeadlinePassed: the CA did not answer usably.
        """
        response = yield from self._post(url, None, deadline)
        return parse(response, url), response.retry_after(self._clock.now())

    def prove(
        self,
        urls: Sequence[str],
        wanted: Collection[Identifier],
        validators: Sequence[Validator],
        deadline: Deadline,
        until_remembered: Callable[[], Steps[None]] | None = None,
        *,
        excluded: Exclusions = frozenset(),
    ) -> Steps[list[Authorization]]:
        """Prove names to the CA, all at once, and return their valid authorizations.

        Proofs are withdrawn as soon as it is decided, also after errors.

        Args:
            urls: the authorizations.
            wanted: the names to prove; an authorization for any other name stops everything.
            validators: what there is to prove them, best first; each name is proved by the first that can and
                whose challenge the CA offers. None are needed where all is valid already.
            deadline: when to give up.
            until_remembered: waits until a crash would not lose the order; before that nothing is presented.
            excluded: what would fail, and is not tried.

        Raises:
            ChallengeFailed: the CA could not validate a name.
            NoChallengeMethodsSupported: the CA offers no challenge that a validator can answer.
            ValidatorUnavailable: the validator could not present its proof.
            CAError, RateLimited, DeadlinePassed: the CA did not answer usably, or in time.
        """
        fetched = yield from gather(self.fetch(url, deadline) for url in urls)
        authorizations = [authorization for authorization, _ in fetched]
        check_names(authorizations, wanted)
        undecided = check_valid(authorizations)
        if not undecided:
            return authorizations
        if until_remembered is not None:
            yield from until_remembered()
        attempts: list[Attempt] = []
        wake = Signal()
        self._waiting.add(wake)
        try:
            yield from self._begin(undecided, validators, deadline, attempts.append, wake, excluded=excluded)
            yield from self._await_decisions(list(attempts), wake, deadline)
        finally:
            self._waiting.discard(wake)
            yield from self.withdraw(*attempts)
        proved = {attempt.authorization.url: attempt.authorization for attempt in attempts}
        return [proved.get(each.url, each) for each in authorizations]

    def stop(self) -> None:
        """End all waiting for the CA, now and from now on, with `CAUnavailable`; proofs are withdrawn."""
        self.proofs.stopping.set()
        self._is_stopped = True
        self._turns.stop()
        for wake in tuple(self._waiting):
            wake.set()

    def begin(
        self,
        authorization: Authorization,
        validator: Validator | None,
        deadline: Deadline,
        register: Callable[[Attempt], None],
    ) -> Steps[Attempt]:
        """Present the proof for one authorization and tell the CA that it may come (section 7.5.1).

        Args:
            authorization: a pending one.
            validator: what presents the proof.
            deadline: when to give up.
            register: told of the attempt once something may have to be withdrawn.

        Raises:
            NoChallengeMethodsSupported, ValidatorUnavailable: there is no proof to present.
            CAError, RateLimited, DeadlinePassed: the CA did not answer usably.
        """
        validators = [validator] if validator else []
        (attempt,) = yield from self._begin([authorization], validators, deadline, register, Signal())
        return attempt

    def withdraw(self, *attempts: Attempt) -> Steps[None]:
        """Take the proofs of attempts away; once.

        Args:
            attempts: what is decided, or given up.
        """
        yield from gather(self._withdraw(*each) for each in _by_validator(attempts))

    def _withdraw(self, validator: Validator, attempts: Sequence[Attempt]) -> Steps[None]:
        proofs = []
        for attempt in attempts:
            if attempt.proof is not None:
                proofs.append(attempt.proof)
                attempt.proof = None
        if proofs:
            try:
                yield from self._act(validator, lambda: self.proofs.withdraw(validator, proofs))
            finally:
                self._turns.leave(validator, proofs)

    def _begin(
        self,
        authorizations: Sequence[Authorization],
        validators: Sequence[Validator],
        deadline: Deadline,
        register: Callable[[Attempt], None],
        wake: Signal,
        *,
        excluded: Exclusions = frozenset(),
    ) -> Steps[list[Attempt]]:
        ways = pick(authorizations, validators, excluded)
        attempts = [
            Attempt(authorization, challenge, validator)
            for authorization, (challenge, validator) in zip(authorizations, ways, strict=True)
        ]
        # What takes a while comes first: a turn is not held, nor a name validated in vain, while DNS is slow.
        for at_once in (False, True):
            stage = [attempt for attempt in attempts if attempt.validator.is_immediate is at_once]
            yield from self._present_all(stage, deadline, register, wake)
        yield from gather(self._answer(attempt, deadline) for attempt in attempts)
        return attempts

    def _present_all(
        self,
        attempts: Sequence[Attempt],
        deadline: Deadline,
        register: Callable[[Attempt], None],
        wake: Signal,
    ) -> Steps[None]:
        """Present the proofs of attempts, by each validator those of all its names at once."""
        proofs = [
            (validator, {attempt: self._proof(attempt, wake) for attempt in group})
            for validator, group in _by_validator(attempts)
        ]
        yield from self._turns.take(
            [(validator, list(each.values())) for validator, each in proofs], deadline
        )
        yield from gather(self._present(*each, deadline, register) for each in proofs)

    def _present(
        self,
        validator: Validator,
        proofs: Mapping[Attempt, Proof],
        deadline: Deadline,
        register: Callable[[Attempt], None],
    ) -> Steps[None]:
        """Present the proofs of attempts by one validator, which has its turn for them."""
        shown = list(proofs.values())
        try:
            noting = self.proofs.note(validator, shown)
            note = None if noting is None else (yield from outcome(noting))
            yield from self._act(validator, lambda: self.proofs.present(validator, shown, deadline, note))
        except BaseException:
            self._turns.leave(validator, shown)
            raise
        for attempt, proof in proofs.items():
            attempt.proof = proof
            register(attempt)

    def _act(self, validator: Validator, act: Callable[[], None]) -> Steps[None]:
        """Have a validator do something, in a thread unless it takes no time."""
        if self.proofs.is_immediate(validator):
            act()
        else:
            yield from self._threads.call(act)

    def _proof(self, attempt: Attempt, wake: Signal) -> Proof:
        def on_request() -> None:  # by any thread
            if not attempt.requested.is_set():
                attempt.requested.set()
                self._loop.soon(functools.partial(self._note_request, attempt, wake))

        identifier, challenge = attempt.authorization.identifier, attempt.challenge
        token = challenge.token
        return Proof(
            Identifier(identifier.type, identifier.base),
            token,
            f"{token}.{self._thumbprint}" if token else "",
            on_request,
            account_url=self.session.kid or "",
            is_wildcard=identifier.is_wildcard,
            issuers=challenge.issuers,
        )

    def _note_request(self, attempt: Attempt, wake: Signal) -> None:
        """Expect the decision soon: the CA has come for the proof."""
        attempt.since = self._clock.monotonic()
        attempt.polls = 0
        attempt.next_poll = attempt.since + self.after_request.interval(0)
        wake.set()

    def _answer(self, attempt: Attempt, deadline: Deadline) -> Steps[None]:
        """Tell the CA that it may come, if it does not know (section 7.5.1)."""
        attempt.since = self._clock.monotonic()
        attempt.next_poll = attempt.since + self.unseen.interval(0)
        if attempt.challenge.status != "pending":
            return
        try:
            yield from self._post(attempt.challenge.url, {}, deadline)
        except CAProblem as problem:
            # Somebody else may have answered it, or it is decided already: the authorization tells.
            name = attempt.authorization.name
            logger.warning("the CA did not take the request to validate %s: %s", name, problem)
            attempt.complaint.refusal = problem
            attempt.next_poll = self._clock.monotonic()

    def _post(self, url: str, payload: dict[str, object] | None, deadline: Deadline) -> Steps[Response]:
        return (yield from self.session.post(url, payload, deadline=deadline.within(self.exchange_seconds)))

    def poll(self, attempt: Attempt, deadline: Deadline) -> Steps[None]:
        """Look at an authorization that is being decided, and note when to look again.

        Raises:
            CAError, RateLimited, DeadlinePassed: the CA did not answer usably.
        """
        interval = self.after_request if attempt.requested.is_set() else self.unseen
        attempt.authorization, retry_after = yield from self.fetch(attempt.authorization.url, deadline)
        attempt.polls += 1
        now = self._clock.monotonic()
        if attempt.authorization.is_undecided:
            attempt.next_poll = now + interval.wait(attempt.polls, retry_after, deadline.remaining)
        else:
            interval.learn(now - attempt.since, attempt.polls)

    def _await_decisions(self, waiting: list[Attempt], wake: Signal, deadline: Deadline) -> Steps[None]:
        decisions = Decisions(self._clock)
        while waiting:
            if self._is_stopped:
                raise CAUnavailable("this server is stopping; ask again")
            now = self._clock.monotonic()
            due = [attempt for attempt in waiting if attempt.next_poll <= now]
            if due:
                yield from gather(self.poll(attempt, deadline) for attempt in due)
                waiting = decisions.undecided(waiting)
                continue
            until = min(attempt.next_poll for attempt in waiting) - now
            left = min(deadline.remaining, decisions.remaining)
            if left <= 0:
                raise decisions.end(waiting)
            yield wake.wait(min(until, left))
            wake.clear()


def _by_validator(attempts: Iterable[Attempt]) -> list[tuple[Validator, list[Attempt]]]:
    groups: dict[int, tuple[Validator, list[Attempt]]] = {}
    for attempt in attempts:
        groups.setdefault(id(attempt.validator), (attempt.validator, []))[1].append(attempt)
    return list(groups.values())
