"""Authorizations: what a CA may say of one, and what that means for the name."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from tests.fake_ca import AUTHORIZATION, CHALLENGE, NAME, TOKEN, authorization, challenge

from acmems.exceptions import CAProtocolError, ChallengeFailed, ChallengesUnknownStatus
from acmems.issuers.acme.authorization import ENDED, AuthorizationStatus, parse
from acmems.issuers.acme.session import Headers, Response

ERROR = {"type": "urn:ietf:params:acme:error:dns", "detail": "no\r\naddress"}


def answer(value: object) -> Response:
    return Response(200, Headers(), json.dumps(value).encode(), AUTHORIZATION)


class TestParse:
    """An authorization is read strictly, its challenges leniently: others than ours do not matter."""

    @pytest.mark.parametrize(
        "status", ["pending", "valid", "invalid", "deactivated", "expired", "revoked", "processing"]
    )
    def test_every_state(self, status: str) -> None:
        """Each state of RFC 8555 section 7.1.6 is known, and the draft's `processing`."""
        parsed = parse(answer(authorization(status)), AUTHORIZATION)
        assert (parsed.status, parsed.url) == (status, AUTHORIZATION)
        assert parsed.status in AuthorizationStatus
        assert (parsed.status in ENDED) == (status in {"deactivated", "expired", "revoked"})
        assert parsed.is_undecided == (status in {"pending", "processing"})

    @pytest.mark.parametrize("status", ["perhaps", "Valid", "", None, 7, [], ["valid"], {}, {"valid": 1}])
    def test_an_unknown_state(self, status: object) -> None:
        """A state that no RFC knows is an error of its own."""
        with pytest.raises(ChallengesUnknownStatus):
            parse(answer(authorization(status)), AUTHORIZATION)

    @pytest.mark.parametrize(
        "members",
        [
            {"identifier": None},
            {"identifier": NAME},
            {"identifier": {"type": "dns"}},
            {"identifier": {"type": 7, "value": NAME}},
            {"identifier": {"type": [], "value": NAME}},
            {"identifier": {"type": "odd", "value": NAME}},
            {"identifier": {"type": "DNS", "value": NAME}},
            {"identifier": {"value": NAME}},
            {"identifier": {"type": "dns", "value": 7}},
            {"identifier": {"type": "dns", "value": [NAME]}},
            {"identifier": {"type": "ip", "value": NAME}},
            {"identifier": {"type": "ip", "value": "192.0.2.1"}, "wildcard": True},
            {"identifier": [NAME]},
            {"wildcard": "no"},
            {"wildcard": []},
            {"challenges": None},
            {"challenges": "http-01"},
            {"challenges": {"http-01": {}}},
        ],
        ids=str,
    )
    def test_a_hostile_authorization(self, members: dict[str, object]) -> None:
        """What cannot be read is nonsense of the CA."""
        with pytest.raises(CAProtocolError):
            parse(answer(authorization() | members), AUTHORIZATION)

    @pytest.mark.parametrize("type_", ["http-01", "dns-01", "tls-alpn-01"])
    @pytest.mark.parametrize(
        "token", ["", "../../etc/passwd", "a/b", "a+b=", "a b", f"{TOKEN}\n", f"{TOKEN}=", "ä" * 30, None, 7]
    )
    def test_a_token_that_is_none(self, type_: str, token: object) -> None:
        """A token of a challenge that we answer is base64url, or everything stops (section 8.1)."""
        with pytest.raises(CAProtocolError, match="base64url"):
            parse(answer(authorization(challenges=[challenge(type_, token=token)])), AUTHORIZATION)

    @pytest.mark.parametrize(
        "odd",
        [
            None,
            7,
            "http-01",
            [],
            {},
            {"type": None},
            {"type": []},
            {"type": {}},
            {"type": ["http-01"], "url": CHALLENGE, "token": TOKEN},
            {"type": "http-01", "token": TOKEN},
            {"type": "http-01", "url": 7, "token": TOKEN},
            {"type": "http-01", "url": [CHALLENGE], "token": TOKEN},
            {"type": "http-01", "url": None, "token": TOKEN},
            {"type": "http-01", "url": CHALLENGE, "token": TOKEN, "status": []},
            {"type": "odd-01", "url": CHALLENGE},
            {"type": "odd-01", "url": CHALLENGE, "token": "../x", "status": "pending"},
            {"type": "dns-persist-01", "url": CHALLENGE, "status": "pending", "issuer-domain-names": ["ca"]},
            {"type": "http-01", "url": CHALLENGE, "token": TOKEN, "status": "perhaps"},
            {"type": "http-01", "url": CHALLENGE, "token": TOKEN, "validated": "yesterday"},
        ],
        ids=str,
    )
    def test_a_challenge_that_is_none_of_ours(self, odd: object) -> None:
        """Challenges of unknown types, without a token, or no objects at all, do not hide the others."""
        parsed = parse(answer(authorization(challenges=[odd, challenge()])), AUTHORIZATION)
        assert parsed.challenges[-1].token == TOKEN
        assert all(isinstance(offered.url, str) for offered in parsed.challenges)
        assert all(offered.token in {"", TOKEN} for offered in parsed.challenges)

    @pytest.mark.parametrize("type_", ["http-01", "dns-01"])
    @pytest.mark.parametrize("token", [TOKEN, "a" * 43, "a" * 45, "a", "-_", "a" * 256])
    def test_a_token_is_text(self, type_: str, token: str) -> None:
        """A token is used as the CA wrote it, whatever it decodes to (section 8.1); it stays so in JSON."""
        parsed = parse(answer(authorization(challenges=[challenge(type_, token=token)])), AUTHORIZATION)
        (offered,) = parsed.challenges
        assert (offered.url, offered.status, offered.type) == (CHALLENGE, "pending", type_)
        assert offered.token == token
        assert parsed.document["challenges"] == [challenge(type_, token=token)]

    @pytest.mark.parametrize("missing", ["status", "identifier", "challenges"])
    def test_what_every_authorization_has(self, missing: str) -> None:
        """An authorization without state, name or challenges is nonsense of the CA."""
        value = {name: member for name, member in authorization().items() if name != missing}
        with pytest.raises(CAProtocolError):
            parse(answer(value), AUTHORIZATION)

    def test_members_that_are_null(self) -> None:
        """A member that need not be there may be null."""
        value = authorization(expires=None, wildcard=None, challenges=[challenge(validated=None, error=None)])
        assert len(parse(answer(value), AUTHORIZATION).challenges) == 1
        started = challenge(status=None, token=TOKEN)
        assert (
            parse(answer(authorization(challenges=[started])), AUTHORIZATION).challenges[0].status
            == "pending"
        )

    @pytest.mark.parametrize("expires", ["tomorrow", 7, "2030-01-01T00:00:00Z", []])
    def test_members_that_nobody_uses(self, expires: object) -> None:
        """A member that nothing depends on is not read, so that it cannot be wrong."""
        assert parse(answer(authorization(expires=expires)), AUTHORIZATION).name == NAME

    def test_challenges_without_a_token(self) -> None:
        """A type that has no token keeps none; the names of the CA are kept, a handful of them."""
        names = [f"ca-{number}.example" for number in range(20)]
        offered = {"type": "dns-persist-01", "url": CHALLENGE, "token": "../x", "issuer-domain-names": names}
        (parsed,) = parse(answer(authorization(challenges=[offered])), AUTHORIZATION).challenges
        assert (parsed.token, parsed.issuers) == ("", tuple(names[:10]))

    @pytest.mark.parametrize(
        ("members", "name"),
        [
            ({}, NAME),
            ({"wildcard": False}, NAME),
            ({"wildcard": True}, f"*.{NAME}"),
            ({"identifier": {"type": "dns", "value": NAME.upper()}}, NAME),
            ({"identifier": {"type": "ip", "value": "2001:DB8:0::1"}}, "2001:db8::1"),
        ],
    )
    def test_names(self, members: Mapping[str, object], name: str) -> None:
        """Names are known in their normal form, a wildcard name's under its `*.` name (section 7.1.3)."""
        assert parse(answer(authorization(**members)), AUTHORIZATION).name == name


