"""Signed requests to one CA, which here is a script; a real one is in tests/integration."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
from josepy.jwk import JWK
from tests.session_ca import ACCOUNT, BAD_NONCE, CA, DIRECTORY, KEY, ORDER, FakeCA, Reply, running, session_at
from tests.steps import PATIENCE, begin

from acmems.exceptions import (
    CAProblem,
    CAProtocolError,
    CAUnavailable,
    DeadlinePassed,
    FateUnknown,
    RateLimited,
)
from acmems.issuers.acme.session.connection import Failure
from acmems.issuers.acme.session.rates import RequestRates
from acmems.issuers.acme.session.session import (
    NONCE_TRIES,
    Session,
)
from acmems.system.clock import NEVER
from acmems.system.steps import Signal

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"


@pytest.fixture
def ca() -> FakeCA:
    return FakeCA()


@pytest.fixture
def session(ca: FakeCA) -> Session:
    return session_at(ca)


class TestStart:
    @pytest.mark.parametrize(
        "url", ["http://ca.example/dir", "https://user@ca.example/dir", "ca.example", ""]
    )
    def test_a_directory_must_be_https(self, url: str) -> None:
        """ACME is spoken over HTTPS only (RFC 8555 section 6.1)."""
        with pytest.raises(ValueError, match="https URL"):
            Session(url, KEY, FakeCA().loop)

    def test_without_a_key_nothing_is_signed(self, ca: FakeCA) -> None:
        """A session without a key reads the directory, and signs nothing."""
        session = session_at(ca, None)
        ca.run(session.directory(NEVER))
        with pytest.raises(ValueError, match="key"):
            ca.run(session.post(ORDER, None, deadline=NEVER))
        assert ca.seen(ORDER) == []

    def test_without_an_account_nothing_is_signed_in_its_name(self, session: Session, ca: FakeCA) -> None:
        """Only newAccount is signed as the key (RFC 8555 section 6.2)."""
        session.kid = None
        with pytest.raises(ValueError, match="account"):
            ca.run(session.post(ORDER, None, deadline=NEVER))
        assert ca.requests == []


class TestSigning:
    def test_a_request_says_who_what_and_where(self, session: Session, ca: FakeCA) -> None:
        """The protected header has alg, nonce, url and kid; the type is jose+json (RFC 8555 section 6.2)."""
        ca.run(session.post(ORDER, {"a": "ä"}, deadline=NEVER, accept="text/plain"))
        (request,) = ca.seen(ORDER)
        assert request.part("protected") == {"alg": "ES256", "kid": ACCOUNT, "url": ORDER, "nonce": "nonce-1"}
        assert request.part("payload") == {"a": "ä"}
        assert request.headers["Content-Type"] == "application/jose+json"
        assert request.headers["Accept"] == "text/plain"
        assert request.headers["User-Agent"].startswith("acmems/")

    def test_a_new_account_shows_its_key(self, session: Session, ca: FakeCA) -> None:
        """The protected header has jwk or kid, never both (RFC 8555 section 6.2)."""
        ca.run(session.post(ORDER, {}, deadline=NEVER, use_jwk=True))
        header = ca.seen(ORDER)[0].part("protected")
        assert header["jwk"] == KEY.jwk
        assert "kid" not in header

    def test_a_post_as_get_differs_from_an_empty_object(self, session: Session, ca: FakeCA) -> None:
        """None signs nothing, {} an empty object, which starts a challenge (RFC 8555 sections 6.3, 7.5.1)."""
        ca.run(session.post(ORDER, None, deadline=NEVER))
        ca.run(session.post(ORDER, {}, deadline=NEVER))
        assert [request.part("payload") for request in ca.seen(ORDER)] == [None, {}]

    @pytest.mark.threat("ca", "another order, other origins")
    @pytest.mark.parametrize(
        "url",
        [
            "http://ca.example/order/1",
            "https://ca.example:8443/order/1",
            "https://evil.example/order/1",
            "https://ca.example@evil.example/",
            "https://ca.example.evil.example/",
            "https://ca.example/a\r\nX: y",
            "//evil.example/order/1",
            "/order/1",
            "",
        ],
    )
    def test_nothing_is_sent_elsewhere(self, session: Session, ca: FakeCA, url: str) -> None:
        """A URL of another origin ends the conversation, whoever gave it."""
        with pytest.raises(CAProtocolError, match="URL"):
            ca.run(session.post(url, None, deadline=NEVER))
        with pytest.raises(CAProtocolError, match="URL"):
            ca.run(session.get(url, deadline=NEVER))
        assert ca.requests == []


class TestNonces:
    def test_each_answer_brings_the_next(self, session: Session, ca: FakeCA) -> None:
        """NewNonce is asked once; from then on answers bring nonces, error answers too."""
        ca.answers[f"{CA}/refused"] = lambda: (403, {}, ca.nonce())
        ca.run(session.post(ORDER, None, deadline=NEVER))
        with pytest.raises(CAProblem):
            ca.run(session.post(f"{CA}/refused", None, deadline=NEVER))
        ca.run(session.post(ORDER, None, deadline=NEVER))
        assert len(ca.seen(f"{CA}/newNonce")) == 1
        assert [r.nonce for r in ca.requests if r.body] == ["nonce-1", "nonce-2", "nonce-3"]

    def test_an_answer_of_the_directory_brings_one_too(self, session: Session, ca: FakeCA) -> None:
        """A nonce is a nonce, wherever it comes from."""
        ca.answers[f"{CA}/dir"] = lambda: (200, DIRECTORY, "from-directory")
        ca.run(session.post(ORDER, None, deadline=NEVER))
        assert ca.seen(ORDER)[0].nonce == "from-directory"
        assert ca.seen(f"{CA}/newNonce") == []

    def test_old_nonces_are_not_used(self, session: Session, ca: FakeCA) -> None:
        """After a quiet hour a nonce is asked for rather than tried."""
        ca.run(session.post(ORDER, None, deadline=NEVER))
        ca.time = 3599
        ca.run(session.post(ORDER, None, deadline=NEVER))
        assert len(ca.seen(f"{CA}/newNonce")) == 2

    @pytest.mark.parametrize("repeatable", [True, False])
    def test_a_refused_nonce_is_replaced_by_the_one_that_came_with_it(
        self, session: Session, ca: FakeCA, repeatable: bool
    ) -> None:
        """A request refused with badNonce was not done: it is sent again at once (RFC 8555 section 6.5)."""
        replies: Iterator[Reply] = iter([(400, BAD_NONCE, "fresh"), (201, {}, "next")])
        ca.answers[ORDER] = lambda: next(replies)
        assert ca.run(session.post(ORDER, {}, deadline=NEVER, repeatable=repeatable)).status == 201
        assert [request.nonce for request in ca.seen(ORDER)] == ["nonce-1", "fresh"]

    def test_no_nonce_is_used_twice(self, ca: FakeCA) -> None:
        """Requests at the same time have nonces of their own, also after failures."""
        with running(ca) as (session, _):
            ca.held = Signal()
            waiting = [begin(ca.loop, session.post(ORDER, {}, deadline=NEVER)) for _ in range(30)]
            ca.loop.soon(ca.held.set)
            for each in waiting:
                each.result(PATIENCE)
            ca.answers[ORDER] = lambda: (500, {}, ca.nonce())
            with pytest.raises(FateUnknown):
                ca.loop.run(session.post(ORDER, {}, deadline=NEVER, repeatable=False))
            del ca.answers[ORDER]
            for _ in range(40):
                ca.loop.run(session.post(ORDER, {}, deadline=NEVER))
        nonces = [request.nonce for request in ca.seen(ORDER)]
        assert len(nonces) == len(set(nonces)) == 71

    def test_a_refusal_without_a_nonce_asks_for_one(self, session: Session, ca: FakeCA) -> None:
        """Where badNonce brings nothing to try with, newNonce does."""
        replies: Iterator[Reply] = iter([(400, BAD_NONCE, None), (201, {}, None)])
        ca.answers[ORDER] = lambda: next(replies)
        ca.run(session.post(ORDER, {}, deadline=NEVER))
        assert [request.nonce for request in ca.seen(ORDER)] == ["nonce-1", "nonce-2"]

    def test_refusals_are_bounded(self, session: Session, ca: FakeCA) -> None:
        """A CA that takes no nonce at all is unavailable, after many tries."""
        ca.answers[ORDER] = lambda: (400, BAD_NONCE, ca.nonce())
        with pytest.raises(CAUnavailable, match="nonces in a row"):
            ca.run(session.post(ORDER, {}, deadline=NEVER, repeatable=False))
        assert len(ca.seen(ORDER)) == NONCE_TRIES

    def test_a_busy_new_nonce_is_asked_again(self, session: Session, ca: FakeCA) -> None:
        """What goes wrong while a nonce is fetched never makes a request's fate unknown."""
        replies: Iterator[Reply] = iter([(500, {}, None), (200, {}, "late")])
        ca.answers[f"{CA}/newNonce"] = lambda: next(replies)
        assert ca.run(session.post(ORDER, {}, deadline=NEVER, repeatable=False)).status == 200
        assert [request.nonce for request in ca.seen(ORDER)] == ["late"]

    def test_a_lost_new_nonce_is_asked_again(self, session: Session, ca: FakeCA) -> None:
        """The same holds for a newNonce whose answer is lost."""

        def lose() -> Reply:
            del ca.answers[f"{CA}/newNonce"]
            raise Failure("reset", sent=True)

        ca.answers[f"{CA}/newNonce"] = lose
        assert ca.run(session.post(ORDER, {}, deadline=NEVER, repeatable=False)).status == 200

    @pytest.mark.parametrize("nonce", [None, 'abc", "alg": "none', ""])
    def test_a_new_nonce_that_is_none(self, session: Session, ca: FakeCA, nonce: str | None) -> None:
        """A CA's newNonce must give a nonce (RFC 8555 section 7.2), or nothing is sent."""
        ca.answers[f"{CA}/newNonce"] = lambda: (200, {}, nonce)
        with pytest.raises(CAProtocolError, match="newNonce"):
            ca.run(session.post(ORDER, {}, deadline=NEVER))
        assert ca.seen(ORDER) == []

    @pytest.mark.parametrize("status", [400, 403, 404, 405, 501, 200])
    def test_a_ca_that_refuses_head(self, session: Session, ca: FakeCA, status: int) -> None:
        """A nonce is asked for by GET where HEAD brings none, and then always (RFC 8555 section 7.2)."""
        url = f"{CA}/newNonce"
        ca.answers[ORDER] = lambda: (200, {}, None)
        ca.answers[url] = lambda: (
            (status, {}, None) if ca.requests[-1].method == "HEAD" else (204, {}, ca.nonce())
        )
        for _ in range(3):
            assert ca.run(session.post(ORDER, {}, deadline=NEVER, repeatable=False)).status == 200
        assert [request.method for request in ca.seen(url)] == ["HEAD", "GET", "GET", "GET"]

    @pytest.mark.parametrize("status", [429, 503])
    def test_a_busy_new_nonce_is_not_asked_otherwise(self, session: Session, ca: FakeCA, status: int) -> None:
        """A CA that has enough of requests gets no GET on top of the HEAD."""
        ca.answers[f"{CA}/newNonce"] = lambda: (status, {}, None)
        ca.headers[f"{CA}/newNonce"] = {"Retry-After": "86400"}
        with pytest.raises((CAUnavailable, RateLimited)):
            ca.run(session.post(ORDER, {}, deadline=session._clock.deadline(60)))
        assert [request.method for request in ca.seen(f"{CA}/newNonce")] == ["HEAD"]

    def test_no_more_are_asked_for_than_the_ca_allows(self, session: Session, ca: FakeCA) -> None:
        """Where a CA publishes how many newNonce requests it takes, more of them wait for their turn."""
        ca.answers[ORDER] = lambda: (200, {}, None)
        session._rates = RequestRates(LETS_ENCRYPT)
        for _ in range(15):
            ca.run(session.post(ORDER, {}, deadline=NEVER))
        asked = [request.at for request in ca.seen(f"{CA}/newNonce")]
        assert asked == pytest.approx([0.0] * 11 + [0.05, 0.1, 0.15, 0.2])
        assert len(ca.seen(ORDER)) == 15

    @pytest.mark.parametrize(
        ("resource", "allowed", "per_second"), [("newOrder", 201, 300), ("other", 126, 250)]
    )
    def test_every_request_waits_for_its_turn(
        self, session: Session, ca: FakeCA, resource: str, allowed: int, per_second: int
    ) -> None:
        """What a CA publishes for a resource, or for all others, holds before a connection is taken."""
        url = f"{CA}/{resource}"
        session._rates = RequestRates(LETS_ENCRYPT)
        for _ in range(allowed + 2):
            ca.run(session.post(url, {}, deadline=NEVER))
        assert [each for each in ca.waits if each > 1e-9] == pytest.approx([1 / per_second] * 2)

    def test_questions_about_renewal_have_a_rate_of_their_own(self, session: Session, ca: FakeCA) -> None:
        """They are spread by the rate of renewalInfo, though each has a URL of its own."""
        ca.answers[f"{CA}/dir"] = lambda: (200, {**DIRECTORY, "renewalInfo": f"{CA}/renewalInfo"}, None)
        ca.run(session.directory(NEVER))
        session._rates = RequestRates(LETS_ENCRYPT)
        for number in range(103):
            ca.run(session.get(f"{CA}/renewalInfo/aki.{number}", deadline=NEVER))
        assert [each for each in ca.waits if each > 1e-9] == pytest.approx([0.001] * 2)

    def test_a_turn_that_comes_too_late(self, ca: FakeCA) -> None:
        """Nobody waits for a turn beyond the deadline, or when the session is closed."""
        ca.answers[ORDER] = lambda: (200, {}, None)
        ca.answers[f"{CA}/newNonce"] = lambda: (503, {}, None) if ca.closed else (200, {}, ca.nonce())
        with running(ca) as (session, time):
            session._rates = RequestRates(LETS_ENCRYPT)
            for _ in range(30):
                session._rates.reserve("newNonce", time.now)
            late = begin(ca.loop, session.post(ORDER, {}, deadline=ca.loop.clock.deadline(0.5)))
            waiting = begin(ca.loop, session.post(ORDER, {}, deadline=NEVER))
            assert not late.done()
            time.move(0.5)
            assert isinstance(late.exception(PATIENCE), DeadlinePassed)
            assert not waiting.done()
            session.close()
            assert isinstance(waiting.exception(PATIENCE), CAUnavailable)


