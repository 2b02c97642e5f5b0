"""Authorizations on their way to a decision, and how proofs come and go with them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from acmems.issuers.acme.worker_pool import WorkerPool
from tests.fake_ca import (
    AUTHORIZATION,
    CA,
    CHALLENGE,
    KEY,
    NAME,
    NO_JOURNAL,
    TOKEN,
    FakeSession,
    FakeValidator,
    Said,
    Time,
    authorization,
    challenge,
    problem,
)

from acmems.challenges import ChallengeResponses, Http01, Validator
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
from acmems.issuers.acme.account import thumbprint
from acmems.issuers.acme.authorization import parse
from acmems.issuers.acme.proving import Authorizations
from acmems.issuers.acme.session import Response
from acmems.system.clock import SYSTEM, Clock
from acmems.x509.identifiers import Identifier

WANTED = [Identifier.dns(NAME)]
OTHER = "b.example.org"
OTHER_AUTHORIZATION = f"{CA}/authorization/2"


def answer(value: object) -> Response:
    return Response(200, {}, json.dumps(value).encode(), AUTHORIZATION)


class Desk:
    """Authorizations of one name at a CA that is a table; the CA finds the proof at its first look."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.time = Time()
        self.clock = clock or self.time.clock()
        self.session = FakeSession(
            {AUTHORIZATION: [authorization(), authorization("valid")], CHALLENGE: [{}]}
        )
        self.validator = FakeValidator()
        self.authorizations = Authorizations(self.session, KEY, WorkerPool(), self.clock, NO_JOURNAL)

    def prove(
        self,
        validator: Validator | None = None,
        *,
        urls: tuple[str, ...] = (AUTHORIZATION,),
        seconds: float = 60,
    ) -> list[Any]:
        wanted = [*WANTED, Identifier.dns(OTHER)][: len(urls)]
        deadline = self.clock.deadline(seconds)
        return self.authorizations.prove(urls, wanted, [validator or self.validator], deadline)


@pytest.fixture
def desk() -> Desk:
    return Desk()


class TestProve:
    """From pending to valid, and what is left behind: nothing."""

    def test_a_proof(self, desk: Desk) -> None:
        """The validator is given name, token and key authorization; then the CA is told to come."""
        (proved,) = desk.prove()
        assert proved.body.status.name == "valid"
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
        deadline = desk.time.within()
        (proved,) = desk.authorizations.prove([AUTHORIZATION], WANTED, [], deadline)
        assert proved.body.status.name == "valid"

    @pytest.mark.parametrize("status", ["processing", "valid"])
    def test_a_challenge_that_was_answered_already(self, desk: Desk, status: str) -> None:
        """A challenge that is on its way is shown, and not answered a second time."""
        started = authorization(challenges=[challenge(status=status)])
        desk.session.say(AUTHORIZATION, started, authorization("valid"))
        desk.prove()
        assert desk.session.count(CHALLENGE) == 0
        assert len(desk.validator.presented) == 1

    def test_a_challenge_that_the_ca_does_not_take(self, desk: Desk) -> None:
        """Where the CA refuses the answer, because it has decided already, a look tells how."""
        desk.session.say(CHALLENGE, problem("malformed", "already decided"))
        assert desk.prove()[0].body.status.name == "valid"

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
            desk.authorizations.prove([AUTHORIZATION], [address], [desk.validator], desk.time.within())

    @pytest.mark.parametrize(
        ("said", "address"), [("192.0.2.1", "192.0.2.1"), ("2001:DB8:0::1", "2001:db8::1")]
    )
    def test_an_address_is_proved(self, desk: Desk, said: str, address: str) -> None:
        """IP addresses (RFC 8738) are presented as such, in normal form."""
        value = {"type": "ip", "value": said}
        desk.session.say(AUTHORIZATION, authorization(identifier=value), authorization("valid"))
        wanted = [Identifier.ip(address)]
        desk.authorizations.prove([AUTHORIZATION], wanted, [desk.validator], desk.time.within())
        assert [proof.identifier for proof in desk.validator.presented] == wanted

    @pytest.mark.parametrize("token", ["a" * 43, "a" * 45, "a"])
    def test_a_token_is_shown_as_the_ca_wrote_it(self, desk: Desk, token: str) -> None:
        """Token and key authorization are the CA's text, not what it decodes to (section 8.1)."""
        pending = authorization(challenges=[challenge(token=token)])
        desk.session.say(AUTHORIZATION, pending, authorization("valid"))
        desk.prove()
        (proof,) = desk.validator.presented
        assert (proof.token, proof.key_authorization) == (token, f"{token}.{thumbprint(KEY)}")

    def test_without_a_validator(self, desk: Desk) -> None:
        """Where no verification is configured the error says so, and the CA is told nothing."""
        with pytest.raises(NoChallengeMethodsSupported, match="no verification is configured"):
            desk.authorizations.prove([AUTHORIZATION], WANTED, [], desk.time.within())
        assert desk.session.count(CHALLENGE) == 0

    def test_the_first_that_is_offered_proves(self, desk: Desk) -> None:
        """Where the CA does not offer the type of the best validator, the next one proves the names."""
        best, next_one = FakeValidator("tls-alpn-01"), desk.validator
        desk.authorizations.prove([AUTHORIZATION], WANTED, [best, next_one], desk.time.within())
        assert best.presented == []
        assert len(next_one.presented) == 1

    def test_the_best_of_those_offered_proves(self, desk: Desk) -> None:
        """Where the CA offers several of the types, the order of the validators decides."""
        offered = [challenge(), challenge("dns-account-01"), challenge("tls-alpn-01")]
        desk.session.say(AUTHORIZATION, authorization(challenges=offered), authorization("valid"))
        best, next_one = FakeValidator("dns-account-01"), FakeValidator("http-01")
        desk.authorizations.prove([AUTHORIZATION], WANTED, [best, next_one], desk.time.within())
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

    @pytest.mark.parametrize("retry_after", ["7", "3600"])
    def test_the_ca_is_never_asked_earlier_than_it_wants(self, desk: Desk, retry_after: str) -> None:
        """A `Retry-After` of a look is waited for, however long."""
        busy = Said(authorization(), {"Retry-After": retry_after})
        desk.session.say(AUTHORIZATION, authorization(), busy, authorization("valid"))
        desk.prove(seconds=7200)
        assert desk.time.waits[-1] == float(retry_after)

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

        assert desk.prove(Sticky())[0].body.status.name == "valid"
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "server gone" in caplog.text
        assert TOKEN not in caplog.text

    def test_a_proof_that_could_not_be_presented_is_tried_again(self, desk: Desk) -> None:
        """A failed proof is not remembered as shown: the next order presents it anew."""
        desk.session.say(AUTHORIZATION, authorization())
        with pytest.raises(ValidatorUnavailable):
            desk.prove(FakeValidator(error=ValidatorUnavailable("no DNS")))
        desk.session.say(AUTHORIZATION, authorization(), authorization("valid"))
        assert desk.prove()[0].body.status.name == "valid"
        assert len(desk.validator.presented) == 1


