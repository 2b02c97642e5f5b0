"""Authorizations as the CA states them: read, checked, and told apart (RFC 8555 sections 7.1.4, 7.5)."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from acme import challenges, messages
from josepy.errors import DeserializationError
from josepy.json_util import field as josepy_field

from acmems.challenges import Validator
from acmems.challenges.contract import TOKEN
from acmems.exceptions import (
    CAProtocolError,
    ChallengeFailed,
    ChallengesUnknownStatus,
    NoChallengeMethodsSupported,
)
from acmems.issuers.acme.session import Response, readable_problem
from acmems.text import one_line
from acmems.x509.identifiers import Identifier

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

_TOKEN_TYPES = frozenset({"http-01", "dns-01", "dns-account-01", "tls-alpn-01"})
_MOST_ISSUERS = 10  # draft-ietf-acme-dns-persist


def _token() -> Any:
    """Return the field of a token, kept as text (section 8.1): decoded and encoded it may be another."""
    return josepy_field("token", decoder=str.encode, encoder=bytes.decode)


class _Http01(challenges.HTTP01):
    token: bytes = _token()


class _Dns01(challenges.DNS01):
    token: bytes = _token()


class _DnsAccount01(challenges.Challenge):
    typ = "dns-account-01"
    token: bytes = _token()


class _TlsAlpn01(challenges.Challenge):
    typ = "tls-alpn-01"
    token: bytes = _token()


def _issuers(raw: object) -> tuple[str, ...]:
    if not isinstance(raw, list) or not all(isinstance(name, str) for name in raw):
        raise DeserializationError("the issuers of a challenge are no list of names")
    return tuple(raw[:_MOST_ISSUERS])


class _DnsPersist01(challenges.Challenge):
    """A challenge without token: what it wants to see is who asks whom (draft-ietf-acme-dns-persist)."""

    typ = "dns-persist-01"
    token: bytes = b""
    issuers: tuple[str, ...] = josepy_field(
        "issuer-domain-names", omitempty=True, default=(), decoder=_issuers
    )


_OURS: Mapping[str, type[challenges.Challenge]] = {
    kind.typ: kind for kind in (_Http01, _Dns01, _DnsAccount01, _TlsAlpn01, _DnsPersist01)
}


def parse(answer: Response, url: str) -> messages.AuthorizationResource:
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
    if raw["type"] in _TOKEN_TYPES and not (isinstance(token, str) and TOKEN.fullmatch(token)):
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


def check_names(authzrs: Sequence[messages.AuthorizationResource], wanted: Collection[Identifier]) -> None:
    """Stop if the CA wants anything proved that was not ordered.

    Args:
        authzrs: the authorizations of an order.
        wanted: the names that were ordered.

    Raises:
        CAProtocolError: it does.
    """
    for authzr in authzrs:
        if identifier_of(authzr) not in wanted:
            raise CAProtocolError(
                f"the CA wants {one_line(name_of(authzr), 260)} proved, which nobody asked for"
            )


def pick(authzrs: Sequence[messages.AuthorizationResource], validators: Sequence[Validator]) -> Validator:
    """Return the first validator whose type of challenge the CA offers for every one of some names.

    Args:
        authzrs: the authorizations of the names.
        validators: those that can prove all of them, best first.

    Raises:
        NoChallengeMethodsSupported: there is none.
    """
    if not validators:
        raise NoChallengeMethodsSupported(
            f"no verification is configured that could prove {_listed(authzrs)}"
        )
    for validator in validators:
        if all(fitting(authzr, validator) for authzr in authzrs):
            return validator
    kinds = " or ".join(dict.fromkeys(validator.challenge_type for validator in validators))
    lacking = [authzr for authzr in authzrs if not any(fitting(authzr, each) for each in validators)]
    raise NoChallengeMethodsSupported(f"the CA offers no {kinds} challenge for {_listed(lacking or authzrs)}")


def fitting(authzr: messages.AuthorizationResource, validator: Validator) -> messages.ChallengeBody | None:
    """Return the challenge of an authorization that a validator answers; None if the CA offers none.

    Args:
        authzr: the authorization.
        validator: the validator.
    """
    return next(
        (each for each in authzr.body.challenges if each.chall.typ == validator.challenge_type and each.uri),
        None,
    )


def _listed(authzrs: Sequence[messages.AuthorizationResource]) -> str:
    return ", ".join(map(name_of, authzrs))
