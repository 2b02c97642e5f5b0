"""Another key for the account while orders run: some wait, some begin again, and none is lost."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fake_ca import (
    ACCOUNT,
    AUTHORIZATION,
    CA,
    CERTIFICATE,
    CHAIN,
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
from tests.peers.process import wait_until

from acmems.config import Configuration
from acmems.exceptions import AccountError, CAUnavailable, DeadlinePassed
from acmems.issuers.acme.account import AccountDirectory
from acmems.issuers.acme.clients import gate as gates
from acmems.issuers.acme.clients.gate import OrderGate
from acmems.issuers.acme.directory import Directory
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuers.acme.key import AccountKey
from acmems.system.clock import SYSTEM, Deadline
from acmems.system.steps import Signal, StepLoop, Steps

KEY_CHANGE = f"{CA}/key-change"


class Session(FakeSession):
    """A session of one key at a CA that knows one key only."""

    def __init__(self, authority: Authority, key: AccountKey) -> None:
        super().__init__(
            {
                NEW_ACCOUNT: [Said({"status": "valid"}, {"Location": ACCOUNT})],
                ACCOUNT: [{"status": "valid"}],
                NEW_ORDER: [Said(order(), {"Location": ORDER})],
                ORDER: [order("ready")],
                AUTHORIZATION: [authorization("valid")],
                FINALIZE: [order("valid")],
                CERTIFICATE: [CHAIN],
            }
        )
        self.kid = None
        self.authority = authority
        self.key = key

    def directory(self, deadline: Deadline) -> Steps[Directory]:
        yield from ()
        names = {"newNonce": f"{CA}/nonce", "newAccount": NEW_ACCOUNT, "newOrder": NEW_ORDER}
        return Directory.parse({**names, "keyChange": KEY_CHANGE})

    def post(self, url: str, payload: Any, **options: Any) -> Steps[Any]:
        if url == KEY_CHANGE:
            self.authority.changes.append(payload)
            self.authority.known = self.authority.next_key
            self._answers[url] = [{"status": "valid"}]
        elif self.key.digest != self.authority.known:
            code = "accountDoesNotExist" if url == NEW_ACCOUNT else "malformed"
            raise problem(code, "JWS verification error", 400)
        if url == FINALIZE and self.authority.held is not None:
            yield self.authority.held.wait()
        if self.is_closed:
            raise CAUnavailable("the session is closed")
        return (yield from super().post(url, payload, **options))


class Authority:
    """A CA that knows one key of the account."""

    def __init__(self, directory: AccountDirectory) -> None:
        self._directory = directory
        self.sessions: list[Session] = []
        self.changes: list[Any] = []
        self.known = ""
        self.held: Signal | None = None

    def make(self, _: str, key: AccountKey, *__: object, **___: object) -> Session:
        self.sessions.append(Session(self, key))
        return self.sessions[-1]

    @property
    def next_key(self) -> str:
        """The digest of the key that is to be the account's."""
        key = self._directory.load_next_key()
        assert key is not None
        return key.digest

    def count(self, url: str) -> int:
        return sum(session.count(url) for session in self.sessions)


