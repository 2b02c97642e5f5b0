"""One account at one CA: its key, its opening when it is first needed, and the end of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.fake_ca import (
    ACCOUNT,
    AUTHORIZATION,
    CA,
    CERTIFICATE,
    CHAIN,
    CHALLENGE,
    FINALIZE,
    NEW_ACCOUNT,
    NEW_ORDER,
    ORDER,
    FakeSession,
    FakeValidator,
    Said,
    authorization,
    make_request,
    order,
    problem,
)
from tests.issuing import wait_for
from tests.peers import wait_until
from tests.steps import settle
from tests.tls_server import Behaviour, Serve, answering, answering_once, breaking_off

from acmems.challenges import Proof
from acmems.config import Configuration
from acmems.exceptions import (
    AccountError,
    AcmeException,
    CAProblem,
    CAProtocolError,
    CAUnavailable,
    DeadlinePassed,
    DirectoryUnusable,
)
from acmems.issuers.acme.account import AccountDirectory
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuers.acme.key import AccountKey
from acmems.issuers.acme.session import Response
from acmems.system.steps import Steps, in_thread
from acmems.x509.chain import OfferedChain

OK = b"HTTP/1.1 200 OK\r\n"
VALID = {"status": "valid"}
FOUND = Said(VALID, {"Location": ACCOUNT})
WORKING: Mapping[str, Sequence[object]] = {
    NEW_ACCOUNT: [FOUND],
    ACCOUNT: [VALID],
    NEW_ORDER: [Said(order(), {"Location": ORDER})],
    AUTHORIZATION: [authorization("valid")],
    FINALIZE: [order("valid")],
    CERTIFICATE: [CHAIN],
}


class SlowSession(FakeSession):
    """A session that answers when it may, and can be closed."""

    def __init__(self) -> None:
        super().__init__(WORKING)
        self.kid = None
        self.go_on = threading.Event()
        self.go_on.set()
        self.is_closed = False
        self.asked = 0

    def close(self) -> None:
        self.is_closed = True

    def post(self, url: str, payload: Mapping[str, Any] | None, **options: Any) -> Steps[Response]:
        self.asked += 1
        if not self.go_on.is_set():
            yield from in_thread(lambda: wait_for(self.go_on))
        if self.is_closed:
            raise CAUnavailable("the session is closed")
        return (yield from super().post(url, payload, **options))


Sessions = list[SlowSession]
Make = Callable[..., AcmeIssuer]


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> Sessions:
    """The sessions that issuers make, all with a CA that works."""
    made: Sessions = []

    def make(*_: object, **__: object) -> SlowSession:
        made.append(SlowSession())
        return made[-1]

    monkeypatch.setattr("acmems.issuers.acme.clients.client.Session", make)
    return made


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Make an issuer whose account directory is empty."""
    made: list[AcmeIssuer] = []

    def issuer(*lines: str, server: str = CA) -> AcmeIssuer:
        usual = ["[account]", f"acme-server = {server}/directory", "accept-terms-of-service = yes"]
        config = Configuration.from_text("\n".join([*usual, f"dir = {tmp_path}", *lines]))
        made.append(AcmeIssuer(config.account, 30.0))
        return made[-1]

    yield issuer
    for each in made:
        each.close()


@pytest.fixture
def issuer(make: Make) -> AcmeIssuer:
    """An issuer that has a key, and has not asked the CA for anything."""
    made = make()
    made.create_key()
    return made


def begin(issuer: AcmeIssuer, identity: str = "identity", seconds: float = 30) -> Future[OfferedChain]:
    deadline = issuer.clock.deadline(seconds)
    return issuer.loop.submit(issuer.obtain(make_request(), [FakeValidator()], deadline, identity))


def obtain(issuer: AcmeIssuer, seconds: float = 30) -> bytes:
    return begin(issuer, seconds=seconds).result(30).pem


def count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only their number matters


