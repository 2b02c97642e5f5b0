"""Authorizations: how the names of an order are proved to the CA (RFC 8555 sections 7.1.4, 7.5, 8)."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from acme import challenges, messages
from josepy.errors import DeserializationError
from josepy.json_util import field as josepy_field
from josepy.jwk import JWK

from acmems.challenges import Proof, Validator
from acmems.clock import Clock, Deadline
from acmems.crew import Crew
from acmems.exceptions import (
    CAProblem,
    CAProtocolError,
    CAUnavailable,
    ChallengeFailed,
    ChallengesUnknownStatus,
    DeadlinePassed,
    NoChallengeMethodsSupported,
)
from acmems.names import Identifier
from acmems.pace import Pace
from acmems.proofs import Proofs
from acmems.session import Answer, Session, readable_problem
from acmems.text import one_line

logger = logging.getLogger(__name__)

# RFC 8555 section 7.1.6 has a state that python-acme does not know; making it registers it there.
STATUS_EXPIRED = messages.Status("expired")
ENDED = frozenset({messages.STATUS_REVOKED, messages.STATUS_DEACTIVATED, STATUS_EXPIRED})
KNOWN = ENDED | {
    messages.STATUS_PENDING,
    messages.STATUS_PROCESSING,
    messages.STATUS_VALID,
    messages.STATUS_INVALID,
}
_STATES = frozenset(status.name for status in KNOWN)

# Tokens become table keys and DNS record contents: base64url, or they are not used (section 8.1).
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,256}", re.ASCII)
_TOKEN_TYPES = frozenset({"http-01", "dns-01", "tls-alpn-01"})


def _token() -> Any:
    """Return the field of a token, kept as text (section 8.1): decoded and encoded it may be another."""
    return josepy_field("token", decoder=str.encode, encoder=bytes.decode)


class _Http01(challenges.HTTP01):
    token: bytes = _token()


class _Dns01(challenges.DNS01):
    token: bytes = _token()


_OURS: Mapping[str, type[challenges.Challenge]] = {"http-01": _Http01, "dns-01": _Dns01}


def parse(answer: Answer, url: str) -> messages.AuthorizationResource:
    """Return the authorization in a CA's answer.

    Challenges of unknown types, or that cannot be read, are left out: they are none of ours.

    Args:
        answer: the answer to a POST-as-GET of the authorization.
        url: its URL.

    Raises:
        ChallengesUnknownStatus: its status is none that RFC 8555 knows.
        CAProtocolError: it cannot be read, or a token is not base64url.
    """
    body = {name: value for name, value in answer.json().items() if value is not None}
    status = body.get("status")
    if not isinstance(status, str) or status not in _STATES:
        raise ChallengesUnknownStatus(f"an authorization has the unknown status {one_line(status, 40)!r}")
    offered = body.pop("challenges", None)
    if not isinstance(offered, list):
        raise CAProtocolError("an authorization has no list of challenges")
    if not isinstance(body.get("wildcard", False), bool):
        raise CAProtocolError("an authorization does not say whether it is for a wildcard name")
    try:
        parsed = messages.Authorization.from_json(body)
    except (DeserializationError, ValueError, TypeError, AttributeError) as error:
        raise CAProtocolError("an authorization cannot be read") from error
    usable = tuple(body for raw in offered for body in _challenge(raw))
    authzr = messages.AuthorizationResource(body=parsed.update(challenges=usable), uri=url)
    identifier_of(authzr)
    return authzr


def _challenge(raw: object) -> Sequence[messages.ChallengeBody]:
    if not isinstance(raw, dict) or not isinstance(raw.get("type"), str):
        return ()
    token = raw.get("token")
    if raw["type"] in _TOKEN_TYPES and not (isinstance(token, str) and _TOKEN.fullmatch(token)):
        raise CAProtocolError(f"the CA sent a {raw['type']} challenge whose token is not base64url")
    if not isinstance(raw.get("url"), str):
        return ()
    known = {name: value for name, value in raw.items() if value is not None and name != "error"}
    if isinstance(raw.get("error"), dict):
        known["error"] = readable_problem(raw["error"])
    try:
        return (_body(known),)
    except (DeserializationError, ValueError, TypeError, AttributeError):
        logger.debug("left out a challenge that cannot be read")
        return ()


def _body(known: dict[str, Any]) -> messages.ChallengeBody:
    kind = _OURS.get(known["type"])
    if kind is None:
        body: messages.ChallengeBody = messages.ChallengeBody.from_json(known)
        return body
    fields = messages.ChallengeBody.fields_from_json({**known, "type": "none of python-acme's"})
    return messages.ChallengeBody(**{**fields, "chall": kind(**kind.fields_from_json(known))})


def identifier_of(authzr: messages.AuthorizationResource) -> Identifier:
    """Return what an authorization is for, in normal form, wildcards with their `*.` (section 7.1.4).

    Args:
        authzr: the authorization.

    Raises:
        CAProtocolError: it is for nothing that can be certified.
    """
    named: Any = authzr.body.identifier  # python-acme does not look at the types within
    if named is None or not isinstance(named.value, str):
        raise CAProtocolError("an authorization does not say which name it is for")
    make = Identifier.ip if named.typ == messages.IDENTIFIER_IP else Identifier.dns
    try:
        return make(f"*.{named.value}" if authzr.body.wildcard else named.value)
    except ValueError as error:
        raise CAProtocolError(f"the CA wants something proved that nobody asked for: {error}") from None


def name_of(authzr: messages.AuthorizationResource) -> str:
    """Return the name that an authorization is for; wildcards under their `*.` name (section 7.1.3).

    Args:
        authzr: the authorization.

    Raises:
        CAProtocolError: it is for nothing that can be certified.
    """
    return identifier_of(authzr).value


def failure(authzr: messages.AuthorizationResource) -> ChallengeFailed:
    """Return the error that tells why an authorization is invalid.

    Args:
        authzr: the authorization.
    """
    for challenge in authzr.body.challenges:
        if challenge.error is not None:
            detail = challenge.error.detail or challenge.error.typ
            return ChallengeFailed(name_of(authzr), one_line(detail), challenge.uri)
    return ChallengeFailed(name_of(authzr), "the CA gave no reason", authzr.uri)


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
        return self.validator.challenge_type == "http-01"


class Authorizations:
    """The authorizations of one account that are being proved.

    Args:
        session: the way to the CA.
        key: the account's key.
        crew: who makes several requests at once.
        clock: for deadlines and waits.
    """

    def __init__(self, session: Session, key: JWK, crew: Crew, clock: Clock) -> None:
        self.session = session
        self.key = key
        self.crew = crew
        self.clock = clock
        self.seen = Pace()  # from the CA's fetch of the answer to its decision
        self.unseen = Pace(first=0.25, longest=3.0)  # the same where no fetch can be seen
        self._proofs = Proofs(clock)
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
        validator: Validator | None,
        deadline: Deadline,
    ) -> list[messages.AuthorizationResource]:
        """Prove names to the CA, all at once, and return their valid authorizations.

        Challenges are withdrawn as soon as it is decided, also after errors.

        Args:
            urls: the authorizations.
            wanted: the names to prove; an authorization for any other name stops everything.
            validator: what proves them, None if nothing does (then all must be valid already).
            deadline: when to give up.

        Raises:
            ChallengeFailed: the CA could not validate a name.
            NoChallengeMethodsSupported: the CA offers no challenge that the validator can answer.
            ValidatorUnavailable: the validator could not present its proof.
            CAError, RateLimited, DeadlinePassed: the CA did not answer usably, or in time.
        """
        authzrs = [authzr for authzr, _ in self.crew.each(lambda url: self.fetch(url, deadline), urls)]
        _check_names(authzrs, wanted)
        undecided = [authzr for authzr in authzrs if not is_valid(authzr)]
        attempts: list[Attempt] = []
        wake = threading.Event()
        with self._lock:
            self._waiting.add(wake)
        try:
            if undecided:
                self.crew.each(
                    lambda authzr: self.begin(authzr, validator, deadline, attempts.append, wake.set),
                    undecided,
                )
            self._wait(list(attempts), wake, deadline)
        finally:
            with self._lock:
                self._waiting.discard(wake)
            for attempt in attempts:
                self.withdraw(attempt)
        proved = {attempt.authzr.uri: attempt.authzr for attempt in attempts}
        return [proved.get(authzr.uri, authzr) for authzr in authzrs]

    def stop(self) -> None:
        """End all waiting for the CA, now and from now on, with `CAUnavailable`; proofs are withdrawn."""
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
        attempt = self._attempt(authzr, validator)

        def seen() -> None:
            if not attempt.requested.is_set():
                attempt.since = self.clock.monotonic()
                attempt.looks = 0
                attempt.next_look = attempt.since + self.seen.interval(0)
                attempt.requested.set()
                on_request()

        named = identifier_of(authzr)
        token = str(attempt.challenge.chall.encode("token"))
        key_authorization = str(attempt.challenge.key_authorization(self.key))
        proof = Proof(Identifier(named.type, named.base), token, key_authorization, seen)
        self._proofs.show(attempt.validator, proof, deadline)
        attempt.proof = proof
        register(attempt)
        attempt.since = self.clock.monotonic()
        attempt.next_look = attempt.since + self.unseen.interval(0)
        if attempt.challenge.status == messages.STATUS_PENDING:
            self._answer(attempt, deadline)
        return attempt

    def _attempt(self, authzr: messages.AuthorizationResource, validator: Validator | None) -> Attempt:
        name = name_of(authzr)
        if validator is None:
            raise NoChallengeMethodsSupported(f"no verification is configured that could prove {name}")
        for challenge in authzr.body.challenges:
            if challenge.chall.typ == validator.challenge_type and challenge.uri:
                return Attempt(authzr, challenge, validator)
        raise NoChallengeMethodsSupported(f"the CA offers no {validator.challenge_type} challenge for {name}")

    def _answer(self, attempt: Attempt, deadline: Deadline) -> None:
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
                self.crew.each(lambda attempt: self.look(attempt, deadline), due)
                waiting = [attempt for attempt in waiting if not is_valid(attempt.authzr)]
                continue
            if deadline.passed:
                names = ", ".join(name_of(attempt.authzr) for attempt in waiting)
                raise DeadlinePassed(f"the CA has not yet decided on {names}", retry_after=10.0)
            pause = min(attempt.next_look for attempt in waiting) - now
            self.clock.wait(wake, min(pause, deadline.remaining))
            wake.clear()

    def withdraw(self, attempt: Attempt) -> None:
        """Take the proof of an attempt away; once.

        Args:
            attempt: what is decided, or given up.
        """
        if attempt.proof is not None:
            proof, attempt.proof = attempt.proof, None
            self._proofs.hide(attempt.validator, proof)


def is_open(authzr: messages.AuthorizationResource) -> bool:
    """Tell whether the CA has not decided yet.

    Args:
        authzr: the authorization.
    """
    return authzr.body.status in (messages.STATUS_PENDING, messages.STATUS_PROCESSING)


def is_valid(authzr: messages.AuthorizationResource) -> bool:
    """Tell whether a name is proved; False as long as the CA has not decided.

    Args:
        authzr: the authorization.

    Raises:
        ChallengeFailed: it never will be.
    """
    if authzr.body.status == messages.STATUS_INVALID:
        raise failure(authzr)
    if authzr.body.status in ENDED:
        raise ChallengeFailed(name_of(authzr), f"its authorization is {authzr.body.status.name}", authzr.uri)
    return bool(authzr.body.status == messages.STATUS_VALID)


def _check_names(authzrs: Sequence[messages.AuthorizationResource], wanted: Collection[Identifier]) -> None:
    for authzr in authzrs:
        if identifier_of(authzr) not in wanted:
            raise CAProtocolError(
                f"the CA wants {one_line(name_of(authzr), 260)} proved, which nobody asked for"
            )
