"""The session against a real CA, with and without something that breaks in between."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from josepy.jwk import JWK, JWKEC, JWKRSA
from tests.fault_proxy import CA, FaultProxy
from tests.faults import DIRECTORY, NEW_ACCOUNT, NEW_NONCE, NEW_ORDER, ORDER, Rule
from tests.peers import ChallTestSrv, Pebble

from acmems.exceptions import (
    CAProblem,
    CAProtocolError,
    CAUnavailable,
    DeadlinePassed,
    FateUnknown,
    RateLimited,
)
from acmems.frontends.problems import status_of
from acmems.issuers.acme.session import Response, Session
from acmems.issuers.acme.session.jws import external_account_binding
from acmems.system.clock import SYSTEM, Clock, Deadline
from acmems.text import Secret

ORDERED = {"identifiers": [{"type": "dns", "value": "a.example.org"}]}

IMPATIENT = Clock(wait=lambda event, _: event.is_set())
"""The real clock, but for waits: those are over at once."""


def within(seconds: float = 30) -> Deadline:
    return SYSTEM.deadline(seconds)


def open_session(
    ca: CA, key: JWK | None = None, *, clock: Clock = IMPATIENT, try_limit: float = 10
) -> Session:
    key = key or JWKEC(key=ec.generate_private_key(ec.SECP256R1()))
    return Session(ca.directory_url, key, ca_file=ca.ca_file, clock=clock, try_limit=try_limit)


def register(session: Session, **more: Any) -> Response:
    url = session.directory(within())["newAccount"]
    payload = {"termsOfServiceAgreed": True, **more}
    answer = session.post(url, payload, deadline=within(), use_jwk=True)
    session.kid = answer.location
    return answer


def order(session: Session) -> Response:
    url = session.directory(within())["newOrder"]
    return session.post(url, ORDERED, deadline=within(), repeatable=False)


@pytest.fixture
def proxy(pebble: Pebble) -> Iterator[FaultProxy]:
    with FaultProxy(pebble) as proxy:
        yield proxy


@pytest.fixture
def session(proxy: FaultProxy) -> Iterator[Session]:
    """A session with an account, whose proxy has seen nothing yet."""
    session = open_session(proxy, try_limit=2)
    register(session)
    proxy.seen.clear()
    yield session
    session.close()


class TestKeys:
    @pytest.mark.parametrize(
        "key",
        [
            pytest.param(lambda: JWKEC(key=ec.generate_private_key(ec.SECP256R1())), id="P-256"),
            pytest.param(lambda: JWKEC(key=ec.generate_private_key(ec.SECP384R1())), id="P-384"),
            pytest.param(lambda: JWKRSA(key=rsa.generate_private_key(65537, 2048)), id="RSA"),
        ],
    )
    def test_the_ca_accepts_what_every_kind_of_key_signs(
        self, pebble: Pebble, key: Callable[[], JWK]
    ) -> None:
        """A real CA registers the account and takes orders signed with it."""
        session = open_session(pebble, key())
        assert register(session).status == 201
        assert order(session).json()["status"] == "pending"

    def test_the_ca_accepts_an_external_account_binding(self, dns: ChallTestSrv) -> None:
        """A CA that wants external accounts registers a key with its binding, and none without."""
        secret = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"  # noqa: S105 - made up
        options = {"externalAccountBindingRequired": True, "externalAccountMACKeys": {"kid-1": secret}}
        with Pebble(dns.address, options=options) as ca:
            key = JWKEC(key=ec.generate_private_key(ec.SECP256R1()))
            session = open_session(ca, key)
            with pytest.raises(CAProblem) as refused:
                register(session)
            assert refused.value.code == "externalAccountRequired"
            url = session.directory(within())["newAccount"]
            binding = external_account_binding(key, "kid-1", Secret(secret), url)
            assert register(session, externalAccountBinding=binding).status == 201


class TestNonces:
    @pytest.mark.threat("ca", "refused nonces")
    @pytest.mark.parametrize("percent", [5, 20, 50, 90])
    def test_refused_nonces_do_not_show(self, dns: ChallTestSrv, percent: int) -> None:
        """Whatever share of good nonces a CA refuses, requests succeed while they can."""
        with Pebble(dns.address, env={"PEBBLE_WFE_NONCEREJECT": str(percent)}) as ca:
            session = open_session(ca)
            register(session)
            assert [order(session).status for _ in range(10)] == [201] * 10

    @pytest.mark.threat("ca", "refused nonces")
    def test_a_ca_that_refuses_every_nonce_is_unavailable(self, dns: ChallTestSrv) -> None:
        """Tries are bounded, and then the CA counts as unavailable."""
        with Pebble(dns.address, env={"PEBBLE_WFE_NONCEREJECT": "100"}) as ca:
            session = open_session(ca)
            with pytest.raises(CAUnavailable, match="nonces in a row") as caught:
                register(session)
            assert status_of(caught.value) == 503
            assert session.requests < 150

    def test_a_warm_session_asks_for_no_nonce(self, session: Session, proxy: FaultProxy) -> None:
        """Every answer brings the next nonce, error answers too."""
        with pytest.raises(CAProblem):
            session.post(session.directory_url.replace("dir", "my-order/none"), None, deadline=within())
        order(session)
        assert proxy.count(path=NEW_NONCE) == 0
        assert proxy.count() == 2

    def test_a_nonce_is_used_once(self, session: Session, proxy: FaultProxy) -> None:
        """However many threads share a session, no nonce goes out twice, and few are asked for."""
        with ThreadPoolExecutor(32) as threads:
            answers = list(threads.map(lambda _: order(session), range(200)))
        assert {answer.status for answer in answers} == {201}
        nonces = Counter(seen.protected["nonce"] for seen in proxy.seen if seen.method == "POST")
        assert len(nonces) == 200
        assert proxy.count(path=NEW_NONCE) <= 16

    def test_at_most_sixteen_connections(self, session: Session, proxy: FaultProxy) -> None:
        """However many threads share a session, the CA sees sixteen connections at most."""
        with ThreadPoolExecutor(64) as threads:
            list(threads.map(lambda _: order(session), range(200)))
        assert 2 <= proxy.most_connections <= 16


TRANSIENT: dict[str, Callable[[Rule], None]] = {
    "reset": lambda rule: rule.reset(),
    "lost answer": lambda rule: rule.drop_answer(),
    "half an answer": lambda rule: rule.truncate(),
    "stall": lambda rule: rule.stall(),
    "drip": lambda rule: rule.drip(0.1),
    "500": lambda rule: rule.problem(500, "serverInternal"),
    "502": lambda rule: rule.answer(502, b"<html>Bad Gateway</html>"),
    "503": lambda rule: rule.answer(503, Retry_After="1"),
    "503 until a date": lambda rule: rule.answer(503, Retry_After="Sun, 06 Nov 1994 08:49:37 GMT"),
    "504": lambda rule: rule.answer(504),
}


class TestFaultsOfTheMoment:
    @pytest.mark.parametrize("fault", TRANSIENT)
    def test_a_repeatable_request_is_repeated(self, session: Session, proxy: FaultProxy, fault: str) -> None:
        """Reading an order survives what breaks once."""
        url = order(session).location
        assert url
        TRANSIENT[fault](proxy.when(path=ORDER, nth=1))
        assert session.post(url, None, deadline=within()).json()["status"] == "pending"
        assert proxy.count(path=ORDER) == 2

    @pytest.mark.parametrize(
        "fault", ["lost answer", "half an answer", "stall", "502", "500", "504", "reset"]
    )
    def test_an_order_whose_answer_is_lost_is_not_placed_again(
        self, session: Session, proxy: FaultProxy, fault: str
    ) -> None:
        """What must not be repeated is sent once; whether the CA did it, nobody knows."""
        TRANSIENT[fault](proxy.when(path=NEW_ORDER))
        with pytest.raises(FateUnknown):
            order(session)
        assert proxy.count(path=NEW_ORDER) == 1

    def test_an_order_that_the_ca_was_too_busy_for_is_placed_later(
        self, session: Session, proxy: FaultProxy
    ) -> None:
        """A 503 says that nothing was done: even a new order may be repeated."""
        proxy.when(path=NEW_ORDER, nth=1).answer(503, Retry_After="1")
        assert order(session).status == 201
        assert proxy.count(path=NEW_ORDER) == 2

    def test_a_lost_nonce_does_not_make_the_fate_of_an_order_unknown(
        self, session: Session, proxy: FaultProxy
    ) -> None:
        """As long as only nonces are asked for, no order was sent."""
        proxy.when(path=NEW_ORDER, nth=1).header("Replay-Nonce", None)
        order(session)
        proxy.when(path=NEW_NONCE, nth=1).drop_answer()
        assert order(session).status == 201
        assert proxy.count(path=NEW_NONCE) == 2

    def test_tries_are_bounded(self, session: Session, proxy: FaultProxy) -> None:
        """A CA that stays broken is asked five times, then it is unavailable."""
        url = order(session).location
        assert url
        proxy.when(path=ORDER).answer(503)
        with pytest.raises(CAUnavailable, match="503"):
            session.post(url, None, deadline=within())
        assert proxy.count(path=ORDER) == 5

    def test_a_ca_that_wants_to_be_asked_after_the_deadline_is_not_waited_for(
        self, session: Session, proxy: FaultProxy
    ) -> None:
        """The wait that the CA asks for is passed on at once, cut to an hour."""
        proxy.when(path=NEW_ORDER).answer(503, Retry_After="1000000000")
        with pytest.raises(CAUnavailable) as unavailable:
            order(session)
        assert unavailable.value.retry_after == 3600
        assert proxy.count(path=NEW_ORDER) == 1

    def test_a_rate_limit_is_passed_on(self, session: Session, proxy: FaultProxy) -> None:
        """A 429 is not repeated; its reason and its wait reach whoever asked."""
        proxy.when(path=NEW_ORDER).problem(429, "rateLimited", "too many\norders", Retry_After="77")
        with pytest.raises(RateLimited, match=r"^too many orders$") as limited:
            order(session)
        assert limited.value.retry_after == 77
        assert proxy.count(path=NEW_ORDER) == 1

    @pytest.mark.threat("ca", "broken answers")
    def test_a_silent_ca_costs_no_more_than_the_deadline(self, pebble: Pebble, proxy: FaultProxy) -> None:
        """A CA that never answers is waited for until the deadline, not longer."""
        session = open_session(proxy)
        proxy.when(path=DIRECTORY).stall()
        with pytest.raises(DeadlinePassed):
            session.directory(within(0.3))

    def test_a_ca_that_is_gone_is_unavailable(self, dns: ChallTestSrv) -> None:
        """Where nobody listens, there is no CA; when it is back, the same session goes on."""
        with Pebble(dns.address) as ca:
            session = open_session(ca)
            register(session)
            ca.stop()
            with pytest.raises(CAUnavailable, match="refused"):
                order(session)
            ca.start()
            register(session)
            assert order(session).status == 201

    def test_a_closed_session_waits_for_no_next_try(self, pebble: Pebble, proxy: FaultProxy) -> None:
        """Closing ends the wait between two tries."""
        session = open_session(proxy, clock=SYSTEM)
        proxy.when(path=DIRECTORY).answer(503, Retry_After="1000")
        failed = threading.Event()

        def ask() -> None:
            with pytest.raises(CAUnavailable):
                session.directory(within(3000))
            failed.set()

        thread = threading.Thread(target=ask)
        thread.start()
        session.close()
        thread.join(30)
        assert failed.is_set()


NONSENSE: dict[str, Callable[[Rule], None]] = {
    "no JSON": lambda rule: rule.replace(b'{"newNonce": '),
    "a list": lambda rule: rule.replace(b"[]"),
    "another encoding": lambda rule: rule.replace(b"\xff\xfe{}"),
    "too long": lambda rule: rule.replace(b" " * 100_000),
    "lacks an entrance": lambda rule: rule.edit(lambda value: {"newNonce": value["newNonce"]}),
    "an entrance elsewhere": lambda rule: rule.set(newOrder="https://evil.example/order"),
    "an entrance without TLS": lambda rule: rule.set(newOrder="http://127.0.0.1/order"),
    "an entrance of a port": lambda rule: rule.set(newAccount="https://127.0.0.1:1/order"),
    "an entrance that is no text": lambda rule: rule.set(newNonce=["https://127.0.0.1/"]),
    "broken meta": lambda rule: rule.set(meta=[1]),
    "no meta": lambda rule: rule.set(meta=None),
    "terms that are no text": lambda rule: rule.set(meta={"termsOfService": 7}),
    "profiles that are no table": lambda rule: rule.set(meta={"profiles": ["classic"]}),
    "redirect": lambda rule: rule.redirect("https://evil.example/dir"),
    "not modified": lambda rule: rule.answer(304),
    "early": lambda rule: rule.answer(103),
    "compressed": lambda rule: rule.header("Content-Encoding", "gzip"),
}


class TestNonsense:
    @pytest.mark.parametrize("fault", NONSENSE)
    def test_a_nonsensical_directory_is_refused(self, proxy: FaultProxy, fault: str) -> None:
        """What cannot be a directory of this CA ends there: no URL in it is used."""
        NONSENSE[fault](proxy.when(path=DIRECTORY))
        session = open_session(proxy)
        with pytest.raises(CAProtocolError):
            session.directory(within())
        assert proxy.count() == 1

    def test_an_endless_answer_is_cut(self, session: Session, proxy: FaultProxy) -> None:
        """An answer over the limit is refused, and its connection not used again."""
        proxy.when(path=NEW_ORDER, nth=1).replace(b" " * 50_000_000)
        with pytest.raises(CAProtocolError, match="longer than 1048576 bytes"):
            order(session)
        assert order(session).status == 201

    def test_an_answer_without_a_nonce_is_a_good_answer(self, session: Session, proxy: FaultProxy) -> None:
        """A CA that forgets `Replay-Nonce` costs a request for one, nothing else."""
        proxy.when(path=NEW_ORDER).header("Replay-Nonce", None)
        assert [order(session).status for _ in range(2)] == [201, 201]

    def test_a_nonce_that_is_not_base64url_is_ignored(self, session: Session, proxy: FaultProxy) -> None:
        """Nothing that a CA sends as a nonce gets into a header but base64url."""
        proxy.when(path=NEW_ORDER, nth=1).header("Replay-Nonce", 'abc", "alg": "none')
        order(session)
        assert order(session).status == 201
        assert proxy.count(path=NEW_NONCE) == 1

    def test_a_ca_without_nonces_is_refused(self, proxy: FaultProxy) -> None:
        """A CA's newNonce must give a nonce (RFC 8555 section 7.2)."""
        proxy.when(path=NEW_NONCE).header("Replay-Nonce", None)
        session = open_session(proxy)
        with pytest.raises(CAProtocolError, match="newNonce"):
            register(session)
        assert proxy.count(path=NEW_ACCOUNT) == 0
