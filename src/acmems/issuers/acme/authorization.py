"""Authorizations as the CA states them: read, checked, and told apart (RFC 8555 sections 7.1.4, 7.5)."""

from __future__ import annotations

import enum
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from acmems.challenges import Validator
from acmems.challenges.contract import is_token
from acmems.exceptions import (
    CAProtocolError,
    ChallengeFailed,
    ChallengesUnknownStatus,
    NoChallengeMethodsSupported,
)
from acmems.issuers.acme.prechecks.examination import Exclusions
from acmems.issuers.acme.session import Response, problem_in
from acmems.text import one_line
from acmems.x509.identifiers import Identifier

logger = logging.getLogger(__name__)

_TOKEN_TYPES = frozenset({"http-01", "dns-01", "dns-account-01", "tls-alpn-01"})
_LONGEST_ERROR = 2000  # characters of a problem with all that is within
_MOST_ISSUERS = 10  # draft-ietf-acme-dns-persist


class AuthorizationStatus(enum.StrEnum):
    """The states of an authorization (section 7.1.6); some CAs say `processing`, as for challenges."""

    PENDING = "pending"
    PROCESSING = "processing"
    VALID = "valid"
    INVALID = "invalid"
    REVOKED = "revoked"
    DEACTIVATED = "deactivated"
    EXPIRED = "expired"