class TestKey:
    """The account key, made as it is configured and never replaced."""

    @pytest.mark.parametrize(
        ("line", "kind"), [("", "P-256"), ("key-type = ec384", "P-384"), ("key-type = rsa2048", "RSA 2048")]
    )
    def test_a_new_key_is_of_the_configured_type(self, make: Make, line: str, kind: str) -> None:
        """A new key is what `key-type` says, P-256 where it says nothing."""
        issuer = make(line)
        issuer.create_key()
        assert issuer.key is None
        assert issuer.load_key().kind == kind
        assert issuer.key is not None

    @pytest.mark.parametrize("act", [AcmeIssuer.create_key, AcmeIssuer.load_key])
    def test_a_missing_directory_is_an_account_error(
        self, make: Make, tmp_path: Path, act: Callable[[AcmeIssuer], None]
    ) -> None:
        """An account directory that does not exist is an AccountError."""
        tmp_path.rmdir()
        with pytest.raises(AccountError, match="does not exist"):
            act(make())
        tmp_path.mkdir()

    def test_a_lost_key_is_not_replaced(self, make: Make, tmp_path: Path) -> None:
        """Beside a registration no new key is made in silence."""
        (tmp_path / "registration.json").write_text("{}")
        with pytest.raises(AccountError, match="never replaced silently"):
            make().create_key()
        assert not (tmp_path / "account.pem").exists()

    def test_the_digest_is_known_once_the_key_is_loaded(self, make: Make) -> None:
        """What nobody gets a certificate for is known as soon as the key is loaded."""
        issuer = make()
        issuer.create_key()
        assert issuer.key_digest is None
        assert issuer.load_key().digest == issuer.key_digest


class TestTooEarly:
    """What is asked before the issuer is ready is an AccountError, and closing it is no error."""

    @pytest.mark.parametrize("act", [AcmeIssuer.refresh, AcmeIssuer.deactivate])
    def test_nothing_can_be_signed_without_a_key(self, make: Make, act: Callable[[AcmeIssuer], None]) -> None:
        """Before the key is loaded there is nothing to sign with."""
        issuer = make()
        with pytest.raises(AccountError, match="not loaded"):
            act(issuer)
        assert issuer.account_url is None

    @pytest.mark.usefixtures("sessions")
    def test_an_unknown_account_cannot_be_deactivated(self, issuer: AcmeIssuer) -> None:
        """An account that nobody has asked for cannot be deactivated."""
        issuer.load_key()
        with pytest.raises(AccountError, match="not known"):
            issuer.deactivate()

    def test_a_broken_ca_file_is_named(self, make: Make, tmp_path: Path) -> None:
        """A `ca-file` that holds no certificate is an AccountError that names it."""
        (tmp_path / "ca.pem").write_text("garbage")
        issuer = make(f"ca-file = {tmp_path / 'ca.pem'}")
        issuer.create_key()
        with pytest.raises(AccountError, match=r"ca\.pem"):
            issuer.load_key()

    def test_an_unused_issuer_closes_twice(self, make: Make) -> None:
        """An issuer that was never used closes all the same, twice if need be."""
        issuer = make()
        issuer.close()
        issuer.close()


class TestOpening:
    """The account is asked for when it is needed, and once."""

    def test_the_first_order_opens_the_account(self, issuer: AcmeIssuer, sessions: Sessions) -> None:
        """An order before `open` asks for the account; the next one does not."""
        assert obtain(issuer) == CHAIN
        (session,) = sessions
        assert issuer.account_url == session.kid == ACCOUNT
        obtain(issuer)
        assert (session.count(NEW_ACCOUNT), session.count(ACCOUNT)) == (1, 1)

    def test_orders_at_once_share_one_opening(self, issuer: AcmeIssuer, sessions: Sessions) -> None:
        """Orders that come while the account is being asked for wait for that one answer."""
        issuer.load_key()
        (session,) = sessions
        session.go_on.clear()
        orders = [begin(issuer, str(number)) for number in range(8)]
        settle(issuer.loop)
        with pytest.raises(DeadlinePassed, match="opened"):
            obtain(issuer, seconds=0)
        session.go_on.set()
        assert {order.result(30).pem for order in orders} == {CHAIN}
        assert session.count(NEW_ACCOUNT) == 1

    def test_a_failed_opening_is_tried_anew_by_the_next_order(
        self, issuer: AcmeIssuer, sessions: Sessions
    ) -> None:
        """Where opening fails, all orders that wait fail for that reason; the next one tries anew."""
        issuer.load_key()
        (session,) = sessions
        session.say(NEW_ACCOUNT, CAUnavailable("down"), FOUND)
        session.go_on.clear()
        orders = [begin(issuer, str(number)) for number in range(3)]
        settle(issuer.loop)
        session.go_on.set()
        errors = [order.exception(30) for order in orders]
        assert [str(error) for error in errors] == ["down"] * 3
        assert len(set(map(id, errors))) == 3
        assert obtain(issuer) == CHAIN

    def test_an_order_whose_time_is_over_fails_no_other(self, issuer: AcmeIssuer, sessions: Sessions) -> None:
        """Where the time of the order that opens the account is over, another one goes on."""
        issuer.load_key()
        (session,) = sessions
        session.say(NEW_ACCOUNT, DeadlinePassed("no answer in time"), FOUND)
        session.go_on.clear()
        first, *others = [begin(issuer, str(number)) for number in range(3)]
        settle(issuer.loop)
        session.go_on.set()
        assert isinstance(first.exception(30), DeadlinePassed)
        assert [other.result(30).pem for other in others] == [CHAIN] * 2
        assert session.count(NEW_ACCOUNT) == 2

    @pytest.mark.usefixtures("sessions")
    def test_orders_work_once_there_is_a_key(self, make: Make) -> None:
        """Orders fail while there is no key, and work when there is one."""
        issuer = make()
        with pytest.raises(AccountError, match="does not exist"):
            obtain(issuer)
        issuer.create_key()
        assert obtain(issuer) == CHAIN

    @pytest.mark.parametrize(
        ("code", "error"),
        [
            ("externalAccountRequired", AccountError),
            ("unauthorized", AcmeException),
            ("invalidContact", CAProblem),
        ],
    )
    def test_a_refused_account_leaves_no_registration(
        self, issuer: AcmeIssuer, sessions: Sessions, code: str, error: type[Exception]
    ) -> None:
        """A refusal of the account is an error with the CA's words, and leaves no registration."""
        issuer.load_key()
        sessions[0].say(NEW_ACCOUNT, problem("accountDoesNotExist"), problem(code, "account: its words"))
        with pytest.raises(error, match="its words"):
            issuer.open()
        assert issuer.account is None
        assert not issuer.directory.has_registration()

    def test_no_account_is_registered_against_the_will(self, issuer: AcmeIssuer, sessions: Sessions) -> None:
        """Who does not want to register is told that there is no account."""
        issuer.load_key()
        sessions[0].say(NEW_ACCOUNT, problem("accountDoesNotExist"))
        with pytest.raises(AccountError, match="account register"):
            issuer.open(register=False)

    def test_a_deactivated_account_cannot_be_opened(self, issuer: AcmeIssuer, sessions: Sessions) -> None:
        """After `deactivate` the account is gone for good, and opening says so."""
        issuer.open()
        (session,) = sessions
        session.say(ACCOUNT, {"status": "deactivated"})
        assert issuer.deactivate().status == "deactivated"
        assert session.posts[-1].payload == {"status": "deactivated"}
        with pytest.raises(AccountError, match="is deactivated"):
            issuer.open()


