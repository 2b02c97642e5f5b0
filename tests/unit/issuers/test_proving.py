"""Authorizations on their way to a decision, and how proofs come and go with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.fake_ca import (
    AUTHORIZATION,
    CHALLENGE,
    KEY,
    NAME,
    TOKEN,
    FakeValidator,
    Said,
    authorization,
    challenge,
    problem,
)
from tests.proving import OTHER, OTHER_AUTHORIZATION, WANTED, Desk, Threaded
from tests.steps import PATIENCE, LoopTime, begin, settle, wait_for

from acmems.challenges import ChallengeResponses, Http01
from acmems.exceptions import (
    AcmeException,
    CAProtocolError,
    CAUnavailable,
    ChallengeFailed,
    ChallengesUnknownStatus,
    DeadlinePassed,
    NoChallengeMethodsSupported,
    ValidatorUnavailable,
)
from acmems.x509.identifiers import Identifier


@pytest.fixture
def desk() -> Desk:
    return Desk()


class TestProve:
    """From pending to valid, and what is left behind: nothing."""

    def test_a_proof(self, desk: Desk) -> None:
        """The validator is given name, token and key authorization; then the CA is told to come."""
        (proved,) = desk.prove()
        assert proved.status == "valid"
        (proof,) = desk.validator.presented
        assert (proof.identifier, proof.token) == (WANTED[0], TOKEN)
        assert proof.key_authorization.startswith(f"{TOKEN}.")
        assert [(post.url, post.payload) for post in desk.session.posts] == [
            (AUTHORIZATION, None),
            (CHALLENGE, {}),
            (AUTHORIZATION, None),
        ]
        assert desk.validator.withdrawn == [proof]

    def test_a_valid_authorization_costs_nothing(self, desk: Desk) -> None:
        """What is proved already is not presented, and needs no validator."""
        desk.session.say(AUTHORIZATION, authorization("valid"))
        (proved,) = desk.prove_for(WANTED)
        assert proved.status == "valid"

    @pytest.mark.parametrize("status", ["processing", "valid"])
    def test_a_challenge_that_was_answered_already(self, desk: Desk, status: str) -> None:
        """A challenge that is on its way is shown, and not answered a second time."""
        started = authorization(challenges=[challenge(status=status)])
        desk.session.say(AUTHORIZATION, started, authorization("valid"))
        desk.prove()
        assert desk.session.count(CHALLENGE) == 0
        assert len(desk.validator.presented) == 1

    @pytest.mark.parametrize(("before", "verification"), [("pending", "fake"), ("invalid", "")])
    def test_a_failure_names_the_verification(self, desk: Desk, before: str, verification: str) -> None:
        """A failed validation says which verification it was, where one has presented a proof."""
        desk.session.say(AUTHORIZATION, authorization(before), authorization("invalid"))
        with pytest.raises(ChallengeFailed) as caught:
            desk.prove()
        assert caught.value.verification == verification

    def test_a_challenge_that_the_ca_does_not_take(self, desk: Desk) -> None:
        """Where the CA refuses the answer, because it has decided already, a look tells how."""
        desk.session.say(CHALLENGE, problem("malformed", "already decided"))
        assert desk.prove()[0].status == "valid"

    @pytest.mark.parametrize("identifier", [OTHER, f"*.{NAME}", f"x.{NAME}", "", "a b"])
    @pytest.mark.parametrize("type_", ["dns", "ip"])
    def test_a_name_that_nobody_asked_for(self, desk: Desk, type_: str, identifier: str) -> None:
        """An authorization for any other name stops everything, and nothing is presented."""
        value = {"type": type_, "value": identifier}
        desk.session.say(AUTHORIZATION, authorization(identifier=value))
        with pytest.raises(CAProtocolError, match="nobody asked for"):
            desk.prove()
        assert desk.validator.presented == []

    def test_names_are_compared_without_case(self, desk: Desk) -> None:
        """A CA may write the name in capitals; what is presented is the normal form."""
        said = {"type": "dns", "value": NAME.upper()}
        desk.session.say(AUTHORIZATION, authorization(identifier=said), authorization("valid"))
        desk.prove()
        assert desk.validator.presented[0].identifier == WANTED[0]

    def test_an_address_is_compared_with_addresses(self, desk: Desk) -> None:
        """An authorization of an IP address is none of the DNS name that reads the same, nor the reverse."""
        address = Identifier.ip("192.0.2.1")
        desk.session.say(AUTHORIZATION, authorization(identifier={"type": "dns", "value": "192.0.2.1"}))
        with pytest.raises(CAProtocolError, match="nobody asked for"):
            desk.prove_for([address], desk.validator)

    @pytest.mark.parametrize(
        ("said", "address"), [("192.0.2.1", "192.0.2.1"), ("2001:DB8:0::1", "2001:db8::1")]
    )
    def test_an_address_is_proved(self, desk: Desk, said: str, address: str) -> None:
        """IP addresses (RFC 8738) are presented as such, in normal form."""
        value = {"type": "ip", "value": said}
        desk.session.say(AUTHORIZATION, authorization(identifier=value), authorization("valid"))
        wanted = [Identifier.ip(address)]
        desk.prove_for(wanted, desk.validator)
        assert [proof.identifier for proof in desk.validator.presented] == wanted

    @pytest.mark.parametrize("token", ["a" * 43, "a" * 45, "a"])
    def test_a_token_is_shown_as_the_ca_wrote_it(self, desk: Desk, token: str) -> None:
        """Token and key authorization are the CA's text, not what it decodes to (section 8.1)."""
        pending = authorization(challenges=[challenge(token=token)])
        desk.session.say(AUTHORIZATION, pending, authorization("valid"))
        desk.prove()
        (proof,) = desk.validator.presented
        assert (proof.token, proof.key_authorization) == (token, f"{token}.{KEY.thumbprint}")

    def test_without_a_validator(self, desk: Desk) -> None:
        """Where no verification is configured the error says so, and the CA is told nothing."""
        with pytest.raises(NoChallengeMethodsSupported, match="no verification is configured"):
            desk.prove_for(WANTED)
        assert desk.session.count(CHALLENGE) == 0

    def test_the_first_that_is_offered_proves(self, desk: Desk) -> None:
        """Where the CA does not offer the type of the best validator, the next one proves the names."""
        best, next_one = FakeValidator("tls-alpn-01"), desk.validator
        desk.prove(best, next_one)
        assert best.presented == []
        assert len(next_one.presented) == 1

    def test_the_best_of_those_offered_proves(self, desk: Desk) -> None:
        """Where the CA offers several of the types, the order of the validators decides."""
        offered = [challenge(), challenge("dns-account-01"), challenge("tls-alpn-01")]
        desk.session.say(AUTHORIZATION, authorization(challenges=offered), authorization("valid"))
        best, next_one = FakeValidator("dns-account-01"), FakeValidator("http-01")
        desk.prove(best, next_one)
        assert (len(best.presented), len(next_one.presented)) == (1, 0)

    def test_a_challenge_without_token(self, desk: Desk) -> None:
        """dns-persist-01 has no token; what is shown is who asks, and whom (draft-ietf-acme-dns-persist)."""
        offered = {"type": "dns-persist-01", "url": CHALLENGE, "status": "pending"}
        offered["issuer-domain-names"] = ["ca.example"]  # type: ignore[assignment]  # JSON of any shape
        desk.session.say(AUTHORIZATION, authorization(challenges=[offered]), authorization("valid"))
        validator = FakeValidator("dns-persist-01")
        desk.prove(validator)
        (proof,) = validator.presented
        assert (proof.token, proof.key_authorization, proof.issuers) == ("", "", ("ca.example",))

    @pytest.mark.threat("ca", "a name that cannot be validated")
    def test_a_type_that_is_not_offered(self, desk: Desk) -> None:
        """Where the CA offers no challenge of the validator's type the error names both."""
        with pytest.raises(NoChallengeMethodsSupported, match=rf"dns-01 challenge for {NAME}"):
            desk.prove(FakeValidator("dns-01"))

    @pytest.mark.parametrize(("retry_after", "waited"), [("7", 7.0), ("300", 300.0), ("3600", 300.0)])
    def test_the_ca_is_not_asked_earlier_than_it_wants(
        self, desk: Desk, retry_after: str, waited: float
    ) -> None:
        """A `Retry-After` of a look is waited for, up to five minutes."""
        busy = Said(authorization(), {"Retry-After": retry_after})
        desk.session.say(AUTHORIZATION, authorization(), busy, authorization("valid"))
        desk.prove(seconds=7200)
        assert desk.time.waits[-1] == waited

    def test_a_ca_that_never_decides(self, desk: Desk) -> None:
        """At the deadline the error names what is undecided, and says when to ask again."""
        desk.session.say(AUTHORIZATION, authorization())
        with pytest.raises(DeadlinePassed, match=NAME) as raised:
            desk.prove()
        assert raised.value.retry_after


