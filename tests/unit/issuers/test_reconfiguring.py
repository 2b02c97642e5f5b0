"""An account whose options change while it is used."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.fake_ca import ACCOUNT, CA, NEW_ACCOUNT, FakeSession, Said
from tests.issuing import wait_for
from tests.peers import wait_until

from acmems.config import Configuration
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuers.acme.options import AccountOptions
from acmems.issuers.acme.prechecks.options import NO_PRE_CHECKS
from acmems.issuers.acme.session import Response
from acmems.system.steps import Steps, in_thread

VALID = {"status": "valid"}


class Session(FakeSession):
    """A session that answers when it may.

    Attributes:
        contacts: those that the CA was told of.
    """

    def __init__(self) -> None:
        super().__init__({NEW_ACCOUNT: [Said(VALID, {"Location": ACCOUNT})], ACCOUNT: [VALID]})
        self.kid = None
        self.go_on = threading.Event()
        self.go_on.set()
        self.asked = 0
        self.contacts: list[list[str]] = []

    def close(self) -> None:
        self.go_on.set()

    def post(self, url: str, payload: Mapping[str, Any] | None, **options: Any) -> Steps[Response]:
        self.asked += 1
        if payload and "contact" in payload:
            self.contacts.append(payload["contact"])
        yield from in_thread(lambda: wait_for(self.go_on))
        return (yield from super().post(url, payload, **options))


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Session:
    """What speaks to the CA."""
    made = Session()
    monkeypatch.setattr("acmems.issuers.acme.clients.client.Session", lambda *_, **__: made)
    return made


def options(folder: Path, *lines: str) -> AccountOptions:
    usual = ["[account]", f"acme-server = {CA}/directory", "accept-terms-of-service = yes", f"dir = {folder}"]
    return Configuration.from_text("\n".join([*usual, *lines])).account


@pytest.fixture
def issuer(session: Session, tmp_path: Path) -> Iterator[AcmeIssuer]:
    """An issuer whose account is open."""
    made = AcmeIssuer(options(tmp_path), 30.0)
    made.create_key()
    made.open()
    yield made
    made.close()


@pytest.mark.parametrize("lines", [(), ("subject = names",), ("pre-check = none",)])
def test_what_does_not_concern_the_ca(
    session: Session, issuer: AcmeIssuer, tmp_path: Path, lines: tuple[str, ...]
) -> None:
    """Where nothing has changed between this server and the CA, the CA is not asked."""
    asked = session.asked
    issuer.reconfigure(options(tmp_path, *lines), 10.0)
    issuer.ensure_opened()
    assert session.asked == asked
    assert issuer.client.proving.exchange_seconds == issuer.client.ordering.exchange_seconds == 10.0


def test_what_is_looked_up_before_orders(issuer: AcmeIssuer, tmp_path: Path) -> None:
    """What is not wanted any more is not looked up before the next order."""
    assert issuer.client.prechecks.options.caa
    issuer.reconfigure(options(tmp_path, "pre-check = none"), 30.0)
    assert issuer.client.prechecks.options == NO_PRE_CHECKS


def test_contacts_change(session: Session, issuer: AcmeIssuer, tmp_path: Path) -> None:
    """The CA is told of other contacts the next time that the account is needed."""
    issuer.reconfigure(options(tmp_path, "email = new@example.org"), 30.0)
    assert issuer.account is None
    issuer.ensure_opened()
    assert session.contacts[-1] == ["mailto:new@example.org"]
    assert issuer.account_url == ACCOUNT


def test_a_change_while_the_ca_is_asked(session: Session, issuer: AcmeIssuer, tmp_path: Path) -> None:
    """What the CA says about the account as it was is not taken for what it is to be."""
    session.go_on.clear()
    issuer.reconfigure(options(tmp_path, "email = first@example.org"), 30.0)
    asked = session.asked
    opening = threading.Thread(target=issuer.ensure_opened)
    opening.start()
    wait_until(lambda: session.asked > asked, "the CA is asked")
    issuer.reconfigure(options(tmp_path, "email = second@example.org"), 30.0)
    session.go_on.set()
    opening.join(30)
    assert not opening.is_alive()
    assert session.contacts[-1] == ["mailto:second@example.org"]
    assert issuer.account_url == ACCOUNT
