"""Signed requests to one CA, which here is a script; a real one is in tests/integration."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from josepy.jwk import JWK
from tests.fake_ca import headers_of
from tests.steps import PATIENCE, DirectLoop, LoopTime, begin

from acmems.exceptions import CAProblem, CAProtocolError, CAUnavailable, DeadlinePassed, FateUnknown
from acmems.issuers.acme.key import AccountKey
from acmems.issuers.acme.session import Response
from acmems.issuers.acme.session.connection import Failure
from acmems.issuers.acme.session.rates import RequestRates
from acmems.issuers.acme.session.session import DIRECTORY_AGE, NONCE_TRIES, Session
from acmems.system.clock import NEVER, Clock, Deadline
from acmems.system.steps import Signal, StepLoop, Steps

CA = "https://ca.example"
ACCOUNT = f"{CA}/account/1"
ORDER = f"{CA}/order/1"
KEY = AccountKey.generate("ec256")
DIRECTORY = {name: f"{CA}/{name}" for name in ("newNonce", "newAccount", "newOrder")}

T = TypeVar("T")
Reply = tuple[int, object, str | None]
"""Status, JSON and nonce of a response."""
BAD_NONCE = {"type": CAProblem.PREFIX + "badNonce", "detail": "try this one"}


@dataclass
class Request:
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    at: float = 0.0

    def part(self, name: str) -> Any:
        assert self.body is not None
        text = json.loads(self.body)[name]
        return json.loads(base64.urlsafe_b64decode(text + "==") or b"null")

    @property
    def nonce(self) -> str:
        nonce: str = self.part("protected")["nonce"]
        return nonce


@dataclass
class FakeCA:
    """In the place of the transport: keeps what was sent, and answers by the function for the URL."""

    answers: dict[str, Callable[[], Reply]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    nonces: int = 0
    time: float = 0.0
    waits: list[float] = field(default_factory=list)
    closed: bool = False
    held: Signal | None = None
    """What the CA waits for before it answers, where it waits."""

    def __post_init__(self) -> None:
        self.loop: StepLoop = DirectLoop(Clock(monotonic=lambda: self.time, wait=self._wait))

    def _wait(self, event: object, seconds: float) -> bool:
        self.time += seconds
        self.waits.append(seconds)
        return False

    def run(self, steps: Steps[T]) -> T:
        return self.loop.run(steps)

    def use(self, deadline: Deadline, work: Callable[[FakeCA], Steps[T]]) -> Steps[T]:
        return work(self)

    def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline: Deadline,
        max_size: int,
    ) -> Steps[Response]:
        if deadline.passed:
            raise Failure("no answer in time", sent=False)
        self.requests.append(Request(method, url, headers, body, self.loop.clock.monotonic()))
        if self.held is not None:
            yield self.held.wait()
        status, value, nonce = self.answers.get(url, self._usual(url))()
        fields = headers_of({} if nonce is None else {"Replay-Nonce": nonce})
        return Response(status, fields, json.dumps(value).encode(), url)

    def _usual(self, url: str) -> Callable[[], Reply]:
        if url == f"{CA}/dir":
            return lambda: (200, DIRECTORY, None)
        return lambda: (200, {}, self.nonce())

    def nonce(self) -> str:
        self.nonces += 1
        return f"nonce-{self.nonces}"

    def close(self) -> None:
        self.closed = True

    def seen(self, url: str) -> list[Request]:
        return [request for request in self.requests if request.url == url]


@pytest.fixture
def ca() -> FakeCA:
    return FakeCA()


def session_at(ca: FakeCA, key: AccountKey | None = KEY) -> Session:
    session = Session(f"{CA}/dir", key, ca.loop)
    session._transport = ca  # type: ignore[assignment] # a stand-in
    session.kid = ACCOUNT
    return session


@pytest.fixture
def session(ca: FakeCA) -> Session:
    return session_at(ca)


@contextlib.contextmanager
def running(ca: FakeCA) -> Iterator[tuple[Session, LoopTime]]:
    """Give a session whose steps run in a thread, and a clock that stands still until it is moved."""
    time = LoopTime()
    ca.loop = time.loop
    with contextlib.closing(time.loop):
        yield session_at(ca), time


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

    def test_no_more_are_asked_for_than_the_ca_allows(self, session: Session, ca: FakeCA) -> None:
        """Where a CA publishes how many newNonce requests it takes, more of them wait for their turn."""
        ca.answers[ORDER] = lambda: (200, {}, None)
        session._rates = RequestRates("acme-v02.api.letsencrypt.org")
        for _ in range(15):
            ca.run(session.post(ORDER, {}, deadline=NEVER))
        asked = [request.at for request in ca.seen(f"{CA}/newNonce")]
        assert asked == pytest.approx([0.0] * 11 + [0.05, 0.1, 0.15, 0.2])
        assert len(ca.seen(ORDER)) == 15

    def test_a_turn_that_comes_too_late(self, ca: FakeCA) -> None:
        """Nobody waits for a turn beyond the deadline, or when the session is closed."""
        ca.answers[ORDER] = lambda: (200, {}, None)
        ca.answers[f"{CA}/newNonce"] = lambda: (503, {}, None) if ca.closed else (200, {}, ca.nonce())
        with running(ca) as (session, time):
            session._rates = RequestRates("acme-v02.api.letsencrypt.org")
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


class TestDirectory:
    def test_it_is_read_once_an_hour(self, session: Session, ca: FakeCA) -> None:
        """The directory is kept, and read anew when it is an hour old."""
        for ca.time in (0, 1, DIRECTORY_AGE - 1):
            assert ca.run(session.directory(NEVER))["newOrder"] == f"{CA}/newOrder"
        assert len(ca.requests) == 1
        ca.time = DIRECTORY_AGE
        ca.run(session.directory(NEVER))
        assert len(ca.requests) == 2

    def test_one_reads_it_anew(self, ca: FakeCA) -> None:
        """While one reads it, others go on with the old one: no stampede, and nobody waits."""
        with running(ca) as (session, time):
            ca.loop.run(session.directory(NEVER))
            time.move(DIRECTORY_AGE)
            ca.held = Signal()
            reader = begin(ca.loop, session.directory(NEVER))
            assert ca.loop.submit(session.directory(NEVER)).result(PATIENCE)["newOrder"]
            assert not reader.done()
            ca.loop.soon(ca.held.set)
            assert reader.result(PATIENCE)["newOrder"]
        assert len(ca.requests) == 2

    def test_one_reading_is_for_all(self, ca: FakeCA) -> None:
        """However many want the first directory at the same time, it is read once."""
        with running(ca) as (session, _):
            ca.held = Signal()
            readers = [begin(ca.loop, session.directory(NEVER)) for _ in range(100)]
            ca.loop.soon(ca.held.set)
            assert len({id(reader.result(PATIENCE)) for reader in readers}) == 1
        assert len(ca.requests) == 1

    def test_a_reading_that_fails(self, ca: FakeCA) -> None:
        """Where a reading fails that others wait for, one of them reads, and its error is not theirs."""
        replies: Iterator[Reply] = iter([(404, {}, None), (200, DIRECTORY, None)])
        ca.answers[f"{CA}/dir"] = lambda: next(replies)
        with running(ca) as (session, _):
            ca.held = Signal()
            first, *others = [begin(ca.loop, session.directory(NEVER)) for _ in range(10)]
            ca.loop.soon(ca.held.set)
            assert isinstance(first.exception(PATIENCE), CAProblem)
            assert len({id(other.result(PATIENCE)) for other in others}) == 1
        assert len(ca.requests) == 2

    def test_who_has_less_time_than_the_reader(self, ca: FakeCA) -> None:
        """Who waits for another's reading in vain does not disturb it: it is for all who come later."""
        with running(ca) as (session, time):
            ca.held = Signal()
            reader = begin(ca.loop, session.directory(NEVER))
            late = begin(ca.loop, session.directory(ca.loop.clock.deadline(5)))
            time.move(5.0)
            assert isinstance(late.exception(PATIENCE), DeadlinePassed)
            another = begin(ca.loop, session.directory(NEVER))
            assert not another.done()
            ca.loop.soon(ca.held.set)
            assert reader.result(PATIENCE) is another.result(PATIENCE)
        assert len(ca.requests) == 1

    def test_after_a_failure_it_is_read_again(self, session: Session, ca: FakeCA) -> None:
        """A directory that could not be read is asked for by the next request."""
        ca.answers[f"{CA}/dir"] = lambda: (404, {}, None)
        with pytest.raises(CAProblem):
            ca.run(session.directory(NEVER))
        del ca.answers[f"{CA}/dir"]
        assert ca.run(session.directory(NEVER))["newOrder"]

    def test_what_the_ca_says_of_itself_is_kept(self, session: Session, ca: FakeCA) -> None:
        """Terms, profiles and the need for an external account are in `meta`; terms are one safe line."""
        meta = {
            "termsOfService": f"{CA}/terms\r\nX: y",
            "profiles": {"a": "b"},
            "externalAccountRequired": True,
        }
        ca.answers[f"{CA}/dir"] = lambda: (
            200,
            {**DIRECTORY, "meta": meta, "zQ8x": "https://a.example"},
            None,
        )
        found = ca.run(session.directory(NEVER))
        assert found.terms_of_service == f"{CA}/terms X: y"
        assert (found.profiles, found.external_account_required) == ({"a": "b"}, True)


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
        assert f"POST {ORDER}: 200 in 0 ms" in caplog.messages
        private = JWK.load(KEY.pem()).to_partial_json()["d"]
        for secret in ("nonce-", "c2VjcmV0", *sent.values(), private):
            assert secret not in caplog.text
        assert private not in repr(vars(session))
