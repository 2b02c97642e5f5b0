"""An ACME CA as an issuer: its account is opened once, and then gives chains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Barrier

import pytest
from tests.fake_ca import (
    ACCOUNT,
    AUTHORIZATION,
    CA,
    CERTIFICATE,
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
from tests.steps import PATIENCE, begin

from acmems.config import Configuration
from acmems.exceptions import AccountError, CAUnavailable, DeadlinePassed, NeedToAgreeToTOS
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuers.acme.key import AccountKey
from acmems.system.clock import SYSTEM
from acmems.system.steps import Signal, gather, in_thread

pytestmark = pytest.mark.timeout(30)

VALID = {"status": "valid"}
CHAIN = b"the chain"
REQUEST = make_request()


class Desk:
    """An issuer whose CA is a table; each loading of a key makes a session of its own."""

    def __init__(self, folder: Path, *lines: str) -> None:
        text = ["[account]", f"acme-server = {CA}/directory", f"dir = {folder}", *lines]
        self.issuer = AcmeIssuer(Configuration.from_text("\n".join(text)).account, 20.0)
        self.sessions: list[FakeSession] = []
        self.meta: dict[str, object] = {}

    def session(self, url: str, key: AccountKey, loop: object, *, ca_file: Path | None) -> FakeSession:
        """Stand in for the session's class."""
        answers: dict[str, list[object]] = {
            NEW_ACCOUNT: [Said(VALID, {"Location": ACCOUNT})],
            ACCOUNT: [VALID],
            NEW_ORDER: [Said(order(), {"Location": ORDER})],
            AUTHORIZATION: [authorization(), authorization("valid")],
            CHALLENGE: [{}],
            FINALIZE: [order("valid")],
            CERTIFICATE: [CHAIN],
        }
        session = FakeSession(answers, **self.meta)
        session.kid = None
        self.sessions.append(session)
        return session


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    monkeypatch.setattr("acmems.issuers.acme.issuer.Session", desk.session)
    desk.issuer.create_key()
    yield desk
    desk.issuer.close()


class TestKey:
    def test_a_new_key(self, desk: Desk) -> None:
        """A key of the configured type is made once, and loaded."""
        assert (desk.issuer.key, desk.issuer.key_digest) == (None, None)
        with pytest.raises(AccountError, match="not loaded"):
            desk.issuer.client  # noqa: B018 - it raises
        key = desk.issuer.load_key()
        assert key.kind == "P-256"
        assert (desk.issuer.key, desk.issuer.key_digest) == (key, key.digest)
        with pytest.raises(AccountError, match="already"):
            desk.issuer.create_key()

    def test_a_lost_key(self, desk: Desk) -> None:
        """Beside a registration no new key is made."""
        desk.issuer.open()
        desk.issuer.directory.key_file.unlink()
        with pytest.raises(AccountError, match="restore"):
            desk.issuer.load_key()
        with pytest.raises(AccountError, match="never replaced silently"):
            desk.issuer.create_key()

    def test_the_same_key_again(self, desk: Desk) -> None:
        """A key that is loaded again keeps its session: open orders and nonces stay."""
        first = desk.issuer.load_key()
        assert desk.issuer.load_key() is first
        assert len(desk.sessions) == 1

    def test_another_key(self, desk: Desk) -> None:
        """Another key gets a session of its own, and what went on with the first one ends."""
        desk.issuer.load_key()
        desk.issuer.directory.save_key(AccountKey.generate("ec384"), force=True)
        assert desk.issuer.load_key().kind == "P-384"
        assert [session.is_closed for session in desk.sessions] == [True, False]
        assert desk.issuer.client.session is desk.sessions[1]

    def test_anchors_that_cannot_be_used(self, tmp_path: Path) -> None:
        """A `ca-file` that holds no certificates is the account's error."""
        (tmp_path / "anchors.pem").write_text("nothing")
        issuer = Desk(tmp_path, f"ca-file = {tmp_path}/anchors.pem").issuer
        issuer.create_key()
        with pytest.raises(AccountError, match=r"\[account\].*anchors\.pem"):
            issuer.load_key()
        issuer.close()


class TestAccount:
    def test_it_is_opened(self, desk: Desk) -> None:
        """The account is asked for, kept on disk, and known from then on."""
        assert desk.issuer.account_url is None
        account = desk.issuer.open()
        assert account == desk.issuer.account == desk.issuer.directory.load_registration()
        assert desk.issuer.account_url == ACCOUNT

    def test_what_the_ca_says_gets_its_meaning(self, desk: Desk) -> None:
        """A refusal that asks a person to act says so, also in the account's own conversations."""
        desk.issuer.load_key()
        desk.sessions[0].say(NEW_ACCOUNT, problem("userActionRequired", "new terms", terms=f"{CA}/terms-2"))
        with pytest.raises(NeedToAgreeToTOS, match="terms-2"):
            desk.issuer.open()
        assert desk.issuer.account is None

    def test_its_end(self, desk: Desk) -> None:
        """A deactivated account is known as such."""
        desk.issuer.open()
        desk.sessions[0].say(ACCOUNT, {"status": "deactivated"})
        assert desk.issuer.deactivate().status == "deactivated"
        assert desk.issuer.account is not None
        assert desk.issuer.account.status == "deactivated"


