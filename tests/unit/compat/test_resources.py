"""Authorizations as python-acme has them: the same thing there and back, and nothing that a CA can break."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from acme import challenges, messages
from tests.fake_ca import AUTHORIZATION, NAME, TOKEN, authorization, challenge, headers_of

from acmems.compat import resources
from acmems.exceptions import CAProtocolError
from acmems.issuers.acme.authorization import Authorization, parse
from acmems.issuers.acme.session import Response
from acmems.x509.identifiers import Identifier


def read(document: dict[str, Any]) -> Authorization:
    """Return an authorization as the server reads it."""
    return parse(Response(200, headers_of({}), json.dumps(document).encode(), AUTHORIZATION), AUTHORIZATION)


def resource(**members: Any) -> messages.AuthorizationResource:
    """Return an authorization as python-acme has it."""
    return resources.to_resource(read(authorization(**members)))


class TestThere:
    """From what the CA sent to what scripts get."""

    def test_members_stand_where_python_acme_has_them(self) -> None:
        """URL, name, state, end and challenges stand where python-acme has them."""
        made = resource(expires="2030-01-01T00:00:00Z")
        assert isinstance(made, messages.AuthorizationResource)
        assert made.uri == AUTHORIZATION
        assert (made.body.identifier.typ, made.body.identifier.value) == (messages.IDENTIFIER_FQDN, NAME)
        assert made.body.status == messages.STATUS_PENDING
        assert made.body.expires == datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
        (offered,) = made.body.challenges
        assert isinstance(offered, messages.ChallengeBody)
        assert isinstance(offered.chall, challenges.HTTP01)
        assert offered.chall.path == f"/.well-known/acme-challenge/{TOKEN}"

    @pytest.mark.parametrize(
        ("type_", "token"),
        [
            *((type_, TOKEN) for type_ in ("http-01", "dns-01", "tls-alpn-01", "dns-account-01")),
            *(("dns-01", token) for token in ("a", "AB", "AC")),  # the last two decode to the same byte
        ],
    )
    def test_tokens_stay_as_they_are(self, type_: str, token: str) -> None:
        """A token is text (RFC 8555 section 8.1), and is written as it was read."""
        made = resource(challenges=[challenge(type_, token=token)])
        (offered,) = made.body.challenges
        assert offered.chall.encode("token") == token
        assert offered.to_partial_json()["token"] == token
        assert resources.from_resource(made).challenges[0].token == token

    def test_dns_persist_01_has_issuers_and_no_token(self) -> None:
        """dns-persist-01 has the names of the CA in place of a token."""
        persist = {"type": "dns-persist-01", "status": "pending", "url": "https://ca.example.org/c"}
        made = resource(challenges=[{**persist, "issuer-domain-names": ["ca.example.org"]}])
        assert made.body.challenges[0].chall.issuers == ("ca.example.org",)
        assert resources.from_resource(made).challenges[0].issuers == ("ca.example.org",)

    def test_an_unknown_challenge_is_kept(self) -> None:
        """A type that nobody knows does no harm, and is there for scripts."""
        made = resource(challenges=[challenge("new-01", token=7, more={"x": [1]}), challenge()])
        unknown, known = made.body.challenges
        assert isinstance(unknown.chall, challenges.UnrecognizedChallenge)
        assert isinstance(known.chall, challenges.HTTP01)
        assert [each.type for each in resources.from_resource(made).challenges] == ["new-01", "http-01"]

    @pytest.mark.parametrize(
        "left_out",
        [
            7,
            None,
            [],
            {},
            {"type": ["http-01"]},
            {"type": "new-01", "url": ["x"]},
            {"type": "new-01", "url": {}},
        ],
        ids=repr,
    )
    def test_what_is_no_challenge_is_left_out(self, left_out: object) -> None:
        """What is no challenge is left out, whatever a CA writes there."""
        assert len(resource(challenges=[left_out, challenge()]).body.challenges) == 1

    @pytest.mark.parametrize("members", [{"expires": "tomorrow"}, {"expires": 7}], ids=repr)
    def test_a_member_that_python_acme_cannot_read_is_the_cas_fault(self, members: dict[str, Any]) -> None:
        """Members that mean nothing to this server, and cannot be read by python-acme, are the CA's fault."""
        with pytest.raises(CAProtocolError, match="cannot be read"):
            resource(**members)


class TestBack:
    """From what scripts have to what the server works on."""

    @pytest.mark.parametrize(
        "members",
        [
            {},
            {"wildcard": True},
            {"identifier": {"type": "ip", "value": "2001:db8::1"}},
            {"status": "valid"},
            {"status": "expired"},
            {"challenges": []},
            {"challenges": [challenge("new-01"), challenge()]},
            {"challenges": [challenge("dns-01"), challenge("tls-alpn-01", status="processing")]},
            {
                "status": "invalid",
                "challenges": [challenge(status="invalid", error={"type": "dns", "detail": "no\nroute"})],
            },
        ],
        ids=repr,
    )
    def test_an_authorization_is_the_same_there_and_back(self, members: dict[str, Any]) -> None:
        """What the CA sent is the same after it was python-acme's."""
        sent = read(authorization(**members))
        assert resources.from_resource(resources.to_resource(sent)) == sent

    def test_a_challenge_of_python_acmes_own_is_understood(self) -> None:
        """A challenge of python-acme's own class, which decodes its token, is understood as well."""
        token = b"sixteen bytes and more"
        body = messages.ChallengeBody(
            chall=challenges.HTTP01(token=token),
            uri="https://ca.example.org/c",
            status=messages.STATUS_PENDING,
        )
        made = messages.AuthorizationResource(
            uri=AUTHORIZATION,
            body=messages.Authorization(
                identifier=messages.Identifier(typ=messages.IDENTIFIER_FQDN, value=NAME.upper()),
                status=messages.STATUS_PENDING,
                challenges=(body,),
            ),
        )
        back = resources.from_resource(made)
        assert back.identifier == Identifier.dns(NAME)
        assert back.challenges[0].token == "c2l4dGVlbiBieXRlcyBhbmQgbW9yZQ"  # noqa: S105 - those bytes in base64url

    @pytest.mark.parametrize("value", ["", "no name", "*.*.example.org", "127.0.0.1"])
    def test_an_authorization_for_no_name_is_the_cas_fault(self, value: str) -> None:
        """An authorization for something that can be no name is the CA's fault."""
        made = resource()
        named = made.update(body=made.body.update(identifier=made.body.identifier.update(value=value)))
        for read_name in (resources.name_of, resources.from_resource):
            with pytest.raises(CAProtocolError, match="no name"):
                read_name(named)
        nameless = made.update(body=made.body.update(identifier=None))
        with pytest.raises(CAProtocolError, match="which name"):
            resources.name_of(nameless)


@pytest.mark.parametrize(
    ("seconds", "has_expired"), [(-1, True), (0, True), (1, False), (None, False)], ids=str
)
def test_an_authorization_expires_at_its_own_date(seconds: int | None, has_expired: bool) -> None:
    """An authorization is over at its own date; without one it is not."""
    now = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    made = resource()
    if seconds is not None:
        made = made.update(body=made.body.update(expires=now + datetime.timedelta(seconds=seconds)))
    assert resources.has_expired(made, now) is has_expired
