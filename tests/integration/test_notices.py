"""A real server whose renewals fail at a real CA tells so by mail and webhook, and when it is over."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fault_proxy import FaultProxy
from tests.faults import NEW_ORDER
from tests.noticing import Hook, hook
from tests.peers import Settings, curl_sign, make_key_and_csr, wait_until
from tests.peers.mail import MailServer

from acmems.app import server as servers
from acmems.app.upkeep import notices as upkeep
from acmems.app.upkeep import renewals
from acmems.config import Configuration
from acmems.issuing.renewal import plan
from acmems.state.engines.contract import Database

MACHINES = 5
NOTICES = """
[notice "mail"]
type = mail
server = 127.0.0.1:{mail}
from = acmems@example.org
to = ops@example.org

[notice "hook"]
type = webhook
url = {hook}
secret = whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let minutes be parts of a second."""
    for module, name, seconds in (
        (renewals, "PLAN_SECONDS", 0.1),
        (renewals, "FIRST_SECONDS", 0.0),
        (upkeep, "TURN_SECONDS", 0.1),
        (upkeep, "FIRST_SECONDS", 0.0),
        (upkeep, "LOOK_SECONDS", 0.1),
    ):
        monkeypatch.setattr(module, name, seconds)
    # The CA is not asked when these are due: the tests say so.
    monkeypatch.setattr(plan, "FIRST_QUESTION", datetime.timedelta(days=1))


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with MailServer() as running:
        yield running


@pytest.fixture
def web() -> Iterator[Hook]:
    with hook() as running:
        yield running


@pytest.fixture
def settings(settings: Settings, proxy: FaultProxy, mail: MailServer, web: Hook) -> Settings:
    settings.storage = '[storage "state"]\ntype = sql\n' + NOTICES.format(mail=mail.port, hook=web.url)
    return proxy.before(settings)


class Site:
    """A server in this process, and machines that have asked it."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.csrs = []
        for number in range(MACHINES):
            (folder / f"machine{number}").mkdir()
            name = f"machine{number}.example.org"
            self.csrs.append(make_key_and_csr(folder / f"machine{number}", [name])[1])
        self.start()

    def start(self) -> None:
        self.server = servers.Server(Configuration.from_text(self.settings.text()))
        self.server.start()

    def stop(self) -> None:
        self.server.stop()

    def ask(self) -> None:
        for csr in self.csrs:
            reply = curl_sign(f"http://127.0.0.1:{self.settings.port}/sign", csr)
            assert reply.status == 200, reply.body

    @property
    def state(self) -> Database:
        found = self.server.state
        assert found is not None
        return found

    def plans(self, *, failed: bool = False) -> int:
        statement = f"SELECT count(*) FROM renewals WHERE failures >= {int(failed)}"  # noqa: S608 - a number
        return int(self.state.read(lambda transaction: transaction.execute(statement).fetchone()[0]))

    def be_due(self) -> None:
        """Let renewals have been due for as long as is left, which is more than a third of both."""
        wait_until(lambda: self.plans() == MACHINES, "all are planned")
        self.state.write(
            lambda transaction: (
                transaction.execute(
                    "UPDATE renewals SET due = 2 * acmems_now() - ends_at, next_try = acmems_now()"
                ).rowcount
            )
        ).result(20)

    def forget_pauses(self) -> None:
        """Let the next process try what this one would wait with."""
        self.state.write(lambda transaction: transaction.execute("DELETE FROM pauses").rowcount).result(20)

    def try_again(self) -> None:
        self.state.write(
            lambda transaction: transaction.execute("UPDATE renewals SET next_try = acmems_now()").rowcount
        ).result(20)


@pytest.fixture
def site(settings: Settings, tmp_path: Path) -> Iterator[Site]:
    made = Site(settings, tmp_path)
    yield made
    made.stop()


def test_from_the_failure_to_its_end(site: Site, proxy: FaultProxy, mail: MailServer, web: Hook) -> None:
    """All machines are one mail, which gives the CA's reason; another one says that it is over."""
    site.ask()
    proxy.when(path=NEW_ORDER).problem(403, "rejectedIdentifier", "we do not like this name")
    site.be_due()
    wait_until(lambda: len(mail.mails) == 1, "the mail has arrived")
    wait_until(lambda: len(web.posted) == 1, "the webhook was called")
    (first,) = mail.mails
    assert re.search("is not renewed, and ends in|are not renewed; the first ends in", first["Subject"])
    assert "we do not like this name" in first.get_content()
    document = json.loads(web.posted[0][2])
    assert (document["kind"], document["phase"], document["severity"]) == ("renewal", "begun", "warning")
    assert document["facts"]["directory"] == site.settings.directory_url

    wait_until(lambda: site.plans(failed=True) == MACHINES, "all have failed, and none is being tried")
    proxy.heal()
    site.forget_pauses()
    site.stop()
    site.start()
    site.try_again()
    wait_until(lambda: len(mail.mails) == 2, "it is told to be over")
    wait_until(lambda: len(web.posted) == 2, "there as well")
    assert "over: no renewal fails for this reason any more" in mail.mails[1]["Subject"]
    assert mail.mails[0]["References"] == mail.mails[1]["References"]
    assert json.loads(web.posted[1][2])["cause"] == document["cause"]


def test_a_mail_server_that_is_away(site: Site, proxy: FaultProxy, mail: MailServer, web: Hook) -> None:
    """The webhook is told at once; the mail comes after a restart, once the server takes it."""
    site.ask()
    mail.answer = "451 come back later"
    proxy.when(path=NEW_ORDER).problem(403, "rejectedIdentifier", "no")
    site.be_due()
    wait_until(lambda: len(web.posted) == 1, "the webhook was called")
    wait_until(lambda: bool(site.server.notices.counts.deliveries.get(("mail", "failed"))), "mail has failed")
    site.stop()
    mail.answer = "250 OK"
    site.start()
    site.state.write(
        lambda transaction: transaction.execute("UPDATE notices SET next_try = acmems_now()").rowcount
    ).result(20)
    wait_until(lambda: len(mail.mails) == 1, "the mail has arrived")
    assert mail.mails[0]["Message-ID"].strip("<>").partition("@")[0] == web.posted[0][1]["webhook-id"]