class TestTheRest:
    def test_requests_are_counted(self, session: Session, ca: FakeCA) -> None:
        """Every request counts, repeated ones and those for nonces too."""
        ca.run(session.post(ORDER, None, deadline=NEVER))
        assert session.requests == len(ca.requests) == 3

    def test_after_the_deadline_nothing_is_sent(self, session: Session, ca: FakeCA) -> None:
        """A passed deadline costs the CA no request."""
        ca.run(session.directory(NEVER))
        with pytest.raises(DeadlinePassed):
            ca.run(session.post(ORDER, None, deadline=session._clock.deadline(0)))
        assert len(ca.requests) == 1

    def test_closing_closes_connections_and_ends_retries(self, session: Session, ca: FakeCA) -> None:
        """A closed session keeps no connection and repeats nothing."""
        ca.answers[f"{CA}/dir"] = lambda: (503, {}, None)
        session.close()
        with pytest.raises(CAUnavailable):
            ca.run(session.directory(NEVER))
        assert ca.closed
        assert len(ca.requests) == 1

    def test_the_log_has_no_secrets(
        self, session: Session, ca: FakeCA, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Each request is a debug line with URL and status, and without nonce, signature, payload or key."""
        caplog.set_level(logging.DEBUG)
        ca.run(session.post(ORDER, {"csr": "c2VjcmV0"}, deadline=NEVER))
        sent = json.loads(ca.seen(ORDER)[0].body or b"")
        told = [each for each in caplog.messages if each.startswith(f"POST {ORDER}: 200 in ")]
        assert told, caplog.messages
        private = JWK.load(KEY.pem()).to_partial_json()["d"]
        for secret in ("nonce-", "c2VjcmV0", *sent.values(), private):
            assert secret not in caplog.text
        assert private not in repr(vars(session))
