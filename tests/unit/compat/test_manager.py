"""The documented manager where no CA is needed: its key, its connection, and many threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from acme import messages
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from josepy.jwk import JWKEC, JWKRSA
from tests.fake_ca import (
    ACCOUNT,
    AUTHORIZATION,
    CA,
    CHALLENGE,
    NAME,
    NEW_ACCOUNT,
    NEW_ORDER,
    ORDER,
    TOKEN,
    FakeSession,
    FakeValidator,
    Said,
    authorization,
    challenge,
    order,
    problem,
)
from tests.issuing import wait_for
from tests.peers import wait_until

from acmems.challenges import Proof
from acmems.config import Configuration
from acmems.exceptions import (
    AccountError,
    AuthorizationNotYetProcessed,
    AuthorizationNotYetRequested,
    CAUnavailable,
    DeadlinePassed,
    ValidatorUnavailable,
)
from acmems.manager import ACMEManager

TEXT = f"[account]\nacme-server = {CA}/directory\naccept-terms-of-service = yes\n"
VALID = {"status": "valid"}
BY_DNS = {"challenges": [challenge("dns-01")]}

Make = Callable[..., ACMEManager]


class ClosableSession(FakeSession):
    """In the place of a session: a CA that works, with a pending authorization."""

    def __init__(self) -> None:
        super().__init__(
            {
                NEW_ACCOUNT: [Said(VALID, {"Location": ACCOUNT})],
                ACCOUNT: [VALID],
                NEW_ORDER: [Said(order(), {"Location": ORDER})],
                AUTHORIZATION: [authorization()],
                CHALLENGE: [{}],
            }
        )
        self.kid = None

    def close(self) -> None:
        """There is nothing to close."""


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> ClosableSession:
    """The CA that every manager here speaks to."""
    made = ClosableSession()
    monkeypatch.setattr("acmems.issuers.acme.clients.client.Session", lambda *_, **__: made)
    return made


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Make a manager that has not connected, with an empty account directory."""
    made: list[ACMEManager] = []

    def manager(*lines: str, folder: Path = tmp_path) -> ACMEManager:
        text = "\n".join([TEXT, f"dir = {folder}", *lines])
        made.append(ACMEManager(Configuration.from_text(text), connect=False))
        return made[-1]

    yield manager
    for each in made:
        each.close()


@pytest.fixture
def manager(make: Make) -> ACMEManager:
    """A manager with an empty account directory."""
    return make()


@pytest.fixture
def connected(manager: ACMEManager, session: ClosableSession) -> ACMEManager:
    """A manager with an account."""
    manager.issuer.create_key()
    manager.connect()
    session.posts.clear()
    return manager


class TestKey:
    """The account key, as scripts make and load it."""

    def test_a_new_key_has_the_size_asked_for(self, manager: ACMEManager, tmp_path: Path) -> None:
        """`create_private_key` makes an RSA key of the size asked for, and loads nothing yet."""
        manager.create_private_key(key_size=2048)
        assert manager.key is None
        key = load_pem_private_key((tmp_path / "account.pem").read_bytes(), None)
        assert getattr(key, "key_size", None) == 2048

    def test_a_key_is_replaced_only_by_force(self, manager: ACMEManager, tmp_path: Path) -> None:
        """A key is replaced only by force."""
        manager.create_private_key(key_size=2048)
        before = (tmp_path / "account.pem").read_bytes()
        with pytest.raises(AccountError, match="already"):
            manager.create_private_key(key_size=2048)
        assert (tmp_path / "account.pem").read_bytes() == before
        manager.create_private_key(force=True, key_size=2048)
        assert (tmp_path / "account.pem").read_bytes() != before

    @pytest.mark.parametrize("size", [0, 1024, 2047])
    def test_no_key_is_made_below_2048_bits(self, manager: ACMEManager, tmp_path: Path, size: int) -> None:
        """Below 2048 bits no key is made."""
        with pytest.raises(ValueError, match="at least 2048"):
            manager.create_private_key(key_size=size)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("act", [ACMEManager.create_private_key, ACMEManager.load_private_key])
    def test_a_missing_directory_is_an_account_error(
        self, make: Make, tmp_path: Path, act: Callable[[ACMEManager], None]
    ) -> None:
        """An account directory that does not exist is an AccountError."""
        with pytest.raises(AccountError, match="does not exist"):
            act(make(folder=tmp_path / "missing"))

    @pytest.mark.parametrize(("key_type", "kind"), [("ec256", JWKEC), ("ec384", JWKEC), ("rsa2048", JWKRSA)])
    def test_a_loaded_key_is_a_jwk_of_josepy(self, make: Make, key_type: str, kind: type) -> None:
        """A loaded key is one of josepy's, with the private half."""
        manager = make(f"key-type = {key_type}")
        manager.issuer.create_key()
        manager.load_private_key()
        assert isinstance(manager.key, kind)
        assert manager.key is not None


