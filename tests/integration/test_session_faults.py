"""The session against a real CA, with and without something that breaks in between."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
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
from acmems.issuers.acme.directory import Directory
from acmems.issuers.acme.key import AccountKey
from acmems.issuers.acme.session import Response, Session
from acmems.issuers.acme.session.jws import external_account_binding
from acmems.issuers.acme.session.retries import LONGEST_HOLD
from acmems.system.clock import SYSTEM, Clock, Deadline
from acmems.system.steps import StepLoop
from acmems.system.steps.waits import Timer
from acmems.text import Secret

ORDERED = {"identifiers": [{"type": "dns", "value": "a.example.org"}]}


class ImpatientLoop(StepLoop):
    """A loop whose pauses are over at once; deadlines are further away than those."""

    LONGEST_PAUSE = 10.0  # seconds

    def at(self, moment: float, call: Callable[[], None]) -> Timer:
        now = self.clock.monotonic()
        return super().at(now if moment - now < self.LONGEST_PAUSE else moment, call)


def within(seconds: float = 30) -> Deadline:
    return SYSTEM.deadline(seconds)


class Blocking:
    """A session in a loop of its own, which threads wait for.

    Args:
        ca: whom it speaks to.
        key: the account key; a new one by default.
        loop: runs its steps; by default one without pauses.
        try_limit: as for the session.
    """

    def __init__(
        self, ca: CA, key: AccountKey | None = None, *, loop: StepLoop | None = None, try_limit: float = 10
    ) -> None:
        self.loop = loop or ImpatientLoop()
        key = key or AccountKey.generate("ec256")
        self.session = Session(ca.directory_url, key, self.loop, ca_file=ca.ca_file, try_limit=try_limit)

    def directory(self, deadline: Deadline | None = None) -> Directory:
        return self.loop.run(self.session.directory(deadline or within()))

    def post(self, url: str, payload: Mapping[str, Any] | None, **options: Any) -> Response:
        return self.loop.run(self.session.post(url, payload, deadline=within(), **options))

    def read(self, url: str | None) -> Response:
        """Read a resource (RFC 8555 section 6.3)."""
        assert url
        return self.post(url, None)

    def register(self, **more: Any) -> Response:
        """Make an account, and use it from now on."""
        payload = {"termsOfServiceAgreed": True, **more}
        answer = self.post(self.directory()["newAccount"], payload, use_jwk=True)
        self.session.kid = answer.location
        return answer

    def order(self) -> Response:
        """Place an order."""
        return self.post(self.directory()["newOrder"], ORDERED, repeatable=False)

    def close(self) -> None:
        self.session.close()
        self.loop.close()


Open = Callable[..., Blocking]


@pytest.fixture
def open_session() -> Iterator[Open]:
    """Open sessions that are closed at the end."""
    with contextlib.ExitStack() as stack:

        def open_one(*arguments: Any, **options: Any) -> Blocking:
            return stack.enter_context(contextlib.closing(Blocking(*arguments, **options)))

        yield open_one


@pytest.fixture
def proxy(pebble: Pebble) -> Iterator[FaultProxy]:
    with FaultProxy(pebble) as proxy:
        yield proxy


@pytest.fixture
def session(proxy: FaultProxy, open_session: Open, request: pytest.FixtureRequest) -> Blocking:
    """A session with an account, whose proxy has seen nothing yet; impatient where a test has to wait."""
    fault = getattr(request.node, "callspec", None) and request.node.callspec.params.get("fault")
    session = open_session(proxy, try_limit=2 if fault in {"stall", "drip"} else 20)
    session.register()
    proxy.seen.clear()
    return session


class TestKeys:
    @pytest.mark.parametrize("key_type", ["ec256", "ec384", "rsa2048"])
    def test_the_ca_accepts_what_every_kind_of_key_signs(
        self, pebble: Pebble, open_session: Open, key_type: str
    ) -> None:
        """A real CA registers the account and takes orders signed with it."""
        session = open_session(pebble, AccountKey.generate(key_type))
        assert session.register().status == 201
        assert session.order().json()["status"] == "pending"

    def test_the_ca_accepts_an_external_account_binding(self, open_session: Open, dns: ChallTestSrv) -> None:
        """A CA that wants external accounts registers a key with its binding, and none without."""
        secret = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"  # noqa: S105 - made up
        options = {"externalAccountBindingRequired": True, "externalAccountMACKeys": {"kid-1": secret}}
        with Pebble(dns.address, options=options) as ca:
            key = AccountKey.generate("ec256")
            session = open_session(ca, key)
            with pytest.raises(CAProblem) as refused:
                session.register()
            assert refused.value.code == "externalAccountRequired"
            url = session.directory()["newAccount"]
            binding = external_account_binding(key, "kid-1", Secret(secret), url)
            assert session.register(externalAccountBinding=binding).status == 201


class TestNonces:
    @pytest.mark.threat("ca", "refused nonces")
    @pytest.mark.parametrize("percent", [5, 20, 50, 80])
    def test_refused_nonces_do_not_show(self, open_session: Open, dns: ChallTestSrv, percent: int) -> None:
        """Whatever share of good nonces a CA refuses, requests succeed while they can."""
        with Pebble(dns.address, env={"PEBBLE_WFE_NONCEREJECT": str(percent)}) as ca:
            session = open_session(ca)
            session.register()
            assert [session.order().status for _ in range(10)] == [201] * 10

    @pytest.mark.threat("ca", "refused nonces")
    def test_a_ca_that_refuses_every_nonce_is_unavailable(
        self, open_session: Open, dns: ChallTestSrv
    ) -> None:
        """Tries are bounded, and then the CA counts as unavailable."""
        with Pebble(dns.address, env={"PEBBLE_WFE_NONCEREJECT": "100"}) as ca:
            session = open_session(ca)
            with pytest.raises(CAUnavailable, match="nonces in a row") as caught:
                session.register()
            assert status_of(caught.value) == 503
            assert session.session.requests < 150

    def test_a_warm_session_asks_for_no_nonce(self, session: Blocking, proxy: FaultProxy) -> None:
        """Every answer brings the next nonce, error answers too."""
        with pytest.raises(CAProblem):
            session.read(proxy.directory_url.replace("dir", "my-order/none"))
        session.order()
        assert proxy.count(path=NEW_NONCE) == 0
        assert proxy.count() == 2

    def test_a_nonce_is_used_once(self, session: Blocking, proxy: FaultProxy) -> None:
        """However many threads share a session, no nonce goes out twice, and few are asked for."""
        with ThreadPoolExecutor(32) as threads:
            answers = list(threads.map(lambda _: session.order(), range(200)))
        assert {answer.status for answer in answers} == {201}
        nonces = Counter(seen.protected["nonce"] for seen in proxy.seen if seen.method == "POST")
        assert len(nonces) == 200
        assert (
            proxy.count(path=NEW_NONCE) <= 32
        )  # as many as were at work at once: each answer brings the next one

    def test_few_connections_are_made_to_a_ca_that_is_near(
        self, open_session: Open, proxy: FaultProxy
    ) -> None:
        """However many requests there are at once, a CA that answers soon sees few connections."""
        # By a clock this slow no answer takes long, however busy the machine is.
        slow = Clock(monotonic=lambda: time.monotonic() / 1000)
        session = open_session(proxy, loop=ImpatientLoop(slow))
        session.register()
        with ThreadPoolExecutor(64) as threads:
            list(threads.map(lambda _: session.order(), range(200)))
        assert 2 <= proxy.most_connections <= 4


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
    def test_a_repeatable_request_is_repeated(self, session: Blocking, proxy: FaultProxy, fault: str) -> None:
        """Reading an order survives what breaks once."""
        url = session.order().location
        assert url
        TRANSIENT[fault](proxy.when(path=ORDER, nth=1))
        assert session.read(url).json()["status"] == "pending"
        assert proxy.count(path=ORDER) == 2

    @pytest.mark.parametrize(
        "fault", ["lost answer", "half an answer", "stall", "502", "500", "504", "reset"]
    )
    def test_an_order_whose_answer_is_lost_is_not_placed_again(
        self, session: Blocking, proxy: FaultProxy, fault: str
    ) -> None:
        """What must not be repeated is sent once; whether the CA did it, nobody knows."""
        TRANSIENT[fault](proxy.when(path=NEW_ORDER))
        with pytest.raises(FateUnknown):
            session.order()
        assert proxy.count(path=NEW_ORDER) == 1

    def test_an_order_that_the_ca_was_too_busy_for_is_placed_later(
        self, session: Blocking, proxy: FaultProxy
    ) -> None:
        """A 503 says that nothing was done: even a new order may be repeated."""
        proxy.when(path=NEW_ORDER, nth=1).answer(503, Retry_After="1")
        assert session.order().status == 201
        assert proxy.count(path=NEW_ORDER) == 2

    def test_a_lost_nonce_does_not_make_the_fate_of_an_order_unknown(
        self, session: Blocking, proxy: FaultProxy
    ) -> None:
        """As long as only nonces are asked for, no order was sent."""
        proxy.when(path=NEW_ORDER, nth=1).header("Replay-Nonce", None)
        session.order()
        proxy.when(path=NEW_NONCE, nth=1).drop_answer()
        assert session.order().status == 201
        assert proxy.count(path=NEW_NONCE) == 2

    def test_tries_are_bounded(self, session: Blocking, proxy: FaultProxy) -> None:
        """A CA that stays broken is asked five times, then it is unavailable."""
        url = session.order().location
        assert url
        proxy.when(path=ORDER).answer(503)
        with pytest.raises(CAUnavailable, match="503"):
            session.read(url)
        assert proxy.count(path=ORDER) == 5

    def test_a_ca_that_wants_to_be_asked_after_the_deadline_is_not_waited_for(
        self, session: Blocking, proxy: FaultProxy
    ) -> None:
        """The wait that the CA asks for is passed on at once, cut to minutes."""
        proxy.when(path=NEW_ORDER).answer(503, Retry_After="1000000000")
        with pytest.raises(CAUnavailable) as unavailable:
            session.order()
        assert unavailable.value.retry_after == LONGEST_HOLD
        assert proxy.count(path=NEW_ORDER) == 1

    def test_a_rate_limit_is_passed_on(self, session: Blocking, proxy: FaultProxy) -> None:
        """A 429 is not repeated; its reason and its wait reach whoever asked."""
        proxy.when(path=NEW_ORDER).problem(429, "rateLimited", "too many\norders", Retry_After="77")
        with pytest.raises(RateLimited, match=r"^too many orders$") as limited:
            session.order()
        assert limited.value.retry_after == 77
        assert proxy.count(path=NEW_ORDER) == 1

    @pytest.mark.threat("ca", "broken answers")
    def test_a_silent_ca_costs_no_more_than_the_deadline(
        self, open_session: Open, pebble: Pebble, proxy: FaultProxy
    ) -> None:
        """A CA that never answers is waited for until the deadline, not longer."""
        session = open_session(proxy)
        proxy.when(path=DIRECTORY).stall()
        with pytest.raises(DeadlinePassed):
            session.directory(within(0.3))

    def test_a_ca_that_is_gone_is_unavailable(self, open_session: Open, dns: ChallTestSrv) -> None:
        """Where nobody listens, there is no CA; when it is back, the same session goes on."""
        with Pebble(dns.address) as ca:
            session = open_session(ca)
            session.register()
            ca.stop()
            with pytest.raises(CAUnavailable, match="refused"):
                session.order()
            ca.start()
            session.register()
            assert session.order().status == 201

    def test_a_closed_session_waits_for_no_next_try(
        self, open_session: Open, pebble: Pebble, proxy: FaultProxy
    ) -> None:
        """Closing ends the wait between two tries."""
        session = open_session(proxy, loop=StepLoop())
        proxy.when(path=DIRECTORY).answer(503, Retry_After="1000")
        failed = threading.Event()

        def ask() -> None:
            with pytest.raises(CAUnavailable):
                session.directory(within(3000))
            failed.set()

        thread = threading.Thread(target=ask)
        thread.start()
        session.session.close()
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
    "meta without members": lambda rule: rule.set(meta="none"),
    "terms that are no text": lambda rule: rule.set(meta={"termsOfService": 7}),
    "profiles that are no table": lambda rule: rule.set(meta={"profiles": ["classic"]}),
    "redirect": lambda rule: rule.redirect("https://evil.example/dir"),
    "not modified": lambda rule: rule.answer(304),
    "another protocol": lambda rule: rule.answer(101),
    "compressed": lambda rule: rule.header("Content-Encoding", "gzip"),
}


class TestNonsense:
    @pytest.mark.parametrize("fault", NONSENSE)
    def test_a_nonsensical_directory_is_refused(
        self, open_session: Open, proxy: FaultProxy, fault: str
    ) -> None:
        """What cannot be a directory of this CA ends there: no URL in it is used."""
        NONSENSE[fault](proxy.when(path=DIRECTORY))
        session = open_session(proxy)
        with pytest.raises(CAProtocolError):
            session.directory()
        assert proxy.count() == 1

    def test_an_endless_answer_is_cut(self, session: Blocking, proxy: FaultProxy) -> None:
        """An answer over the limit is refused, and its connection not used again."""
        proxy.when(path=NEW_ORDER, nth=1).replace(b" " * 50_000_000)
        with pytest.raises(CAProtocolError, match="longer than 1048576 bytes"):
            session.order()
        assert session.order().status == 201

    def test_an_answer_without_a_nonce_is_a_good_answer(self, session: Blocking, proxy: FaultProxy) -> None:
        """A CA that forgets `Replay-Nonce` costs a request for one, nothing else."""
        proxy.when(path=NEW_ORDER).header("Replay-Nonce", None)
        assert [session.order().status for _ in range(2)] == [201, 201]

    def test_a_nonce_that_is_not_base64url_is_ignored(self, session: Blocking, proxy: FaultProxy) -> None:
        """Nothing that a CA sends as a nonce gets into a header but base64url."""
        proxy.when(path=NEW_ORDER, nth=1).header("Replay-Nonce", 'abc", "alg": "none')
        session.order()
        assert session.order().status == 201
        assert proxy.count(path=NEW_NONCE) == 1

    def test_a_ca_without_nonces_is_refused(self, open_session: Open, proxy: FaultProxy) -> None:
        """A CA's newNonce must give a nonce (RFC 8555 section 7.2)."""
        proxy.when(path=NEW_NONCE).header("Replay-Nonce", None)
        session = open_session(proxy)
        with pytest.raises(CAProtocolError, match="newNonce"):
            session.register()
        assert proxy.count(path=NEW_ACCOUNT) == 0
