"""Names on their way from a pending authorization to a decision (RFC 8555 sections 7.5, 8)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from acme import messages
from josepy.b64 import b64encode
from josepy.jwk import JWK

from acmems.challenges import Proof, Validator
from acmems.challenges.presented.journal import Journal
from acmems.challenges.presented.proofs import PresentedProofs
from acmems.exceptions import CAProblem, CAUnavailable, DeadlinePassed
from acmems.issuers.acme.authorization import (
    check_names,
    fitting,
    identifier_of,
    is_open,
    is_valid,
    name_of,
    parse,
    pick,
)
from acmems.issuers.acme.polling import PollInterval
from acmems.issuers.acme.session import Session
from acmems.issuers.acme.worker_pool import WorkerPool
from acmems.system.clock import Clock, Deadline
from acmems.x509.identifiers import Identifier

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Attempt:
    """One authorization on its way to a decision.

    Args:
        authzr: the authorization, as last seen.
        challenge: the challenge that is answered.
        validator: what answers it.
        requested: set as soon as the CA was seen fetching the answer.
        next_look: when to look at the authorization again, in seconds of the monotonic clock.
        since: when the CA could start to decide, on the same clock.
        looks: how many looks found it undecided since then.
    """

    authzr: messages.AuthorizationResource
    challenge: messages.ChallengeBody
    validator: Validator
    requested: threading.Event = field(default_factory=threading.Event)
    next_look: float = 0.0
    since: float = 0.0
    looks: int = 0
    proof: Proof | None = None

    @property
    def sees_requests(self) -> bool:
        """Whether it can be seen that the CA fetches the answer."""
        return self.validator.sees_requests


class Authorizations:
    """The authorizations of one account that are being proved.

    Args:
        session: the way to the CA.
        key: the account's key.
        workers: who makes several requests at once.
        clock: for deadlines and waits.
        journal: where proofs are noted that outlive this process.
    """

    def __init__(
        self, session: Session, key: JWK, workers: WorkerPool, clock: Clock, journal: Journal
    ) -> None:
        self.session = session
        self.key = key
        self.thumbprint = b64encode(key.thumbprint()).decode("ascii")
        self.workers = workers
        self.clock = clock
        self.seen = PollInterval()  # from the CA's fetch of the answer to its decision
        self.unseen = PollInterval(first=0.05, longest=3.0)  # the same where no fetch can be seen
        self.proofs = PresentedProofs(clock, journal)
        self._lock = threading.Lock()  # guards what follows
        self._waiting: set[threading.Event] = set()
        self._stopped = False

    def fetch(self, url: str, deadline: Deadline) -> tuple[messages.AuthorizationResource, float | None]:
        """Return an authorization as the CA sees it now, and the seconds not to ask again, if it said so.

        Args:
            url: the authorization's URL.
            deadline: when to give up.

        Raises:
            CAError, RateLimited, DeadlinePassed: the CA did not answer usably.
        """
        answer = self.session.post(url, None, deadline=deadline)
        return parse(answer, url), answer.retry_after(self.clock.now())

    def prove(
        self,
        urls: Sequence[str],
        wanted: Collection[Identifier],
        validators: Sequence[Validator],
        deadline: Deadline,
    ) -> list[messages.AuthorizationResource]:
        """Prove names to the CA, all at once, and return their valid authorizations.

        Challenges are withdrawn as soon as it is decided, also after errors.

        Args:
            urls: the authorizations.
            wanted: the names to prove; an authorization for any other name stops everything.
            validators: what can prove them; the first that the CA takes for all that is yet to be
                proved does. None are needed where all is proved already.
            deadline: when to give up.

        Raises:
            ChallengeFailed: the CA could not validate a name.
            NoChallengeMethodsSupported: the CA offers no challenge that a validator can answer.
            ValidatorUnavailable: the validator could not present its proof.
            CAError, RateLimited, DeadlinePassed: the CA did not answer usably, or in time.
        """
        authzrs = [authzr for authzr, _ in self.workers.each(lambda url: self.fetch(url, deadline), urls)]
        check_names(authzrs, wanted)
        undecided = [authzr for authzr in authzrs if not is_valid(authzr)]
        attempts: list[Attempt] = []
        wake = threading.Event()
        with self._lock:
            self._waiting.add(wake)
        try:
            if undecided:
                self._begin(undecided, pick(undecided, validators), deadline, attempts.append, wake.set)
            self._wait(list(attempts), wake, deadline)
        finally:
            with self._lock:
                self._waiting.discard(wake)
            self.withdraw(*attempts)
        proved = {attempt.authzr.uri: attempt.authzr for attempt in attempts}
        return [proved.get(authzr.uri, authzr) for authzr in authzrs]

    def stop(self) -> None:
        """End all waiting for the CA, now and from now on, with `CAUnavailable`; proofs are withdrawn."""
        self.proofs.stopping.set()
        with self._lock:
            self._stopped = True
            waiting = tuple(self._waiting)
        for wake in waiting:
            wake.set()

    def begin(
        self,
        authzr: messages.AuthorizationResource,
        validator: Validator | None,
        deadline: Deadline,
        register: Callable[[Attempt], None],
        on_request: Callable[[], object] = lambda: None,
    ) -> Attempt:
        """Present the proof for one authorization and tell the CA that it may come (section 7.5.1).

        Args:
            authzr: a pending authorization.
            validator: what presents the proof.
            deadline: when to give up.
            register: told of the attempt once something may have to be withdrawn.
            on_request: called when the CA is first seen fetching the proof.

        Raises:
            NoChallengeMethodsSupported, ValidatorUnavailable: there is no proof to show.
            CAError, RateLimited, DeadlinePassed: the CA did not answer usably.
        """
        (attempt,) = self._begin(
            [authzr], pick([authzr], [validator] if validator else []), deadline, register, on_request
        )
        return attempt

    def _begin(
        self,
        authzrs: Sequence[messages.AuthorizationResource],
        validator: Validator,
        deadline: Deadline,
        register: Callable[[Attempt], None],
        on_request: Callable[[], object],
    ) -> list[Attempt]:
        attempts = [
            Attempt(authzr, offered, validator)
            for authzr in authzrs
            if (offered := fitting(authzr, validator)) is not None
        ]
        proofs = [self._proof(attempt, on_request) for attempt in attempts]
        self.proofs.present(validator, proofs, deadline)
        for attempt, proof in zip(attempts, proofs, strict=True):
            attempt.proof = proof
            register(attempt)
        self.workers.each(lambda attempt: self._answer(attempt, deadline), attempts)
        return attempts

    def _proof(self, attempt: Attempt, on_request: Callable[[], object]) -> Proof:
        def seen() -> None:
            if not attempt.requested.is_set():
                attempt.since = self.clock.monotonic()
                attempt.looks = 0
                attempt.next_look = attempt.since + self.seen.interval(0)
                attempt.requested.set()
                on_request()

        named = identifier_of(attempt.authzr)
        kind = attempt.challenge.chall
        token = kind.token.decode("ascii")
        return Proof(
            Identifier(named.type, named.base),
            token,
            f"{token}.{self.thumbprint}" if token else "",
            seen,
            account_url=self.session.kid or "",
            is_wildcard=named.is_wildcard,
            issuers=getattr(kind, "issuers", ()),
        )

    def _answer(self, attempt: Attempt, deadline: Deadline) -> None:
        """Tell the CA that it may come, if it does not know (section 7.5.1)."""
        attempt.since = self.clock.monotonic()
        attempt.next_look = attempt.since + self.unseen.interval(0)
        if attempt.challenge.status != messages.STATUS_PENDING:
            return
        try:
            self.session.post(attempt.challenge.uri, {}, deadline=deadline)
        except CAProblem as problem:
            # Somebody else may have answered it, or it is decided already: then a look tells.
            logger.debug("the CA did not take the answer to a challenge: %s", problem)
            attempt.next_look = self.clock.monotonic()

    def look(self, attempt: Attempt, deadline: Deadline) -> None:
        """Look at an authorization that is being decided, and note when to look again.

        Args:
            attempt: what to look at.
            deadline: when to give up.

        Raises:
            CAError, RateLimited, DeadlinePassed: the CA did not answer usably.
        """
        pace = self.seen if attempt.requested.is_set() else self.unseen
        attempt.authzr, retry_after = self.fetch(attempt.authzr.uri, deadline)
        attempt.looks += 1
        now = self.clock.monotonic()
        if is_open(attempt.authzr):
            attempt.next_look = now + max(retry_after or 0.0, pace.interval(attempt.looks))
        else:
            pace.learn(now - attempt.since, attempt.looks)

    def _wait(self, waiting: list[Attempt], wake: threading.Event, deadline: Deadline) -> None:
        while waiting:
            if self._stopped:
                raise CAUnavailable("this server is stopping; ask again")
            now = self.clock.monotonic()
            due = [attempt for attempt in waiting if attempt.next_look <= now]
            if due:
                self.workers.each(lambda attempt: self.look(attempt, deadline), due)
                waiting = [attempt for attempt in waiting if not is_valid(attempt.authzr)]
                continue
            if deadline.passed:
                names = ", ".join(name_of(attempt.authzr) for attempt in waiting)
                raise DeadlinePassed(f"the CA has not yet decided on {names}", retry_after=10.0)
            pause = min(attempt.next_look for attempt in waiting) - now
            self.clock.wait(wake, min(pause, deadline.remaining))
            wake.clear()

    def withdraw(self, *attempts: Attempt) -> None:
        """Take the proofs of attempts away; once.

        Args:
            attempts: what is decided, or given up; all of one validator.
        """
        proofs = []
        for attempt in attempts:
            if attempt.proof is not None:
                proofs.append(attempt.proof)
                attempt.proof = None
        if proofs:
            self.proofs.withdraw(attempts[0].validator, proofs)