class TestDecision:
    """What a state means for the name."""

    @pytest.mark.parametrize(
        ("status", "valid"), [("valid", True), ("pending", False), ("processing", False)]
    )
    def test_undecided_is_not_valid(self, status: str, valid: bool) -> None:
        """A name is proved when the CA says `valid`, and not before."""
        assert parse(answer(authorization(status)), AUTHORIZATION).is_valid() is valid

    @pytest.mark.parametrize("status", ["deactivated", "expired", "revoked"])
    def test_an_ended_authorization_proves_nothing(self, status: str) -> None:
        """An authorization that was valid once is a failure that names its state."""
        with pytest.raises(ChallengeFailed, match=status) as raised:
            parse(answer(authorization(status)), AUTHORIZATION).is_valid()
        assert raised.value.domain == NAME

    def test_a_failed_challenge_tells_why(self) -> None:
        """The error has the name, the CA's reason in one line, and the URL of the challenge that failed."""
        challenges = [challenge("dns-01"), challenge(status="invalid", error=ERROR)]
        invalid = parse(answer(authorization("invalid", challenges=challenges)), AUTHORIZATION)
        with pytest.raises(ChallengeFailed) as raised:
            invalid.is_valid()
        error = raised.value
        assert (error.domain, error.message, error.challenge_uri) == (NAME, "no address", CHALLENGE)

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            ("odd", "the CA gave no reason"),
            ([ERROR], "the CA gave no reason"),
            ({"type": 7, "detail": 7}, "the CA gave no reason"),
            ({"type": "urn:ietf:params:acme:error:dns"}, "urn:ietf:params:acme:error:dns"),
            (
                {"detail": "no", "identifier": {"type": "odd", "value": 7}, "subproblems": [7, [], ERROR]},
                "no (no address)",
            ),
        ],
        ids=str,
    )
    def test_a_failed_challenge_with_an_odd_reason(self, error: object, message: str) -> None:
        """What cannot be read of a challenge's error is left out; the challenge stays."""
        challenges = [challenge(status="invalid", error=error)]
        failed = parse(answer(authorization("invalid", challenges=challenges)), AUTHORIZATION)
        assert failed.failure.message == message
        assert len(failed.challenges) == 1

    def test_a_failure_without_a_reason(self) -> None:
        """Where no challenge has an error, the error says so, and names the authorization."""
        error = parse(answer(authorization("invalid")), AUTHORIZATION).failure
        assert (error.message, error.challenge_uri) == ("the CA gave no reason", AUTHORIZATION)
