"""Authorizations as python-acme has them, which the documented API takes and returns."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from acme import challenges, messages
from josepy.b64 import b64encode
from josepy.errors import DeserializationError
from josepy.json_util import field as josepy_field

from acmems.exceptions import CAProtocolError
from acmems.issuers.acme.authorization import Authorization, AuthorizationStatus, Challenge
from acmems.text import one_line
from acmems.x509.identifiers import Identifier

# RFC 8555 section 7.1.6 has a state that python-acme does not know; making it registers it there.
STATUS_EXPIRED = messages.Status("expired")
ENDED = frozenset({messages.STATUS_REVOKED, messages.STATUS_DEACTIVATED, STATUS_EXPIRED})
KNOWN = ENDED | {
    messages.STATUS_PENDING,
    messages.STATUS_PROCESSING,
    messages.STATUS_VALID,
    messages.STATUS_INVALID,
}


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


class _DnsPersist01(challenges.Challenge):
    """A challenge without token (draft-ietf-acme-dns-persist)."""

    typ = "dns-persist-01"
    issuers: tuple[str, ...] = josepy_field("issuer-domain-names", omitempty=True, default=(), decoder=tuple)


_KINDS: Mapping[str, type[challenges.Challenge]] = {
    kind.typ: kind for kind in (_Http01, _Dns01, _DnsAccount01, _TlsAlpn01, _DnsPersist01)
}


def to_resource(authorization: Authorization) -> messages.AuthorizationResource:
    """Return an authorization as python-acme has it.

    Raises:
        CAProtocolError: python-acme cannot read it.
    """
    members = {name: value for name, value in authorization.document.items() if name != "challenges"}
    readable = [(each.type, each.url) for each in authorization.challenges]  # what a CA writes may not hash
    offered = [
        raw
        for raw in authorization.document["challenges"]
        if isinstance(raw, dict) and (raw.get("type"), raw.get("url")) in readable
    ]
    try:
        body = messages.Authorization.from_json(members)
        body = body.update(challenges=tuple(map(_challenge_body, offered)))
    except (DeserializationError, ValueError, TypeError, AttributeError) as error:
        raise CAProtocolError("an authorization cannot be read") from error
    return messages.AuthorizationResource(body=body, uri=authorization.url)


def _challenge_body(raw: Mapping[str, Any]) -> messages.ChallengeBody:
    known = {name: value for name, value in raw.items() if value is not None}
    kind = _KINDS.get(known["type"])
    if kind is None:
        body: messages.ChallengeBody = messages.ChallengeBody.from_json(known)
        return body
    fields = messages.ChallengeBody.fields_from_json({**known, "type": "none of python-acme's"})
    return messages.ChallengeBody(**{**fields, "chall": kind(**kind.fields_from_json(known))})


def name_of(resource: messages.AuthorizationResource) -> str:
    """Return the name that an authorization is for; wildcards under their `*.` name (section 7.1.3).

    Raises:
        CAProtocolError: it is for nothing that can be certified.
    """
    named: Any = resource.body.identifier
    if named is None or not isinstance(named.value, str):
        raise CAProtocolError("an authorization does not say which name it is for")
    make = Identifier.ip if named.typ == messages.IDENTIFIER_IP else Identifier.dns
    try:
        return make(f"*.{named.value}" if resource.body.wildcard else named.value).value
    except ValueError as error:
        raise CAProtocolError(f"an authorization is for something that is no name: {error}") from None


def has_expired(resource: messages.AuthorizationResource, now: datetime.datetime) -> bool:
    """Tell whether an authorization is over by its own date."""
    return resource.body.expires is not None and resource.body.expires <= now


def from_resource(resource: messages.AuthorizationResource) -> Authorization:
    """Return an authorization of python-acme's as this server has it.

    Raises:
        CAProtocolError: it is for nothing that can be certified.
    """
    name = name_of(resource)
    make = Identifier.ip if resource.body.identifier.typ == messages.IDENTIFIER_IP else Identifier.dns
    offered = tuple(
        Challenge(
            _type_of(each.chall),
            each.uri,
            each.status.name,
            _token_of(each.chall),
            issuers=tuple(getattr(each.chall, "issuers", ())),
            error="" if each.error is None else one_line(each.error.detail or each.error.typ),
        )
        for each in resource.body.challenges or ()
        if each.uri
    )
    status = AuthorizationStatus(resource.body.status.name)
    return Authorization(resource.uri, make(name), status, offered, {})


def _type_of(challenge: challenges.Challenge) -> str:
    if isinstance(challenge, challenges.UnrecognizedChallenge):  # its class has no type of its own
        return str(challenge.jobj["type"])
    return str(challenge.typ)


def _token_of(challenge: challenges.Challenge) -> str:
    token = getattr(challenge, "token", b"")
    is_text = type(challenge) in _KINDS.values()  # python-acme's own classes decode it
    return str(token.decode("ascii") if is_text else b64encode(token).decode("ascii"))