class TestOpened:
    """An account that is opened when the first order needs it."""

    def hold(self, desk: Desk) -> Signal:
        """Let the CA answer only when told to."""
        desk.issuer.load_key()
        signal = desk.sessions[0].held = Signal()
        return signal

    def test_once_for_all(self, desk: Desk) -> None:
        """However many wait for the account, it is opened once."""
        signal = self.hold(desk)
        waiting = [begin(desk.issuer.loop, desk.issuer.opened(SYSTEM.deadline(20))) for _ in range(50)]
        assert not any(each.done() for each in waiting)
        desk.issuer.loop.soon(signal.set)
        assert {id(each.result(PATIENCE)) for each in waiting} == {id(desk.issuer.client)}
        assert (desk.sessions[0].count(NEW_ACCOUNT), desk.sessions[0].count(ACCOUNT)) == (1, 1)
        desk.issuer.loop.run(desk.issuer.opened(SYSTEM.deadline(20)))
        assert desk.sessions[0].count(ACCOUNT) == 1

    def test_a_failure_is_everybodys(self, desk: Desk) -> None:
        """All who waited get the error, each one of its own; the next one tries again."""
        signal = self.hold(desk)
        desk.sessions[0].say(NEW_ACCOUNT, CAUnavailable("down", retry_after=7.0))
        waiting = [begin(desk.issuer.loop, desk.issuer.opened(SYSTEM.deadline(20))) for _ in range(5)]
        desk.issuer.loop.soon(signal.set)
        errors = [each.exception(PATIENCE) for each in waiting]
        assert [(type(error), str(error)) for error in errors] == [(CAUnavailable, "down")] * 5
        assert len({id(error) for error in errors}) == 5
        desk.sessions[0].say(NEW_ACCOUNT, Said(VALID, {"Location": ACCOUNT}))
        desk.issuer.loop.run(desk.issuer.opened(SYSTEM.deadline(20)))
        assert desk.issuer.account_url == ACCOUNT

    def test_who_has_no_time(self, desk: Desk) -> None:
        """Who waits for another's opening waits until its own deadline."""
        signal = self.hold(desk)
        first = begin(desk.issuer.loop, desk.issuer.opened(SYSTEM.deadline(20)))
        late = begin(desk.issuer.loop, desk.issuer.opened(SYSTEM.deadline(0.01)))
        assert isinstance(late.exception(PATIENCE), DeadlinePassed)
        assert not first.done()
        desk.issuer.loop.soon(signal.set)
        assert first.result(PATIENCE) is desk.issuer.client

    def test_without_a_key(self, desk: Desk) -> None:
        """A key that is not there is told to whoever needs it, and used as soon as it is."""
        pem = desk.issuer.directory.key_file.read_bytes()
        desk.issuer.directory.key_file.unlink()
        with pytest.raises(AccountError, match="does not exist"):
            desk.issuer.loop.run(desk.issuer.opened(SYSTEM.deadline(20)))
        desk.issuer.directory.key_file.write_bytes(pem)
        desk.issuer.directory.key_file.chmod(0o600)
        assert desk.issuer.loop.run(desk.issuer.opened(SYSTEM.deadline(20))).session is desk.sessions[0]


class TestObtain:
    def test_a_chain(self, desk: Desk) -> None:
        """The account is opened with the first order, and used for the next."""
        for number in (1, 2):
            deadline = SYSTEM.deadline(20)
            steps = desk.issuer.obtain(REQUEST, [FakeValidator("dns-01"), FakeValidator()], deadline, "key")
            assert desk.issuer.loop.run(steps) == CHAIN
            assert desk.sessions[0].count(NEW_ORDER) == number
        assert desk.sessions[0].count(NEW_ACCOUNT) == 1

    def test_many_validators_wait_at_once(self, desk: Desk) -> None:
        """As many proofs as a busy server has may wait for DNS, each in a thread."""
        together = Barrier(64)
        waiting = desk.issuer.loop.submit(
            gather(in_thread(lambda: together.wait(PATIENCE)) for _ in range(64))
        )
        assert sorted(waiting.result(PATIENCE)) == list(range(64))


class TestStop:
    def test_nothing_is_opened_any_more(self, desk: Desk) -> None:
        """After `stop` no account is opened, and sessions of keys that are loaded later are closed, too."""
        desk.issuer.stop()
        with pytest.raises(CAUnavailable, match="stopping"):
            desk.issuer.loop.run(desk.issuer.opened(SYSTEM.deadline(20)))
        desk.issuer.load_key()
        assert [session.is_closed for session in desk.sessions] == [True]

    @pytest.mark.parametrize("end", [AcmeIssuer.stop, AcmeIssuer.close])
    def test_who_waits_for_the_ca_hears_of_it(self, desk: Desk, end: Callable[[AcmeIssuer], None]) -> None:
        """An order that waits for the CA ends with an error, and what it presented is withdrawn."""
        desk.issuer.open()
        desk.sessions[0].say(AUTHORIZATION, authorization())
        validator = FakeValidator()
        steps = desk.issuer.obtain(REQUEST, [validator], SYSTEM.deadline(1000), "key")
        waiting = begin(desk.issuer.loop, steps)
        assert len(validator.presented) == 1
        end(desk.issuer)
        assert isinstance(waiting.exception(PATIENCE), CAUnavailable)
        assert validator.withdrawn == validator.presented

    def test_closing(self, desk: Desk) -> None:
        """After `close` the session is closed and the loop's thread is gone; once more changes nothing."""
        desk.issuer.open()
        desk.issuer.close()
        assert desk.sessions[0].is_closed
        assert not desk.issuer.loop.is_healthy()
        desk.issuer.close()
        with pytest.raises(RuntimeError, match="closed"):
            desk.issuer.refresh()
