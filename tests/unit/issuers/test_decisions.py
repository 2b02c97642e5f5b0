"""What the CA says of names until all are decided: all of it in one error, as soon as it is final."""

from __future__ import annotations

import json

import pytest
from tests.fake_ca import (
    CA,
    KEY,
    NO_JOURNAL,
    FakeSession,
    FakeValidator,
    Time,
    authorization,
    challenge,
    problem,
)

from acmems.challenges.presented.proofs import PresentedProofs
from acmems.exceptions import AccountError, AcmeException, ChallengeFailed, DeadlinePassed
from acmems.issuers.acme.authorization import Authorization, parse
from acmems.issuers.acme.problems import GRACE, STUCK, Decisions
from acmems.issuers.acme.proving import Attempt, Proving
from acmems.issuers.acme.session import Headers, Response
from acmems.x509.identifiers import Identifier

NAMES = [f"{letter}.example.org" for letter in "abcde"]
BAD = NAMES[1:4]


def url_of(name: str) -> str:
    return f"{CA}/authorization/{name}"


def challenge_url_of(name: str) -> str:
    return f"{CA}/challenge/{name}"


def state(
    name: str, status: str = "pending", challenge_status: str = "", error: str = ""
) -> dict[str, object]:
    """Return an authorization with one challenge, which has the same state unless told otherwise."""
    members: dict[str, object] = {"status": challenge_status or status, "url": challenge_url_of(name)}
    if error:
        members["error"] = {"type": "urn:ietf:params:acme:error:dns", "detail": error}
    identifier = {"type": "dns", "value": name}
    return authorization(status, identifier=identifier, challenges=[challenge(**members)])


def parse_state(document: dict[str, object]) -> Authorization:
    return parse(Response(200, Headers(), json.dumps(document).encode(), CA), CA)


class Desk:
    """Five names at a CA that is a table; it has validated each at its second look, until told otherwise."""

    def __init__(self, count: int = 5) -> None:
        self.names = NAMES[:count]
        self.time = Time()
        self.loop = self.time.loop()
        answers: dict[str, list[object]] = {challenge_url_of(name): [{}] for name in self.names}
        answers |= {url_of(name): [state(name), state(name, "valid")] for name in self.names}
        self.session = FakeSession(answers)
        self.validator = FakeValidator()
        proofs = PresentedProofs(self.loop.clock, NO_JOURNAL)
        self.proving = Proving(self.session, KEY, self.loop, proofs)

    def say(self, name: str, *states: dict[str, object]) -> None:
        self.session.say(url_of(name), *states)

    def error(self) -> AcmeException:
        """Prove the names, and return the error; everything is withdrawn then."""
        wanted = [Identifier.dns(name) for name in self.names]
        steps = self.proving.prove(
            [url_of(name) for name in self.names], wanted, [self.validator], self.time.within(60)
        )
        began = self.time.seconds
        with pytest.raises(AcmeException) as raised:
            self.loop.run(steps)
        self.seconds = self.time.seconds - began
        assert self.validator.withdrawn == self.validator.presented
        return raised.value


def check_bad(error: AcmeException) -> None:
    """Check that an error tells of each bad name, with its own reason, and of no other."""
    assert isinstance(error, ChallengeFailed)
    assert [each.domain for each in error.each] == BAD
    for name in BAD:
        assert f"could not validate {name}: no record at {name}" in str(error)
    assert not any(name in str(error) for name in NAMES if name not in BAD)


class TestEveryName:
    """Three bad names of five."""

    def test_all_fail_at_once(self) -> None:
        """All that one round of looks finds is told."""
        desk = Desk()
        for name in BAD:
            desk.say(name, state(name), state(name, "invalid", error=f"no record at {name}"))
        check_bad(desk.error())
        assert desk.seconds < GRACE

    def test_one_after_the_other(self) -> None:
        """Once one has failed the others are waited for, for a moment."""
        desk = Desk()
        for looks, name in enumerate(BAD, 1):
            failed = state(name, "invalid", error=f"no record at {name}")
            desk.say(name, *[state(name)] * looks, failed)
        check_bad(desk.error())
        assert desk.seconds <= GRACE

    def test_one_that_is_never_decided(self) -> None:
        """A name that stays undecided keeps the reasons of the others back for a moment only."""
        desk = Desk()
        desk.say(NAMES[0], state(NAMES[0]))
        for name in BAD:
            desk.say(name, state(name), state(name, "invalid", error=f"no record at {name}"))
        check_bad(desk.error())
        assert desk.seconds <= GRACE + 1

    def test_names_that_had_failed_before(self) -> None:
        """An order that is taken up again tells of all that has failed, and presents nothing."""
        desk = Desk()
        for name in BAD:
            desk.say(name, state(name, "invalid", error=f"no record at {name}"))
        check_bad(desk.error())
        assert desk.validator.presented == []