UNDECIDED = frozenset({AuthorizationStatus.PENDING, AuthorizationStatus.PROCESSING})
ENDED = frozenset({AuthorizationStatus.REVOKED, AuthorizationStatus.DEACTIVATED, AuthorizationStatus.EXPIRED})
_CHALLENGE_STATES = frozenset({"pending", "processing", "valid", "invalid"})


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to validate an identifier (section 7.1.5).

    Args:
        type: as the CA spells it, such as `http-01`.
        url: where the CA is told that it may come.
        status: its state.
        token: what the proof is made from; empty for types that have none.
        error: what went wrong, one line; empty while nothing did.
        issuers: the names of the CA, where the challenge gives them (dns-persist-01).
    """

    type: str
    url: str
    status: str = "pending"
    token: str = ""
    error: str = ""
    issuers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Authorization:
    """An authorization: make it with `parse`.

    Args:
        url: its URL.
        identifier: what it is for; wildcards with their `*.`.
        status: its state.
        challenges: those that can be read.
        document: the JSON object that it was read from.
    """

    url: str
    identifier: Identifier
    status: AuthorizationStatus
    challenges: tuple[Challenge, ...]
    document: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """The name that it is for; wildcards under their `*.` name (section 7.1.3)."""
        return self.identifier.value

    @property
    def is_undecided(self) -> bool:
        """Whether the CA has not decided yet."""
        return self.status in UNDECIDED

    @property
    def failure(self) -> ChallengeFailed:
        """The error that tells why it is invalid."""
        for challenge in self.challenges:
            if challenge.error:
                return ChallengeFailed(self.name, challenge.error, challenge.url)
        return ChallengeFailed(self.name, "the CA gave no reason", self.url)

    def is_valid(self) -> bool:
        """Tell whether the name is validated; False as long as the CA has not decided.

        Raises:
            ChallengeFailed: it never will be.
        """
        if self.status is AuthorizationStatus.INVALID:
            raise self.failure
        if self.status in ENDED:
            raise ChallengeFailed(self.name, f"its authorization is {self.status}", self.url)
        return self.status is AuthorizationStatus.VALID

    def challenge_for(self, validator: Validator) -> Challenge | None:
        """Return the challenge that a validator answers; None if the CA offers none."""
        return next((each for each in self.challenges if each.type == validator.challenge_type), None)


def parse(response: Response, url: str) -> Authorization:
    """Return the authorization in a CA's response.

    Challenges of unknown types, or that cannot be read, are left out: no validator could answer them.

    Args:
        response: the response to a POST-as-GET of the authorization.
        url: its URL.

    Raises:
        ChallengesUnknownStatus: its status is none that RFC 8555 knows.
        CAProtocolError: it cannot be read, or a token is not base64url.
    """
    body = {name: value for name, value in response.json().items() if value is not None}
    status = body.get("status")
    if not isinstance(status, str) or status not in set(AuthorizationStatus):
        raise ChallengesUnknownStatus(f"an authorization has the unknown status {one_line(status, 40)!r}")
    offered = body.get("challenges")
    if not isinstance(offered, list):
        raise CAProtocolError("an authorization has no list of challenges")
    if not isinstance(body.get("wildcard", False), bool):
        raise CAProtocolError("an authorization does not say whether it is for a wildcard name")
    challenges = tuple(challenge for raw in offered for challenge in _challenges(raw))
    return Authorization(url, _identifier(body), AuthorizationStatus(status), challenges, body)


def _challenges(raw: object) -> Iterator[Challenge]:
    """Yield the challenge in a JSON value, if there is one that can be read."""
    if not isinstance(raw, dict) or not isinstance(raw.get("type"), str):
        return
    token = raw.get("token")
    if raw["type"] in _TOKEN_TYPES and not (isinstance(token, str) and is_token(token)):
        raise CAProtocolError(f"the CA sent a {raw['type']} challenge whose token is not base64url")
    status, issuers = raw.get("status") or "pending", raw.get("issuer-domain-names") or []
    is_readable = isinstance(raw.get("url"), str) and isinstance(status, str) and status in _CHALLENGE_STATES
    if not is_readable or not isinstance(issuers, list) or not all(isinstance(name, str) for name in issuers):
        logger.debug("left out a challenge that cannot be read")
        return
    error = ""
    if isinstance(raw.get("error"), dict):
        error = one_line(problem_in(raw["error"]), _LONGEST_ERROR)
    yield Challenge(
        raw["type"],
        raw["url"],
        status,
        token if raw["type"] in _TOKEN_TYPES and isinstance(token, str) else "",
        error,
        tuple(issuers[:_MOST_ISSUERS]),
    )


def _identifier(body: Mapping[str, Any]) -> Identifier:
    """Return what an authorization is for, in normal form, wildcards with their `*.` (section 7.1.4)."""
    named = body.get("identifier")
    kind, value = (named.get("type"), named.get("value")) if isinstance(named, dict) else (None, None)
    if kind not in ("dns", "ip") or not isinstance(value, str):
        raise CAProtocolError("an authorization does not say which name it is for")
    make = Identifier.ip if kind == "ip" else Identifier.dns
    try:
        return make(f"*.{value}" if body.get("wildcard") else value)
    except ValueError as error:
        raise CAProtocolError(f"the CA wants something validated that nobody asked for: {error}") from None


def check_names(authorizations: Sequence[Authorization], wanted: Collection[Identifier]) -> None:
    """Stop if the CA wants anything validated that was not ordered.

    Raises:
        CAProtocolError: it does.
    """
    for authorization in authorizations:
        if authorization.identifier not in wanted:
            name = one_line(authorization.name, 260)
            raise CAProtocolError(f"the CA wants {name} validated, which nobody asked for")


def check_valid(authorizations: Sequence[Authorization]) -> list[Authorization]:
    """Return those that the CA has not decided.

    Raises:
        ChallengeFailed: some never will be valid; tells of each.
    """
    undecided, failures = [], []
    for authorization in authorizations:
        try:
            if not authorization.is_valid():
                undecided.append(authorization)
        except ChallengeFailed as failure:
            failures.append(failure)
    if failures:
        raise failures[0].together(failures[1:])
    return undecided


def pick(
    authorizations: Sequence[Authorization],
    validators: Sequence[Validator],
    excluded: Exclusions = frozenset(),
) -> list[tuple[Challenge, Validator]]:
    """Return what proves each of some names: the first validator that can, and the challenge that it answers.

    Args:
        authorizations: those of the names.
        validators: what there is to prove them, best first; a name that one cannot prove is left to the next.
        excluded: what would fail.

    Raises:
        NoChallengeMethodsSupported: there is none for some of the names; tells of each.
    """
    able = {
        each.url: [
            validator
            for validator in validators
            if validator.proves(each.identifier)
            and (each.identifier, validator.challenge_type) not in excluded
        ]
        for each in authorizations
    }
    ways = [_way(authorization, able[authorization.url]) for authorization in authorizations]
    lacking = [each for each, way in zip(authorizations, ways, strict=True) if way is None]
    unprovable = [each for each in lacking if not able[each.url]]
    problems = []
    if unprovable:
        problems.append(f"no verification is configured that could prove {_listed(unprovable)}")
    kinds = {each.url: " or ".join(_kinds(able[each.url])) for each in lacking if each not in unprovable}
    for kind in dict.fromkeys(kinds.values()):
        names = _listed(each for each in lacking if kinds.get(each.url) == kind)
        problems.append(f"the CA offers no {kind} challenge for {names}")
    if problems:
        raise NoChallengeMethodsSupported("; ".join(problems))
    return [way for way in ways if way is not None]


def _way(authorization: Authorization, validators: Sequence[Validator]) -> tuple[Challenge, Validator] | None:
    for validator in validators:
        challenge = authorization.challenge_for(validator)
        if challenge is not None:
            return challenge, validator
    return None


def _kinds(validators: Sequence[Validator]) -> list[str]:
    """Return the types of challenge that validators answer."""
    return list(dict.fromkeys(validator.challenge_type for validator in validators))


def _listed(authorizations: Iterable[Authorization]) -> str:
    return ", ".join(each.name for each in authorizations)
