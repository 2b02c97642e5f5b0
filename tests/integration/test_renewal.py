"""A real server renews by the word of a real CA (RFC 9773), for clients that know nothing of it."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from tests.fault_proxy import FaultProxy
from tests.faults import NEW_ORDER
from tests.peers import Pebble, Postgres, Settings, curl_sign, make_key_and_csr, wait_until
from tests.sharing import ENGINES

from acmems.app import server as servers
from acmems.app.upkeep import renewals
from acmems.config import Configuration
from acmems.issuers.acme.certificates.renewal_info import certificate_id
from acmems.issuing.renewal import due, plan

WHY = "https://ca.example/incident"
MACHINES = 12
SHORT = datetime.timedelta(milliseconds=200)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let minutes be parts of a second."""
    monkeypatch.setattr(renewals, "PLAN_SECONDS", 0.1)
    monkeypatch.setattr(renewals, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(plan, "FIRST_QUESTION", SHORT)
    monkeypatch.setattr(plan, "FIRST_PAUSE", SHORT)
    monkeypatch.setattr(due, "LEAST_ASKING", SHORT.total_seconds())
    monkeypatch.setattr(due, "MOST_ASKING", SHORT.total_seconds())


@pytest.fixture
def settings(settings: Settings, proxy: FaultProxy, request: pytest.FixtureRequest) -> Settings:
    """A configuration whose chains are in the state, in SQLite unless a test says so, and whose CA counts."""
    if getattr(request, "param", "sqlite") == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        settings.account += f"\n[state]\nurl = {server.url_of(server.make_database())}\n"
    settings.storage = '[storage "state"]\ntype = sql\nrenew = ahead\n'
    return proxy.before(settings)


class Site:
    """A server in this process, and machines that ask it."""

    def __init__(self, settings: Settings, server: servers.Server) -> None:
        self.server = server
        self.url = f"http://127.0.0.1:{settings.port}/sign"

    def ask(self, csr: Path) -> bytes:
        answer = curl_sign(self.url, csr)
        assert answer.status == 200, answer.body
        return answer.body

    def rows(self, statement: str) -> list[Any]:
        state = self.server.state
        assert state is not None
        return state.read(lambda transaction: transaction.execute(statement).fetchall())

    def has_plan(self, column: str) -> bool:
        return bool(self.rows(f"SELECT 1 FROM renewals WHERE {column} IS NOT NULL"))  # noqa: S608 - a column

    def chains(self) -> int:
        return int(self.rows("SELECT count(*) FROM chains")[0][0])

    def are_asked_about(self, count: int) -> bool:
        return int(self.rows("SELECT count(*) FROM renewals WHERE starts IS NOT NULL")[0][0]) == count


@pytest.fixture
def site(settings: Settings) -> Iterator[Site]:
    server = servers.Server(Configuration.from_text(settings.text()))
    server.start()
    yield Site(settings, server)
    server.stop()


def csrs_of(folder: Path, count: int) -> list[Path]:
    made = []
    for number in range(count):
        (folder / f"machine{number}").mkdir()
        name = f"machine{number}.example.org"
        made.append(make_key_and_csr(folder / f"machine{number}", [name])[1])
    return made


def revoke(pebble: Pebble, chain: bytes) -> None:
    """Have the CA move a window into the past, as before a mass revocation."""
    now = datetime.datetime.now(datetime.UTC)
    window = {
        "start": (now - datetime.timedelta(days=2)).isoformat(),
        "end": (now - datetime.timedelta(days=1)).isoformat(),
    }
    answer = json.dumps({"suggestedWindow": window, "explanationURL": WHY})
    leaf = re.search(b"-----BEGIN.*?-----END CERTIFICATE-----\n", chain, re.DOTALL)
    assert leaf
    document = json.dumps({"certificate": leaf[0].decode(), "ariResponse": answer})
    pebble.management("/set-renewal-info/", document.encode())


def serial(chain: bytes) -> int:
    return x509.load_pem_x509_certificate(chain).serial_number


def replaced(proxy: FaultProxy) -> list[str]:
    """Return what new orders have named as their predecessors."""
    orders = [each.payload for each in proxy.seen if re.search(NEW_ORDER, each.path)]
    return [each["replaces"] for each in orders if "replaces" in each]


@pytest.mark.parametrize("settings", ENGINES, indirect=True)
def test_a_mass_revocation(
    site: Site, pebble: Pebble, proxy: FaultProxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All that the CA wants renewed is renewed before clients ask, each in the place of its predecessor."""
    csrs = csrs_of(tmp_path, MACHINES)
    before = [site.ask(csr) for csr in csrs]
    wait_until(lambda: site.are_asked_about(MACHINES), "the CA was asked about each")
    assert site.chains() == MACHINES, "nothing was renewed too early"
    for chain in before[1:]:
        revoke(pebble, chain)
    # Pebble 2.10 now and then fails at a predecessor, so that an order is placed without it.
    wait_until(lambda: site.chains() == 2 * MACHINES - 1, "all are renewed")
    after = [site.ask(csr) for csr in csrs]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True] + [False] * (MACHINES - 1)
    assert set(replaced(proxy)) == {str(certificate_id(each)) for each in before[1:]}
    assert site.chains() == 2 * MACHINES - 1, "each is renewed once"
    assert any(WHY in each for each in caplog.messages)


@pytest.mark.parametrize(
    "storage", ["type = sql\nrenew = asked", "type = file\ndirectory = {folder}/storage"], ids=["sql", "file"]
)
class TestAsked:
    @pytest.fixture
    def settings(self, settings: Settings, storage: str) -> Settings:
        settings.storage = f'[storage "state"]\n{storage}\n'
        return settings

    def test_a_mass_revocation(self, site: Site, pebble: Pebble, proxy: FaultProxy, tmp_path: Path) -> None:
        """Where nothing is renewed ahead, the next request of the client gets the new one."""
        (csr,) = csrs_of(tmp_path, 1)
        before = site.ask(csr)
        wait_until(lambda: site.are_asked_about(1), "the CA was asked")
        assert site.ask(csr) == before
        revoke(pebble, before)
        wait_until(lambda: site.has_plan("explanation"), "it has told")
        wait_until(lambda: site.has_plan("reason"), "it was due")
        assert proxy.count(path=NEW_ORDER) == 1
        assert site.ask(csr) != before
        assert replaced(proxy) == [certificate_id(before)]


def test_a_predecessor_that_was_replaced_already(
    site: Site, pebble: Pebble, proxy: FaultProxy, tmp_path: Path
) -> None:
    """The order is placed once more without it, and the certificate is renewed."""
    (csr,) = csrs_of(tmp_path, 1)
    before = site.ask(csr)
    wait_until(lambda: site.are_asked_about(1), "the CA was asked")
    proxy.when(path=NEW_ORDER, nth=1).problem(409, "alreadyReplaced")
    revoke(pebble, before)
    wait_until(lambda: site.chains() == 2, "it is renewed")
    assert proxy.count(path=NEW_ORDER) == 3
    assert replaced(proxy) == [certificate_id(before)]
