"""The manager where no CA is needed: its key, its connection, and what is asked of it too early."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from tests.fake_ca import (
    ACCOUNT,
    AUTHORIZATION,
    CA,
    CERTIFICATE,
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

from acmems.config import Configuration
from acmems.exceptions import AccountError, AcmeException, CAProblem, CAUnavailable, DeadlinePassed
from acmems.issuers.acme.account import describe_key
from acmems.manager import ACMEManager
from acmems.system.clock import SYSTEM

TEXT = f"[account]\nacme-server = {CA}/directory\naccept-terms-of-service = yes\n"
VALID = {"status": "valid"}


def make(folder: Path, *lines: str) -> ACMEManager:
    """Return a manager that has not connected."""
    text = "\n".join([TEXT, f"dir = {folder}", *lines])
    return ACMEManager(Configuration.from_text(text), connect=False)


@pytest.fixture
def manager(tmp_path: Path) -> ACMEManager:
    """A manager with an empty account directory."""
    return make(tmp_path)


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    """The CA that every manager here speaks to; it works."""
    made = FakeSession(
        {
            NEW_ACCOUNT: [Said(VALID, {"Location": ACCOUNT})],
            ACCOUNT: [VALID],
            NEW_ORDER: [Said(order(), {"Location": ORDER})],
            AUTHORIZATION: [authorization("valid")],
            FINALIZE: [order("valid")],
            CERTIFICATE: [b"the chain"],
        }
    )
    monkeypatch.setattr("acmems.manager.Session", lambda *_, **__: made)
    return made


def obtain(manager: ACMEManager, key: object = "key", seconds: float = 30) -> bytes:
    return manager.obtain(make_request(), [FakeValidator()], SYSTEM.deadline(seconds), key)


class TestKey:
    """The account key, as scripts make and load it."""

    def test_a_new_key(self, manager: ACMEManager, tmp_path: Path) -> None:
        """`create_private_key` makes an RSA key of the size asked for, and loads nothing yet."""
        manager.create_private_key(key_size=2048)
        assert manager.key is None
        key = load_pem_private_key((tmp_path / "account.pem").read_bytes(), None)
        assert getattr(key, "key_size", None) == 2048

    def test_a_key_that_exists(self, manager: ACMEManager, tmp_path: Path) -> None:
        """A key is replaced only by force."""
        manager.create_private_key(key_size=2048)
        before = (tmp_path / "account.pem").read_bytes()
        with pytest.raises(AccountError, match="already"):
            manager.create_private_key(key_size=2048)
        assert (tmp_path / "account.pem").read_bytes() == before
        manager.create_private_key(force=True, key_size=2048)
        assert (tmp_path / "account.pem").read_bytes() != before

    @pytest.mark.parametrize("size", [0, 1024, 2047])
    def test_a_key_that_is_too_small(self, manager: ACMEManager, tmp_path: Path, size: int) -> None:
        """Below 2048 bits no key is made."""
        with pytest.raises(ValueError, match="at least 2048"):
            manager.create_private_key(key_size=size)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "act", [ACMEManager.create_private_key, ACMEManager.create_account_key, ACMEManager.load_private_key]
    )
    def test_without_a_directory(self, tmp_path: Path, act: Callable[[ACMEManager], None]) -> None:
        """An account directory that does not exist is an AccountError."""
        with pytest.raises(AccountError, match="does not exist"):
            act(make(tmp_path / "missing", "key-type = ec256"))

    @pytest.mark.parametrize(
        ("line", "kind"), [("", "P-256"), ("key-type = ec384", "P-384"), ("key-type = rsa2048", "RSA 2048")]
    )
    def test_the_configured_type(self, tmp_path: Path, line: str, kind: str) -> None:
        """`create_account_key` makes what `key-type` says, P-256 where it says nothing."""
        manager = make(tmp_path, line)
        manager.create_account_key()
        manager.load_private_key()
        assert describe_key(manager.account_key) == kind

    def test_a_lost_key(self, manager: ACMEManager, tmp_path: Path) -> None:
        """Beside a registration no new key is made in silence."""
        (tmp_path / "registration.json").write_text("{}")
        with pytest.raises(AccountError, match="never replaced silently"):
            manager.create_account_key()
        assert not (tmp_path / "account.pem").exists()


class TestTooEarly:
    """What is asked before the manager is ready is an AccountError that names the way."""

    def test_no_key(self, manager: ACMEManager) -> None:
        """Without a key there is no client and nothing to sign with."""
        with pytest.raises(AccountError, match=r"connect\(\) first"):
            manager.init_client()
        with pytest.raises(AccountError, match=r"connect\(\) first"):
            manager.account_key  # noqa: B018 - a property that raises

    def test_no_connection(self, manager: ACMEManager) -> None:
        """Without a client there is no account."""
        manager.create_account_key()
        manager.load_private_key()
        for act in (manager.refresh_registration, manager.deactivate):
            with pytest.raises(AccountError, match=r"connect\(\) first"):
                act()
        assert manager.account_url is None

    def test_trust_anchors_that_are_none(self, tmp_path: Path) -> None:
        """A `ca-file` that holds no certificate is an AccountError that names it."""
        (tmp_path / "ca.pem").write_text("garbage")
        manager = make(tmp_path, f"ca-file = {tmp_path / 'ca.pem'}")
        manager.create_account_key()
        manager.load_private_key()
        with pytest.raises(AccountError, match=r"ca\.pem"):
            manager.init_client()

    def test_closing_what_was_never_open(self, manager: ACMEManager) -> None:
        """A manager that never connected closes all the same, twice if need be."""
        manager.close()
        manager.close()


class TestConnection:
    """The account is asked for when it is needed, and once."""

    def test_the_first_order_connects(self, manager: ACMEManager, session: FakeSession) -> None:
        """An order before any `connect` connects; the next one does not."""
        manager.create_account_key()
        assert obtain(manager) == b"the chain"
        assert manager.account_url == session.kid == ACCOUNT
        obtain(manager)
        assert (session.count(NEW_ACCOUNT), session.count(ACCOUNT)) == (1, 1)

    def test_many_who_wait_ask_once(
        self, manager: ACMEManager, session: FakeSession, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Orders that come while the account is being asked for wait for that one answer."""
        manager.create_account_key()
        connect, asked, go_on = manager.connect, threading.Event(), threading.Event()

        def slow() -> None:
            asked.set()
            assert go_on.wait(30)
            connect()

        monkeypatch.setattr(manager, "connect", slow)
        with ThreadPoolExecutor(8) as pool:
            orders = [pool.submit(obtain, manager, number) for number in range(8)]
            assert asked.wait(30)
            with pytest.raises(DeadlinePassed):
                obtain(manager, seconds=0)
            go_on.set()
            assert {order.result(30) for order in orders} == {b"the chain"}
        assert session.count(NEW_ACCOUNT) == 1

    def test_a_failure_is_told_and_forgotten(self, manager: ACMEManager, session: FakeSession) -> None:
        """Where connecting fails the order fails for that reason, and the next one tries anew."""
        manager.create_account_key()
        session.say(NEW_ACCOUNT, CAUnavailable("down"), Said(VALID, {"Location": ACCOUNT}))
        with pytest.raises(CAUnavailable, match="down"):
            obtain(manager)
        assert obtain(manager) == b"the chain"

    @pytest.mark.parametrize(
        ("code", "error"),
        [
            ("externalAccountRequired", AccountError),
            ("unauthorized", AcmeException),
            ("invalidContact", CAProblem),
        ],
    )
    def test_what_the_ca_has_against_the_account(
        self, manager: ACMEManager, session: FakeSession, code: str, error: type[Exception]
    ) -> None:
        """A refusal of the account is an error with the CA's words, and leaves no registration."""
        manager.create_account_key()
        session.say(NEW_ACCOUNT, problem("accountDoesNotExist"), problem(code, "account: its words"))
        with pytest.raises(error, match="its words"):
            manager.connect()
        assert manager.registration is None
        assert not manager.directory.has_registration()

    def test_a_deactivated_account(self, manager: ACMEManager, session: FakeSession) -> None:
        """After `deactivate` the account is gone for good, and connecting says so."""
        manager.create_account_key()
        manager.connect()
        session.say(ACCOUNT, {"status": "deactivated"})
        manager.deactivate()
        assert session.posts[-1].payload == {"status": "deactivated"}
        with pytest.raises(AccountError, match="is deactivated"):
            manager.connect()