class TestSessions:
    """There is one session for one key, however often the account is opened."""

    def test_repeated_failures_use_one_session(self, issuer: AcmeIssuer, sessions: Sessions) -> None:
        """Each order tries to open the account, and all of them use one session."""
        issuer.load_key()
        sessions[0].say(NEW_ACCOUNT, CAUnavailable("down"))
        for _ in range(5):
            with pytest.raises(CAUnavailable, match="down"):
                obtain(issuer)
        assert sessions[0].count(NEW_ACCOUNT) == 5
        assert len(sessions) == 1

    def test_two_threads_end_up_with_one_session(
        self, issuer: AcmeIssuer, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of two threads that open the account at once, both use the session of the faster one."""
        together = threading.Barrier(2)

        def make(*_: object, **__: object) -> SlowSession:
            sessions.append(SlowSession())
            together.wait(30)
            return sessions[-1]

        monkeypatch.setattr("acmems.issuers.acme.clients.client.Session", make)
        with ThreadPoolExecutor(2) as pool:
            accounts = [pool.submit(issuer.open) for _ in range(2)]
            assert {account.result(30).url for account in accounts} == {ACCOUNT}
        assert [session.is_closed for session in sessions] == [False, False]
        assert [session for session in sessions if session.posts] == [issuer.client.session]

    def test_a_new_key_has_a_session_and_an_account_of_its_own(
        self, issuer: AcmeIssuer, sessions: Sessions, tmp_path: Path
    ) -> None:
        """A new key has a session of its own; the old one is closed, and so is its account forgotten."""
        issuer.open()
        AccountDirectory(tmp_path).save_key(AccountKey.generate("ec256"), force=True)
        issuer.load_key()
        old, new = sessions
        assert (old.is_closed, new.is_closed) == (True, False)
        assert issuer.account is None
        assert obtain(issuer) == CHAIN
        assert issuer.account_url == ACCOUNT
        assert new.count(ACCOUNT) == 1

    @pytest.mark.parametrize(
        ("behaviour", "seconds", "error"),
        [
            pytest.param(answering(OK + b"Content-Length: 2\r\n\r\n{}"), 20, CAProtocolError, id="kept"),
            pytest.param(answering_once(b"HTTP/1.1 404 Not\r\n\r\n"), 20, DirectoryUnusable, id="closed"),
            # This is tried again until the time is over.
            pytest.param(
                breaking_off(OK + b"Content-Length: 9\r\n\r\n{"),
                0.5,
                (CAUnavailable, DeadlinePassed),
                id="broken",
            ),
        ],
    )
    def test_no_descriptor_is_lost(
        self,
        make: Make,
        serve: Serve,
        behaviour: Behaviour,
        seconds: float,
        error: type[Exception] | tuple[type[Exception], ...],
    ) -> None:
        """However often opening fails, and however it fails, no connection stays behind."""
        server = serve(behaviour)
        before = count_descriptors()
        issuer = make(f"ca-file = {server.ca_file}", server=str(server.origin))
        issuer.create_key()

        def fail() -> None:
            with pytest.raises(error):
                obtain(issuer, seconds)

        fail()
        after_one = count_descriptors()
        for _ in range(5):
            fail()
        wait_until(lambda: count_descriptors() <= after_one, "no more than after the first are open")
        issuer.close()
        wait_until(lambda: count_descriptors() <= before, "all are closed")


class TestStop:
    """After a stop nothing is begun, and nobody waits."""

    @pytest.mark.parametrize("loaded", [True, False], ids=["key loaded", "no key"])
    def test_no_order_opens_a_stopped_issuer(
        self, issuer: AcmeIssuer, sessions: Sessions, loaded: bool
    ) -> None:
        """An order after the stop asks the CA for nothing."""
        if loaded:
            issuer.load_key()
        issuer.stop()
        with pytest.raises(CAUnavailable, match="stopping"):
            obtain(issuer)
        assert [session.posts for session in sessions] == [[]] * loaded

    def test_a_key_loaded_after_the_stop_reaches_no_ca(self, issuer: AcmeIssuer, sessions: Sessions) -> None:
        """A key that is loaded after the stop has a session that is closed from the beginning."""
        issuer.stop()
        with pytest.raises(CAUnavailable):
            issuer.open()
        assert [(session.is_closed, session.posts) for session in sessions] == [(True, [])]

    def test_a_stop_ends_an_opening_that_goes_on(self, issuer: AcmeIssuer, sessions: Sessions) -> None:
        """An opening that goes on is ended by the stop, and all who wait for it hear of that."""
        issuer.load_key()
        (session,) = sessions
        session.go_on.clear()
        orders = [begin(issuer, str(number)) for number in range(3)]
        settle(issuer.loop)
        issuer.stop()
        session.go_on.set()
        assert [type(order.exception(30)) for order in orders] == [CAUnavailable] * 3

    def test_closing_ends_all_waits(self, issuer: AcmeIssuer, sessions: Sessions) -> None:
        """A thread that waits for the CA does not wait any more when another one closes the issuer."""
        issuer.load_key()
        (session,) = sessions
        session.go_on.clear()
        with ThreadPoolExecutor(1) as pool:
            opened = pool.submit(issuer.open)
            wait_until(lambda: session.asked == 1, "the CA is being asked")
            issuer.close()
            with pytest.raises(CAUnavailable, match="stopping"):
                opened.result(30)
        session.go_on.set()

    @pytest.mark.usefixtures("sessions")
    def test_nothing_can_be_asked_after_closing(self, issuer: AcmeIssuer) -> None:
        """Whoever asks a closed issuer is told that it is stopping."""
        issuer.open()
        issuer.close()
        for ask in (issuer.open, issuer.refresh, issuer.deactivate):
            with pytest.raises(CAUnavailable, match="stopping"):
                ask()


class BlockingValidator(FakeValidator):
    """Needs as long to present a proof as a test lets it."""

    is_immediate = False

    def __init__(self) -> None:
        super().__init__("dns-01")
        self.go_on = threading.Event()

    def present(self, proofs: Sequence[Proof]) -> None:
        super().present(proofs)
        wait_for(self.go_on)


def test_slow_validators_hold_up_nothing_else(issuer: AcmeIssuer, sessions: Sessions) -> None:
    """While many orders wait for the DNS, there are threads to look the CA up in."""
    issuer.load_key()
    (session,) = sessions
    pending = authorization(
        challenges=[{"type": "dns-01", "url": CHALLENGE, "token": "t", "status": "pending"}]
    )
    session.say(AUTHORIZATION, pending)
    session.say(CHALLENGE, {})
    validator = BlockingValidator()
    orders = [
        issuer.loop.submit(issuer.obtain(make_request(), [validator], issuer.clock.deadline(60), str(number)))
        for number in range(40)
    ]
    wait_until(lambda: bool(validator.presented), "a proof is being presented")
    assert issuer.loop.submit(in_thread(lambda: "found")).result(30) == "found"
    issuer.stop()
    validator.go_on.set()
    assert {type(order.exception(30)) for order in orders} == {CAUnavailable}