class TestWithdrawal:
    """Whatever happens, what was presented is taken away."""

    @pytest.mark.parametrize(
        ("fail", "error"),
        [
            (lambda desk: desk.session.say(CHALLENGE, CAUnavailable("down")), CAUnavailable),
            (
                lambda desk: desk.session.say(AUTHORIZATION, authorization(), CAUnavailable("down")),
                CAUnavailable,
            ),
            (
                lambda desk: desk.session.say(AUTHORIZATION, authorization(), authorization("invalid")),
                ChallengeFailed,
            ),
            (
                lambda desk: desk.session.say(AUTHORIZATION, authorization(), authorization("deactivated")),
                ChallengeFailed,
            ),
            (
                lambda desk: desk.session.say(AUTHORIZATION, authorization(), authorization("perhaps")),
                ChallengesUnknownStatus,
            ),
            (lambda desk: desk.session.say(AUTHORIZATION, authorization()), DeadlinePassed),
        ],
        ids=["no answer", "no look", "invalid", "deactivated", "nonsense", "deadline"],
    )
    def test_after_errors(self, desk: Desk, fail: Callable[[Desk], None], error: type[AcmeException]) -> None:
        """After each error the proof is withdrawn, once."""
        fail(desk)
        with pytest.raises(error):
            desk.prove()
        assert desk.validator.withdrawn == desk.validator.presented
        assert len(desk.validator.withdrawn) == 1

    def test_when_another_name_fails(self, desk: Desk) -> None:
        """Where one name of several cannot be presented the others are withdrawn."""

        class Half(FakeValidator):
            def present(self, proofs: Any) -> None:
                super().present(proofs)
                if any(proof.identifier.value == OTHER for proof in proofs):
                    raise ValidatorUnavailable("no such zone")

        validator = Half()
        second = authorization(identifier={"type": "dns", "value": OTHER})
        desk.session.say(OTHER_AUTHORIZATION, second)
        with pytest.raises(ValidatorUnavailable, match="no such zone"):
            desk.prove(validator, urls=(AUTHORIZATION, OTHER_AUTHORIZATION))
        assert NAME in {proof.identifier.value for proof in validator.withdrawn}

    def test_a_proof_that_cannot_be_withdrawn(self, desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
        """A withdrawal that fails is a line in the log, and the name stays proved."""

        class Sticky(FakeValidator):
            def withdraw(self, proofs: Any) -> None:
                raise ValidatorUnavailable("server gone")

        assert desk.prove(Sticky())[0].status == "valid"
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "server gone" in caplog.text
        assert TOKEN not in caplog.text

    def test_a_proof_that_could_not_be_presented_is_tried_again(self, desk: Desk) -> None:
        """A failed proof is not remembered as shown: the next order presents it anew."""
        desk.session.say(AUTHORIZATION, authorization())
        with pytest.raises(ValidatorUnavailable):
            desk.prove(FakeValidator(error=ValidatorUnavailable("no DNS")))
        desk.session.say(AUTHORIZATION, authorization(), authorization("valid"))
        assert desk.prove()[0].status == "valid"
        assert len(desk.validator.presented) == 1


class TestWaiting:
    """How an order waits for the CA, and what ends that."""

    def test_a_fetch_by_the_ca_is_a_reason_to_look(self, time: LoopTime) -> None:
        """As soon as the CA was seen fetching an http-01 answer the authorization is looked at."""
        desk, responses = Desk(time.loop), ChallengeResponses()
        order = begin(time.loop, desk.proving_steps(Http01("http", (), responses)))
        began = time.now
        assert desk.session.count(AUTHORIZATION) == 1
        fetched = responses.fetch(NAME, f"/.well-known/acme-challenge/{TOKEN}")
        assert fetched is not None
        assert fetched.startswith(f"{TOKEN}.")
        settle(time.loop)
        time.move(desk.proving.after_request.interval(0))
        assert order.result(PATIENCE)[0].status == "valid"
        assert time.now - began < desk.proving.unseen.interval(0)
        assert responses == {}

    def test_the_names_of_an_order_are_proved_at_once(self, time: LoopTime) -> None:
        """All names are presented in one go, and each is looked at until it is decided."""
        desk = Desk(time.loop)
        other = {"identifier": {"type": "dns", "value": OTHER}}
        desk.session.say(AUTHORIZATION, *[authorization()] * 2, authorization("valid"))
        desk.session.say(OTHER_AUTHORIZATION, authorization(**other), authorization("valid", **other))
        order = begin(time.loop, desk.proving_steps(urls=(AUTHORIZATION, OTHER_AUTHORIZATION)))
        assert [proof.identifier.value for proof in desk.validator.presented] == [NAME, OTHER]
        time.move(desk.proving.unseen.interval(0))
        assert (desk.session.count(AUTHORIZATION), desk.session.count(OTHER_AUTHORIZATION)) == (2, 2)
        assert desk.validator.withdrawn == []
        time.move(3.0)
        assert [each.status for each in order.result(PATIENCE)] == ["valid", "valid"]
        assert (desk.session.count(AUTHORIZATION), desk.session.count(OTHER_AUTHORIZATION)) == (3, 2)
        assert desk.validator.withdrawn == desk.validator.presented

    @pytest.mark.parametrize("kind", [FakeValidator, Threaded])
    def test_stopping_ends_it(self, time: LoopTime, kind: type[FakeValidator]) -> None:
        """Who waits for the CA when told to stop is told so, and what was presented is withdrawn."""
        desk, validator = Desk(time.loop), kind()
        desk.session.say(AUTHORIZATION, authorization())
        order = begin(time.loop, desk.proving_steps(validator))
        wait_for(lambda: desk.session.count(CHALLENGE) == 1)
        settle(time.loop)
        assert not order.done()
        time.loop.soon(desk.proving.stop)
        assert isinstance(order.exception(PATIENCE), CAUnavailable)
        assert len(validator.presented) == 1
        assert validator.withdrawn == validator.presented
        later = begin(time.loop, desk.proving_steps(validator))
        assert isinstance(later.exception(PATIENCE), CAUnavailable)
        assert validator.withdrawn == validator.presented

    def test_closing_the_loop_withdraws_what_it_can(self, time: LoopTime) -> None:
        """Where the loop ends without being told first, tables in memory are left as they were."""
        desk, responses = Desk(time.loop), ChallengeResponses()
        desk.session.say(AUTHORIZATION, authorization())
        order = begin(time.loop, desk.proving_steps(Http01("http", (), responses)))
        assert responses != {}
        time.loop.close()
        assert order.exception(PATIENCE) is not None
        assert responses == {}