class TestConnection:
    """Key, client and account, step by step or by `connect`."""

    def test_there_is_no_client_without_a_key(self, manager: ACMEManager) -> None:
        """Without a key there is no client."""
        with pytest.raises(AccountError, match=r"connect\(\) first"):
            manager.init_client()
        assert manager.registration is None

    def test_a_broken_ca_file_is_named(self, make: Make, tmp_path: Path) -> None:
        """A `ca-file` that holds no certificate is an AccountError that names it."""
        (tmp_path / "ca.pem").write_text("garbage")
        manager = make(f"ca-file = {tmp_path / 'ca.pem'}")
        manager.issuer.create_key()
        manager.load_private_key()
        with pytest.raises(AccountError, match=r"ca\.pem"):
            manager.init_client()

    def test_an_unused_manager_closes_twice(self, manager: ACMEManager) -> None:
        """A manager that never connected closes all the same, twice if need be."""
        manager.close()
        manager.close()

    def test_connecting_makes_the_registration_known(self, connected: ACMEManager) -> None:
        """After `connect` there is the account, as python-acme has it, and the key."""
        registration = connected.registration
        assert isinstance(registration, messages.RegistrationResource)
        assert (registration.uri, registration.body.status) == (ACCOUNT, "valid")
        assert connected.key is not None

    @pytest.mark.usefixtures("session")
    def test_a_new_manager_connects_unless_told_not_to(self, manager: ACMEManager) -> None:
        """A manager connects when it is made, unless it is told not to."""
        manager.issuer.create_key()
        other = ACMEManager(manager.config)
        assert other.registration is not None
        other.close()

    def test_a_refused_account_leaves_no_registration(
        self, manager: ACMEManager, session: ClosableSession
    ) -> None:
        """Where the CA refuses there is an error with its words, and no registration."""
        manager.issuer.create_key()
        session.say(
            NEW_ACCOUNT, problem("accountDoesNotExist"), problem("externalAccountRequired", "its words")
        )
        with pytest.raises(AccountError, match="its words"):
            manager.connect()
        assert manager.registration is None

    def test_no_account_is_registered_against_the_will(
        self, manager: ACMEManager, session: ClosableSession
    ) -> None:
        """Who does not want to register is told that there is no account."""
        manager.issuer.create_key()
        session.say(NEW_ACCOUNT, problem("accountDoesNotExist"))
        with pytest.raises(AccountError, match="account register"):
            manager.connect(register=False)

    def test_a_first_validation_connects(self, manager: ACMEManager, session: ClosableSession) -> None:
        """Whoever asks before any `connect` has the account opened."""
        manager.issuer.create_key()
        session.say(AUTHORIZATION, authorization("valid"))
        (authzr,) = manager.acquire_domain_validations(FakeValidator(), [NAME])
        assert authzr.body.status.name == "valid"
        assert manager.registration is not None

    def test_nothing_can_be_asked_after_closing(self, connected: ACMEManager) -> None:
        """A closed manager tells that it is stopping."""
        connected.close()
        for ask in (
            connected.connect,
            lambda: connected.new_domain_authorization(FakeValidator(), NAME),
            lambda: connected.acquire_domain_validations(FakeValidator(), [NAME]),
        ):
            with pytest.raises(CAUnavailable, match="stopping"):
                ask()

    def test_closing_ends_waits(self, connected: ACMEManager) -> None:
        """A thread that waits for a validation does not wait any more when another one closes the manager."""
        validator = FakeValidator("http-01")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(connected.acquire_domain_validations, validator, [NAME])
            wait_until(lambda: bool(validator.presented), "the proof is presented")
            connected.close()
            with pytest.raises(CAUnavailable, match="stopping"):
                waiting.result(30)


