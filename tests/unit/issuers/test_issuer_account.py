"""Errors of an order that are the account's: told apart by the account itself, never by a word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fake_ca import (
    ACCOUNT,
    AUTHORIZATION,
    CA,
    FINALIZE,
    NAME,
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
from acmems.exceptions import (
    AccountError,
    AcmeException,
    CAProblem,
    CAUnavailable,
    ChallengeFailed,
    PayloadInvalid,
)
from acmems.issuers.acme.issuer import AcmeIssuer

VALID = {"status": "valid"}
ENDED = {"status": "deactivated"}


class Desk:
    """An issuer whose account is known, at a CA that is a table."""

    def __init__(self, folder: Path, session: FakeSession) -> None:
        text = f"[account]\nacme-server = {CA}/directory\naccept-terms-of-service = yes\ndir = {folder}"
        self.session = session
        self.issuer = AcmeIssuer(Configuration.from_text(text).account, 30.0)
        self.issuer.create_key()
        self.issuer.open()
        session.posts.clear()

    def error(self) -> AcmeException:
        """Ask for a certificate, and return the error."""
        issuer = self.issuer
        steps = issuer.obtain(make_request(), [FakeValidator()], issuer.clock.deadline(30), "identity")
        with pytest.raises(AcmeException) as raised:
            issuer.run(steps)
        return raised.value


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """An issuer before a CA that has made an order."""
    session = FakeSession(
        {
            NEW_ACCOUNT: [Said(VALID, {"Location": ACCOUNT})],
            ACCOUNT: [VALID],
            NEW_ORDER: [Said(order("ready"), {"Location": ORDER})],
            AUTHORIZATION: [authorization("valid")],
        }
    )
    monkeypatch.setattr("acmems.issuers.acme.clients.client.Session", lambda *_, **__: session)
    made = Desk(tmp_path, session)
    yield made
    made.issuer.close()


WITHOUT_ACCOUNT = {NEW_ORDER: ChallengeFailed, FINALIZE: PayloadInvalid, ORDER: PayloadInvalid}
"""What `unauthorized` means where the account is not what the CA means; `ORDER`: in one that it ends."""


def refuse(desk: Desk, url: str, words: str) -> None:
    """Let the CA say `unauthorized`, and name no identifier."""
    if url == ORDER:
        error = {"type": CAProblem.PREFIX + "unauthorized", "detail": words}
        desk.session.say(FINALIZE, order("invalid", error=error))
    else:
        desk.session.say(url, problem("unauthorized", words))


@pytest.mark.parametrize("url", WITHOUT_ACCOUNT)
@pytest.mark.parametrize("words", ["no", "account is not valid"])
class TestUnauthorized:
    """An `unauthorized` that names no identifier."""

    @pytest.mark.parametrize("answer", [ENDED, problem("unauthorized", "no", 403)], ids=["said", "refused"])
    def test_an_account_that_has_ended(self, desk: Desk, url: str, words: str, answer: object) -> None:
        """Where the account has ended, it is the account's, whatever the words."""
        refuse(desk, url, words)
        desk.session.say(ACCOUNT, answer)
        desk.session.say(NEW_ACCOUNT, problem("unauthorized", "no", 403))
        error = desk.error()
        assert isinstance(error, AccountError)
        assert "to begin a new one" in str(error)

    def test_an_account_in_use(self, desk: Desk, url: str, words: str) -> None:
        """Where the account is valid, it is the name's, or the CSR's at the end, whatever the words."""
        refuse(desk, url, words)
        error = desk.error()
        assert isinstance(error, WITHOUT_ACCOUNT[url])
        assert words in str(error)
        assert desk.session.count(ACCOUNT) == 1

    def test_an_account_that_cannot_be_asked_for(self, desk: Desk, url: str, words: str) -> None:
        """Where the CA says nothing about the account, its words are passed on."""
        refuse(desk, url, words)
        desk.session.say(ACCOUNT, CAUnavailable("down"))
        assert isinstance(desk.error(), WITHOUT_ACCOUNT[url])


def test_a_named_identifier(desk: Desk) -> None:
    """Where the CA says which name it means, the account is not asked for."""
    kind = CAProblem.PREFIX + "unauthorized"
    desk.session.say(NEW_ORDER, problem("unauthorized", "no", subproblems=[(NAME, kind, "not yours")]))
    error = desk.error()
    assert isinstance(error, ChallengeFailed)
    assert (error.domain, error.message) == (NAME, "not yours")
    assert desk.session.count(ACCOUNT) == 0


def test_a_key_of_the_wrong_kind(desk: Desk) -> None:
    """A CA that no longer takes the kind of the key says which it takes; the error says what to do."""
    desk.session.say(NEW_ORDER, problem("badSignatureAlgorithm", "too old", 400, algorithms=["RS256"]))
    error = desk.error()
    assert isinstance(error, AccountError)
    assert "it lists RS256: set 'key-type' in [account] to rsa2048 or rsa3072 or rsa4096" in str(error)
    assert str(desk.issuer.directory.key_file) in str(error)