class TestRefused:
    """A request to validate that the CA does not take (section 7.5.1)."""

    def test_where_the_challenge_stays_pending(self, caplog: pytest.LogCaptureFixture) -> None:
        """The refusal is the reason, in the error and in the log, and nothing is waited for."""
        desk = Desk(1)
        desk.say(NAMES[0], state(NAMES[0]))
        desk.session.say(challenge_url_of(NAMES[0]), problem("malformed", "no such challenge", 400))
        error = desk.error()
        assert isinstance(error, ChallengeFailed)
        assert (error.message, error.challenge_uri) == ("no such challenge", challenge_url_of(NAMES[0]))
        assert "no such challenge" in caplog.text
        assert desk.seconds == 0

    def test_before_the_ca_is_asked_how_it_stands(self) -> None:
        """What was seen before the refusal is no reason yet: the CA may have decided since."""
        first = parse_state(state(NAMES[0]))
        attempt = Attempt(first, first.challenges[0], FakeValidator())
        attempt.complaint.refusal = problem("malformed", "already decided", 400)
        decisions = Decisions(Time().clock())
        assert decisions.undecided([attempt]) == [attempt]
        attempt.polls = 1
        with pytest.raises(ChallengeFailed, match="already decided"):
            decisions.undecided([attempt])

    def test_every_name(self) -> None:
        """Each name that is refused is told, with its own reason."""
        desk = Desk()
        for name in BAD:
            desk.say(name, state(name))
            desk.session.say(challenge_url_of(name), problem("malformed", f"no record at {name}", 400))
        check_bad(desk.error())

    def test_where_the_ca_works_on_it(self) -> None:
        """A challenge that the CA works on was taken before; its own error is told at the deadline."""
        desk = Desk(1)
        desk.say(NAMES[0], state(NAMES[0]), state(NAMES[0], "pending", "processing", "not yet"))
        desk.session.say(challenge_url_of(NAMES[0]), problem("malformed", "asked before", 400))
        error = desk.error()
        assert isinstance(error, DeadlinePassed)
        assert "asked before" not in str(error)

    def test_an_account_that_is_refused(self) -> None:
        """What is wrong with the account is not the name's."""
        desk = Desk(1)
        desk.say(NAMES[0], state(NAMES[0]))
        desk.session.say(challenge_url_of(NAMES[0]), problem("accountDoesNotExist", "who?", 400))
        assert isinstance(desk.error(), AccountError)


class TestUndecided:
    """A challenge with an error that the CA does not call failed (section 8.2)."""

    def test_one_that_stays_pending(self, caplog: pytest.LogCaptureFixture) -> None:
        """Nobody works on it: its error is the reason after a moment, and in the log at once."""
        desk = Desk(1)
        desk.say(NAMES[0], state(NAMES[0]), state(NAMES[0], error="connection refused"))
        error = desk.error()
        assert isinstance(error, ChallengeFailed)
        assert error.message == "connection refused"
        assert STUCK <= desk.seconds <= STUCK + 3
        assert caplog.text.count("connection refused") == 1

    def test_one_that_is_tried_again(self, caplog: pytest.LogCaptureFixture) -> None:
        """While the CA tries again it is waited for; at the deadline its last error is told."""
        desk = Desk(1)
        desk.say(
            NAMES[0],
            state(NAMES[0]),
            state(NAMES[0], "pending", "processing", "refused"),
            state(NAMES[0], "pending", "processing", "timed out"),
        )
        error = desk.error()
        assert isinstance(error, DeadlinePassed)
        assert str(error) == f"the CA has not yet decided on {NAMES[0]} (so far: timed out)"
        assert desk.seconds >= 60
        assert caplog.text.count("refused") == caplog.text.count("timed out") == 1

    def test_one_that_recovers(self) -> None:
        """An error that is gone again, or followed by success, was none."""
        desk = Desk(2)
        tried = state(NAMES[0], error="refused")
        desk.say(NAMES[0], state(NAMES[0]), tried, state(NAMES[0]), tried, state(NAMES[0], "valid"))
        desk.say(NAMES[1], state(NAMES[1]))
        assert isinstance(desk.error(), DeadlinePassed)

    def test_all_of_a_compound_error(self) -> None:
        """What is within an error is a part of the reason (section 6.7.1)."""
        kind = "urn:ietf:params:acme:error:"
        within = [{"type": f"{kind}dns", "detail": "no record"}, {"type": f"{kind}caa"}]
        document = {"type": f"{kind}compound", "subproblems": within}
        failed = authorization("invalid", challenges=[challenge(status="invalid", error=document)])
        body = json.dumps(failed).encode()
        message = parse(Response(200, Headers(), body, CA), CA).failure.message
        assert message == f"{kind}compound (no record; {kind}caa)"