class SlowValidator(FakeValidator):
    """Needs as long to present a proof as a test lets it."""

    is_immediate = False

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__("dns-01", error)
        self.go_on = threading.Event()

    def present(self, proofs: Sequence[Proof]) -> None:
        wait_for(self.go_on)
        super().present(proofs)


class TestThreads:
    """Any number of threads may use one manager at once."""

    def test_threads_share_the_proof_of_one_name(
        self, connected: ACMEManager, session: ClosableSession
    ) -> None:
        """Threads that want one pending name validated share its proof, which is withdrawn at the end."""
        session.say(AUTHORIZATION, authorization(**BY_DNS))
        validator = SlowValidator()

        def ask(_: int) -> None:
            with pytest.raises(AuthorizationNotYetProcessed):
                connected.new_domain_authorization(validator, NAME)

        with ThreadPoolExecutor(4) as pool:
            asked = pool.map(ask, range(4))
            wait_until(lambda: session.count(AUTHORIZATION) == 4, "all have an authorization")
            validator.go_on.set()
            list(asked)
        assert session.count(CHALLENGE) == 1
        session.say(AUTHORIZATION, authorization("valid"))
        assert connected.refresh_domain_authorization(validator, NAME).body.status.name == "valid"
        assert len(validator.presented) == len(validator.withdrawn) == 1

    def test_threads_share_the_failure_to_present_a_proof(
        self, connected: ACMEManager, session: ClosableSession
    ) -> None:
        """Where presenting the proof fails, each of them hears of it."""
        session.say(AUTHORIZATION, authorization(**BY_DNS))
        validator = SlowValidator(ValidatorUnavailable("the name server is down"))

        def ask(_: int) -> None:
            with pytest.raises(ValidatorUnavailable, match="down"):
                connected.new_domain_authorization(validator, NAME)

        with ThreadPoolExecutor(4) as pool:
            asked = pool.map(ask, range(4))
            wait_until(lambda: session.count(AUTHORIZATION) == 4, "all have an authorization")
            validator.go_on.set()
            list(asked)

    def test_waiting_for_a_proof_of_another_thread_has_a_deadline(
        self, make: Make, session: ClosableSession
    ) -> None:
        """Whoever has waited too long for another thread's proof is told so."""
        manager = make("[mgmt]", "request-timeout = 3")
        manager.issuer.create_key()
        manager.connect()
        session.say(AUTHORIZATION, authorization(**BY_DNS))
        validator = SlowValidator()
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(manager.new_domain_authorization, validator, NAME)
            wait_until(lambda: session.count(AUTHORIZATION) == 1, "the first has an authorization")
            with pytest.raises(DeadlinePassed, match="in time"):
                manager.new_domain_authorization(validator, NAME)
            validator.go_on.set()
            with pytest.raises(AuthorizationNotYetProcessed):
                first.result(30)

    def test_a_slow_name_holds_up_no_other(self, connected: ACMEManager, session: ClosableSession) -> None:
        """A name whose proof takes long to present holds up no other."""
        session.say(AUTHORIZATION, authorization(**BY_DNS), authorization())
        slow, quick = SlowValidator(), FakeValidator()
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(connected.new_domain_authorization, slow, NAME)
            wait_until(lambda: session.count(AUTHORIZATION) == 1, "the first has an authorization")
            other = {"identifier": {"type": "dns", "value": "other.example.org"}}
            session.say(NEW_ORDER, Said(order(identifiers=[other["identifier"]]), {"Location": ORDER}))
            session.say(AUTHORIZATION, authorization(**other))
            with pytest.raises(AuthorizationNotYetRequested):
                connected.new_domain_authorization(quick, "other.example.org")
            assert [proof.token for proof in quick.presented] == [TOKEN]
            slow.go_on.set()
            with pytest.raises(AuthorizationNotYetProcessed):
                first.result(30)