def test_two_orders_share_a_proof() -> None:
    """Two orders with the same pending authorization present it once, and the last one withdraws it."""
    desk = Desk(SYSTEM)
    desk.session.say(AUTHORIZATION, authorization())
    both, decided = threading.Barrier(3), threading.Event()

    class Slow(FakeValidator):
        def withdraw(self, proofs: Any) -> None:
            assert decided.is_set()
            super().withdraw(proofs)

    class Waiting(Authorizations):
        def look(self, attempt: Any, deadline: Any) -> None:
            if not decided.is_set():
                both.wait(30)
                assert decided.wait(30)
            super().look(attempt, deadline)

    validator = Slow()
    shared = Waiting(desk.session, KEY, WorkerPool(), SYSTEM, NO_JOURNAL)
    deadline = SYSTEM.deadline(60)
    with ThreadPoolExecutor(2) as pool:
        orders = [pool.submit(shared.prove, [AUTHORIZATION], WANTED, [validator], deadline) for _ in range(2)]
        both.wait(30)
        assert len(validator.presented) == 1
        desk.session.say(AUTHORIZATION, authorization("valid"))
        decided.set()
        assert [order.result(30)[0].body.status.name for order in orders] == ["valid", "valid"]
    assert len(validator.presented) == len(validator.withdrawn) == 1


def test_two_orders_share_an_answer() -> None:
    """Whoever of two orders has put an http-01 answer, it wakes both, and it goes with the last of them."""
    desk = Desk()
    responses = ChallengeResponses()
    validator = Http01("http", (), responses)
    pending = parse(answer(authorization()), AUTHORIZATION)
    deadline = desk.time.within()
    first, second = (
        desk.authorizations.begin(pending, validator, deadline, lambda _: None) for _ in range(2)
    )
    assert responses.fetch(NAME, f"/.well-known/acme-challenge/{TOKEN}") is not None
    assert first.requested.is_set()
    assert second.requested.is_set()
    desk.authorizations.withdraw(first)
    assert responses != {}
    desk.authorizations.withdraw(second)
    assert responses == {}


def test_a_fetch_by_the_ca_is_a_reason_to_look() -> None:
    """As soon as the CA was seen fetching an http-01 answer the authorization is looked at."""
    desk = Desk()
    responses = ChallengeResponses()
    path = f"/.well-known/acme-challenge/{TOKEN}"
    fetched: list[str | None] = []

    def wait(event: threading.Event, seconds: float) -> bool:
        if not fetched:
            fetched.append(responses.fetch(NAME, path))
            assert event.is_set()
        return desk.time.clock().wait(event, seconds)

    clock = desk.time.clock()
    impatient = Clock(clock.monotonic, clock.now, wait)
    authorizations = Authorizations(desk.session, KEY, WorkerPool(), impatient, NO_JOURNAL)
    authorizations.prove([AUTHORIZATION], WANTED, [Http01("http", (), responses)], desk.time.within())
    assert fetched[0] is not None
    assert fetched[0].startswith(f"{TOKEN}.")
    assert sum(desk.time.waits) < authorizations.unseen.interval(0)
    assert responses == {}
