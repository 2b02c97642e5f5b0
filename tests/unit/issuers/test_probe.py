"""Whether the CA is there, as those who watch over the server ask it."""

from __future__ import annotations

import datetime
import email.utils
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fake_ca import (
    ACCOUNT,
    AUTHORIZATION,
    CA,
    CERTIFICATE,
    CHAIN,
    DIRECTORY,
    FINALIZE,
    NEW_ACCOUNT,
    NEW_ORDER,
    ORDER,
    FakeSession,
    FakeValidator,
    Said,
    authorization,
    make_request,
    problem,
)
from tests.fake_ca import order as an_order

from acmems.config import Configuration
from acmems.exceptions import AccountError, AcmeException, CAUnavailable
from acmems.issuers.acme.issuer import AcmeIssuer

VALID = {"status": "valid"}


class Asked:
    """An issuer, and the session by which it asks."""

    def __init__(self, issuer: AcmeIssuer, session: FakeSession) -> None:
        self.issuer = issuer
        self.session = session


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    """An issuer that has a key, and a CA that works and knows its account."""
    session = FakeSession(
        {
            NEW_ACCOUNT: [Said(VALID, {"Location": ACCOUNT})],
            ACCOUNT: [VALID],
            AUTHORIZATION: [authorization("valid")],
            FINALIZE: [an_order("valid")],
            CERTIFICATE: [CHAIN],
        }
    )
    session.kid = None
    monkeypatch.setattr("acmems.issuers.acme.clients.client.Session", lambda *_, **__: session)
    lines = ("[account]", f"acme-server = {DIRECTORY}", "accept-terms-of-service = yes", f"dir = {tmp_path}")
    made = AcmeIssuer(Configuration.from_text("\n".join(lines)).account, 30.0)
    made.create_key()
    made.load_key()
    yield Asked(made, session)
    made.close()


def test_a_ca_that_answers(asked: Asked) -> None:
    """It is there, its clock is known, and so is the account, which is asked for once."""
    now = datetime.datetime.now(datetime.UTC)
    asked.session.say(DIRECTORY, Said({}, {"Date": email.utils.format_datetime(now, usegmt=True)}))
    assert asked.issuer.clock_ahead is None
    assert [asked.issuer.probe(30.0) for _ in range(2)] == [True, True]
    assert asked.issuer.account_url == ACCOUNT
    assert asked.session.count(NEW_ACCOUNT) == 1
    assert asked.issuer.clock_ahead is not None
    assert abs(asked.issuer.clock_ahead) < datetime.timedelta(minutes=1)


def test_a_ca_that_does_not(asked: Asked) -> None:
    """It is not there, and the account is not asked for."""
    asked.session.say(DIRECTORY, CAUnavailable("down"))
    assert not asked.issuer.probe(30.0)
    assert asked.session.posts == []
    assert asked.issuer.account is None


def test_an_account_that_is_refused(asked: Asked, caplog: pytest.LogCaptureFixture) -> None:
    """The CA is there, though it refuses the account; the log says why."""
    asked.session.say(NEW_ACCOUNT, problem("rejectedIdentifier", "no more accounts"))
    assert asked.issuer.probe(30.0)
    assert asked.issuer.account is None
    assert any("no more accounts" in line for line in caplog.messages)


def test_an_account_that_has_ended(asked: Asked) -> None:
    """An order that fails because of the account makes it unknown, until the CA confirms it again."""
    asked.issuer.open()
    known = [asked.issuer.is_account_known]
    asked.session.say(NEW_ORDER, problem("unauthorized", "no"))
    asked.session.say(ACCOUNT, {"status": "deactivated"})
    with pytest.raises(AccountError):
        order(asked.issuer)
    known.append(asked.issuer.is_account_known)
    assert asked.issuer.probe(30.0)
    known.append(asked.issuer.is_account_known)
    asked.session.say(ACCOUNT, VALID)
    assert asked.issuer.probe(30.0)
    known.append(asked.issuer.is_account_known)
    assert known == [True, False, False, True]


def test_an_order_confirms_the_account(asked: Asked) -> None:
    """New terms make the account unknown, and the next order that is successful shows that all is well."""
    asked.issuer.open()
    asked.session.say(NEW_ORDER, problem("userActionRequired", "new terms"))
    with pytest.raises(AccountError):
        order(asked.issuer)
    assert not asked.issuer.is_account_known
    asked.session.say(NEW_ORDER, Said(an_order(), {"Location": ORDER}))
    assert order(asked.issuer) == CHAIN
    assert asked.issuer.is_account_known


def test_a_name_that_is_refused(asked: Asked) -> None:
    """Another failure of an order says nothing of the account."""
    asked.issuer.open()
    asked.session.say(NEW_ORDER, problem("rejectedIdentifier", "not this one"))
    with pytest.raises(AcmeException):
        order(asked.issuer)
    assert asked.issuer.is_account_known


def order(issuer: AcmeIssuer) -> bytes:
    deadline = issuer.clock.deadline(30)
    return issuer.run(issuer.obtain(make_request(), [FakeValidator()], deadline, "identity")).pem


def test_without_a_key(tmp_path: Path) -> None:
    """Nobody can be asked before there is a key; that is no error."""
    lines = ("[account]", f"acme-server = {CA}/directory", f"dir = {tmp_path}")
    issuer = AcmeIssuer(Configuration.from_text("\n".join(lines)).account, 30.0)
    assert not issuer.probe(30.0)
    assert issuer.clock_ahead is None
    issuer.close()


def test_after_the_end(asked: Asked) -> None:
    """A question after the server has stopped is answered with no."""
    asked.issuer.close()
    assert not asked.issuer.probe(30.0)