class Desk:
    """An issuer with an account at such a CA."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        text = f"[account]\nacme-server = {CA}/directory\naccept-terms-of-service = yes\ndir = {folder}"
        self.authority = authority
        self.issuer = AcmeIssuer(Configuration.from_text(text).account, 30.0)
        self.issuer.create_key()
        authority.known = self.issuer.directory.load_key().digest
        self.issuer.open()

    def obtain(self, identity: str = "identity") -> bytes:
        deadline = self.issuer.clock.deadline(30)
        return self.issuer.run(self.issuer.obtain(make_request(), [FakeValidator()], deadline, identity)).pem


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    authority = Authority(AccountDirectory(tmp_path))
    monkeypatch.setattr("acmems.issuers.acme.clients.client.Session", authority.make)
    made = Desk(tmp_path, authority)
    yield made
    made.issuer.close()


class TestIssuer:
    def test_it_goes_on_with_the_new_key(self, desk: Desk) -> None:
        """The next order is signed by the new key, without a look at the account before."""
        before = desk.issuer.client.key
        account = desk.issuer.rotate_key("ec384")
        assert account.url == ACCOUNT
        assert desk.issuer.client.key.digest == desk.issuer.directory.load_key().digest != before.digest
        assert desk.issuer.client.key.kind == "P-384"
        assert desk.obtain() == CHAIN

    def test_an_order_that_takes_too_long(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        """It begins again with the new key, and no other order is placed."""
        monkeypatch.setattr(gates, "DRAIN_SECONDS", 0.2)
        held = desk.authority.held = Signal()
        deadline = desk.issuer.clock.deadline(30)
        steps = desk.issuer.obtain(make_request(), [FakeValidator()], deadline, "identity")
        future = desk.issuer.loop.submit(steps)
        wait_until(lambda: desk.authority.count(AUTHORIZATION) > 0, "the order runs")
        words = list[str]()
        desk.issuer.rotate_key(progress=words.append)
        assert [each.split()[0] for each in words] == ["waiting", "1"]
        desk.authority.held = None
        desk.issuer.loop.soon(held.set)
        assert future.result(30).pem == CHAIN
        assert desk.authority.count(NEW_ORDER) == 1
        assert len(desk.authority.sessions) > 1

    def test_a_key_that_another_process_has_changed(self, desk: Desk) -> None:
        """Where the CA refuses the old key, the one on disk is used; nobody hears of it."""
        new = AccountKey.generate("ec256")
        desk.issuer.directory.save_key(new, force=True)
        desk.authority.known = new.digest
        assert desk.obtain() == CHAIN
        assert desk.issuer.client.key.digest == new.digest

    def test_a_change_that_was_late(self, desk: Desk) -> None:
        """Where the CA refuses the old key, and the next one is on disk still, that takes its place."""
        new = AccountKey.generate("ec256")
        desk.issuer.directory.save_next_key(new)
        assert desk.obtain() == CHAIN
        desk.authority.known = new.digest
        assert desk.obtain("another") == CHAIN
        assert desk.issuer.directory.load_key().digest == new.digest
        assert not desk.issuer.directory.has_next_key()

    def test_a_next_key_that_is_none(self, desk: Desk) -> None:
        """What lies in its place and is no key is told, with the file: waiting would not help."""
        desk.issuer.directory.next_key_file.touch(mode=0o600)
        words = r"account\.pem\.next holds no private key .*: move it away"
        with pytest.raises(AccountError, match=words):
            desk.issuer.rotate_key()
        desk.issuer.directory.next_key_file.unlink()
        desk.issuer.rotate_key()

    def test_a_clock_that_was_set_back(self, desk: Desk) -> None:
        """A change that was asked for in the future is over some minutes from now, not from then."""
        directory = desk.issuer.directory
        directory.save_next_key(AccountKey.generate("ec256"))
        directory.note_change(time.time() + 86400)
        with pytest.raises(AccountError, match="may be late: try again in some minutes"):
            desk.issuer.rotate_key()
        assert 0 <= directory.next_key_age(time.time()) < 60
        directory.note_change(time.time() - 600)
        desk.issuer.rotate_key()

    def test_a_refusal_for_another_reason(self, desk: Desk) -> None:
        """What the CA refuses with the key that it knows is told."""
        desk.authority.known = "another"
        with pytest.raises(Exception, match="JWS verification error"):
            desk.obtain()

    def test_two_at_once(self, desk: Desk) -> None:
        """While one process changes the key another one is told to try again, and changes nothing."""
        with desk.issuer.directory.changing_key(), pytest.raises(AccountError, match="another process"):
            desk.issuer.rotate_key()
        assert desk.authority.changes == []

    def test_a_key_that_cannot_be_renamed(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        """Both keys stay on disk, the words say so, and the next opening finishes it."""

        def fail(*_: object) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", fail)
            with pytest.raises(AccountError, match="is the key of the account now, and cannot be renamed"):
                desk.issuer.rotate_key()
        assert desk.issuer.directory.has_next_key()
        assert desk.issuer.open(register=False).url == ACCOUNT
        assert desk.issuer.directory.load_key().digest == desk.authority.known
        assert not desk.issuer.directory.has_next_key()


class TestGate:
    @pytest.fixture
    def loop(self) -> Iterator[StepLoop]:
        with contextlib.closing(StepLoop()) as loop:
            yield loop

    def test_who_comes_meanwhile_waits(self, loop: StepLoop) -> None:
        """Nothing passes a closed gate, and all of it does when that opens."""
        gate = OrderGate(loop)
        with gate.closed(SYSTEM, lambda _: None):
            assert not gate.is_open
            passing = loop.submit(gate.pass_through(SYSTEM.deadline(30)))
            with pytest.raises(DeadlinePassed):
                loop.submit(gate.pass_through(SYSTEM.deadline(0.01))).result(30)
            assert not passing.done()
        passing.result(30)
        loop.submit(gate.pass_through(SYSTEM.deadline(30))).result(30)

    def test_who_is_under_way_is_waited_for(self, loop: StepLoop) -> None:
        """The gate is closed when those that have passed are done."""
        gate, ended = OrderGate(loop), list[float]()
        with contextlib.ExitStack() as under_way:
            under_way.enter_context(gate.under_way())

            def wait(_: threading.Event, seconds: float) -> bool:
                ended.append(seconds)
                under_way.close()
                return False

            words = list[str]()
            with gate.closed(dataclasses.replace(SYSTEM, wait=wait), words.append):
                assert len(ended) == 1
            assert [each.split()[0] for each in words] == ["waiting"]

    def test_an_error_opens_it(self, loop: StepLoop) -> None:
        """Whatever happens meanwhile, orders go on."""
        gate = OrderGate(loop)
        with pytest.raises(AccountError), gate.closed(SYSTEM, lambda _: None):
            raise AccountError("no")
        assert gate.is_open
