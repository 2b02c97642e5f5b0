"""`acmems renew`: a certificate is ordered anew although one is stored, by today's policy."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from tests.fault_proxy import FaultProxy
from tests.faults import CERTIFICATE, NEW_ORDER
from tests.peers import (
    Acmems,
    Pebble,
    Settings,
    curl_sign,
    make_key_and_csr,
    run_acmems,
    verify_chain,
)
from tests.peers.process import wait_until

NAME = "www.example.org"
BLOCK = """
[auth "web"]
all = yes
domain = {domain}
"""


def serial_of(chain: bytes) -> str:
    return f"{x509.load_pem_x509_certificate(chain).serial_number:x}"


class Desk:
    """A server and a certificate that it keeps."""

    def __init__(self, settings: Settings, folder: Path, pebble: Pebble) -> None:
        self.settings = settings
        self.pebble = pebble
        self.config = folder / "acmems.ini"
        self.grant("*.example.org")
        _, self.csr = make_key_and_csr(folder, [NAME])

    def grant(self, domain: str) -> None:
        self.settings.auth = BLOCK.format(domain=domain)
        self.config.write_text(self.settings.text())

    def renew(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return run_acmems("renew", self.config, *(arguments or (NAME,)))

    def sign(self, acmems: Acmems) -> bytes:
        reply = curl_sign(acmems.sign_url, self.csr)
        assert reply.status == 200, reply.body
        verify_chain(reply.body, self.pebble.root_pem())
        return reply.body


@pytest.fixture
def desk(proxy: FaultProxy, settings: Settings, tmp_path: Path, pebble: Pebble) -> Desk:
    return Desk(proxy.before(settings), tmp_path, pebble)


@pytest.fixture
def acmems(desk: Desk) -> Iterator[Acmems]:
    with Acmems(desk.settings) as running:
        yield running


class TestRunningServer:
    def test_a_new_one_takes_the_place(self, acmems: Acmems, desk: Desk) -> None:
        """The stored certificate is replaced though it is fresh, and the client gets the new one."""
        old = desk.sign(acmems)
        assert desk.sign(acmems) == old
        done = desk.renew(NAME, "--json")
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        assert document["names"] == [NAME]
        assert document["replaces"]["serial"] == serial_of(old)
        assert document["is_ordered"] is True
        new = desk.sign(acmems)
        assert serial_of(new) == document["serial"] != serial_of(old)
        [line] = [line for line in acmems.log.splitlines() if "administered" in line]
        assert "act=renew" in line

    def test_a_dry_run(self, acmems: Acmems, desk: Desk, proxy: FaultProxy) -> None:
        """It says what would be ordered and how it would be proved, and orders nothing."""
        old = desk.sign(acmems)
        placed = proxy.count(path=NEW_ORDER)
        done = desk.renew(NAME, "--dry-run", "--json")
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        assert document["is_ordered"] is False
        assert (document["block"], document["orders"]) == ("web", 1)
        assert document["verifications"] == {NAME: ["http"]}
        assert proxy.count(path=NEW_ORDER) == placed
        assert desk.sign(acmems) == old
        lines = desk.renew(NAME, "--dry-run").stdout.splitlines()
        assert any(line.split() == ["orders", "1,", "not", "placed"] for line in lines)

    def test_policy_of_today(self, acmems: Acmems, desk: Desk) -> None:
        """What the block does not grant any more is not ordered."""
        desk.sign(acmems)
        desk.grant("*.example.net")
        acmems.reload(desk.settings)
        done = desk.renew()
        assert done.returncode == 1
        assert f"[auth 'web'] does not grant {NAME} any more" in done.stderr
        desk.settings.auth = BLOCK.format(domain="**").replace("web", "other")
        acmems.reload(desk.settings)
        assert "there is no [auth 'web'] any more" in desk.renew().stderr

    def test_nobody_knows_it(self, acmems: Acmems, desk: Desk) -> None:
        """A name without a certificate is an error in words."""
        done = desk.renew("nowhere.example.org")
        assert done.returncode == 1
        assert "there is no certificate to renew" in done.stderr

    def test_a_ca_that_fails(self, acmems: Acmems, desk: Desk, proxy: FaultProxy) -> None:
        """The error is told though a chain is stored, and that goes on to be delivered."""
        old = desk.sign(acmems)
        proxy.when(path=NEW_ORDER).problem(403, "rejectedIdentifier", "not this one")
        done = desk.renew()
        assert done.returncode == 1
        assert "not this one" in done.stderr
        assert desk.sign(acmems) == old

    def test_a_kill(self, acmems: Acmems, desk: Desk, proxy: FaultProxy) -> None:
        """Killed when the CA has issued, the next start gets the certificate without another order."""
        old = desk.sign(acmems)
        process = acmems.process

        def kill() -> None:
            process.kill()
            process.wait()

        proxy.when(path=CERTIFICATE, nth=1).call_before(kill)
        assert desk.renew().returncode == 1
        proxy.heal()
        placed = proxy.count(path=NEW_ORDER)
        acmems.restart()
        wait_until(lambda: desk.sign(acmems) != old, "the new one is there")
        assert proxy.count(path=NEW_ORDER) == placed


class TestCommandAlone:
    def test_it_orders_itself(self, desk: Desk) -> None:
        """Where no server runs the command proves the names and stores the chain."""
        with Acmems(desk.settings) as acmems:
            old = desk.sign(acmems)
        done = desk.renew()
        assert done.returncode == 0, done.stderr
        with Acmems(desk.settings) as acmems:
            new = desk.sign(acmems)
        assert serial_of(new) != serial_of(old)
        assert serial_of(new) in done.stdout

    def test_a_dry_run(self, desk: Desk, proxy: FaultProxy) -> None:
        """It orders nothing, and needs no addresses."""
        with Acmems(desk.settings) as acmems:
            desk.sign(acmems)
        placed = proxy.count(path=NEW_ORDER)
        assert desk.renew(NAME, "--dry-run").returncode == 0
        assert proxy.count(path=NEW_ORDER) == placed
