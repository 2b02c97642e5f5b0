"""`acmems revoke`: a certificate is revoked at a real CA, and never delivered again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from tests.crash import CrashPoint
from tests.fault_proxy import FaultProxy
from tests.faults import REVOKE
from tests.peers import Acmems, Pebble, Settings, curl_sign, make_key_and_csr, run_acmems
from tests.peers.terminals import run_at_terminal

NAME = "www.example.org"
POINTS = [CrashPoint("revokeCert", REVOKE, is_answered) for is_answered in (False, True)]


def serial_of(chain: str | bytes) -> str:
    pem = chain if isinstance(chain, bytes) else chain.encode()
    return f"{x509.load_pem_x509_certificate(pem).serial_number:x}"


class Desk:
    """A server, a certificate, and what the CA says of it."""

    def __init__(self, settings: Settings, folder: Path, pebble: Pebble) -> None:
        self.settings = settings
        self.folder = folder
        self.pebble = pebble
        self.config = folder / "acmems.ini"
        self.config.write_text(settings.text())
        _, self.csr = make_key_and_csr(folder, [NAME])

    def revoke(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return run_acmems("revoke", "--yes", self.config, *arguments)

    def sign(self, acmems: Acmems) -> bytes:
        reply = curl_sign(acmems.sign_url, self.csr)
        assert reply.status == 200, reply.body
        return reply.body

    def status(self, chain: bytes) -> dict[str, object]:
        """Return what the CA says of a certificate."""
        serial = serial_of(chain)
        found: dict[str, object] = json.loads(self.pebble.management(f"/cert-status-by-serial/{serial}"))
        return found


@pytest.fixture
def desk(proxy: FaultProxy, settings: Settings, tmp_path: Path, pebble: Pebble) -> Desk:
    return Desk(proxy.before(settings), tmp_path, pebble)


@pytest.fixture
def acmems(desk: Desk) -> Iterator[Acmems]:
    with Acmems(desk.settings) as running:
        yield running


class TestRevoked:
    @pytest.mark.parametrize("by", ["name", "serial", "file"])
    def test_it_is_never_delivered_again(self, acmems: Acmems, desk: Desk, by: str) -> None:
        """Once revoked, by any of its names, a certificate is replaced at the next request."""
        chain = desk.sign(acmems)
        (desk.folder / "cert.pem").write_bytes(chain)
        named = {"name": NAME, "serial": serial_of(chain), "file": f"{desk.folder}/cert.pem"}[by]
        done = desk.revoke(named, "--reason", "superseded", "--json")
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        assert document["names"] == [NAME]
        assert document["serial"] == serial_of(chain)
        assert document["reason"] == "superseded"
        assert document["was_revoked_before"] is False
        assert (desk.status(chain)["Status"], desk.status(chain)["Reason"]) == ("Revoked", 4)
        new = desk.sign(acmems)
        assert serial_of(new) != serial_of(chain)
        assert desk.sign(acmems) == new
        acmems.restart()
        assert desk.sign(acmems) == new
        [line] = [line for line in acmems.log.splitlines() if "administered" in line]
        assert "act=revoke" in line
        assert NAME in line
        assert "reason=superseded" in line

    def test_a_storage_that_others_read(self, acmems: Acmems, desk: Desk) -> None:
        """Nobody finds the chain in the files of a storage any more."""
        chain = desk.sign(acmems)
        assert desk.revoke(NAME).returncode == 0
        storage = desk.settings.folder / "storage"
        assert not [path for path in storage.rglob("*.pem") if path.read_bytes() == chain]
        assert len([path for path in storage.rglob("*.pem.revoked") if path.read_bytes() == chain]) == 2

    def test_a_server_without_storage(self, desk: Desk) -> None:
        """A chain that is in memory only is forgotten."""
        desk.settings.storage = ""
        with Acmems(desk.settings) as acmems:
            chain = desk.sign(acmems)
            assert desk.sign(acmems) == chain
            assert desk.revoke(NAME).returncode == 0
            assert serial_of(desk.sign(acmems)) != serial_of(chain)

    def test_without_a_server(self, desk: Desk) -> None:
        """Where no server runs the command revokes, and the next server does not deliver."""
        with Acmems(desk.settings) as acmems:
            chain = desk.sign(acmems)
        done = desk.revoke(NAME)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"the certificate {serial_of(chain)} of {NAME} is revoked\n"
        assert "Reason" not in desk.status(chain) or desk.status(chain)["Reason"] in {0, None}
        assert desk.status(chain)["Status"] == "Revoked"
        with Acmems(desk.settings) as acmems:
            assert serial_of(desk.sign(acmems)) != serial_of(chain)

    def test_a_compromised_key(self, acmems: Acmems, desk: Desk) -> None:
        """A key that was compromised gets no certificate any more, also after a restart; others do."""
        desk.sign(acmems)
        assert desk.revoke(NAME, "--reason", "keyCompromise").returncode == 0
        for _ in range(2):
            reply = curl_sign(acmems.sign_url, desk.csr)
            assert reply.status == 415
            assert b"reported as compromised: make a new key" in reply.body
            acmems.restart()
        folder = desk.folder / "new"
        folder.mkdir()
        _, csr = make_key_and_csr(folder, [NAME])
        assert curl_sign(acmems.sign_url, csr).status == 200

    def test_twice(self, acmems: Acmems, desk: Desk) -> None:
        """What is revoked already is told as done."""
        chain = desk.sign(acmems)
        assert desk.revoke(NAME).returncode == 0
        again = desk.revoke(serial_of(chain), "--json")
        assert again.returncode == 0
        assert json.loads(again.stdout)["was_revoked_before"] is True

    def test_a_certificate_that_was_replaced(self, acmems: Acmems, desk: Desk) -> None:
        """An older certificate is meant by its serial number, and the one that is delivered stays."""
        old = desk.sign(acmems)
        assert desk.revoke(NAME).returncode == 0
        new = desk.sign(acmems)
        assert json.loads(desk.revoke(serial_of(old), "--json").stdout)["serial"] == serial_of(old)
        assert desk.sign(acmems) == new
        assert desk.status(new)["Status"] == "Valid"


class TestRefused:
    def test_nobody_knows_it(self, acmems: Acmems, desk: Desk) -> None:
        """A name without a certificate is an error in words."""
        done = desk.revoke("nowhere.example.org")
        assert done.returncode == 1
        assert "there is no certificate to revoke for 'nowhere.example.org'" in done.stderr

    def test_several_have_the_name(self, acmems: Acmems, desk: Desk) -> None:
        """Of several, the serial numbers are listed, and nothing is done."""
        chains = [desk.sign(acmems)]
        folder = desk.folder / "other"
        folder.mkdir()
        _, desk.csr = make_key_and_csr(folder, [NAME, "more.example.org"])
        chains.append(desk.sign(acmems))
        done = desk.revoke(NAME)
        assert done.returncode == 1
        assert all(serial_of(chain) in done.stderr for chain in chains)
        assert all(desk.status(chain)["Status"] == "Valid" for chain in chains)

    def test_the_ca_refuses(self, acmems: Acmems, desk: Desk, proxy: FaultProxy) -> None:
        """A refusal of the CA is told in words with the serial number; the chain is not delivered."""
        chain = desk.sign(acmems)
        proxy.when(path=REVOKE).problem(403, "unauthorized", "not yours")
        done = desk.revoke(NAME)
        assert done.returncode == 1
        assert "not yours" in done.stderr
        assert serial_of(chain) in done.stderr
        assert serial_of(desk.sign(acmems)) != serial_of(chain)
        proxy.heal()
        assert desk.revoke(serial_of(chain)).returncode == 0
        assert desk.status(chain)["Status"] == "Revoked"

    @pytest.mark.parametrize("content", [b"", b"no certificate", b"\xff"], ids=["empty", "text", "bytes"])
    def test_a_file_that_is_none(self, desk: Desk, content: bytes) -> None:
        """A file without a certificate is an error in words."""
        with Acmems(desk.settings):
            (desk.folder / "cert.pem").write_bytes(content)
            done = desk.revoke(f"{desk.folder}/cert.pem")
        assert done.returncode == 1
        assert "no certificate in PEM" in done.stderr

    def test_a_file_that_is_not_there(self, desk: Desk) -> None:
        """A file that does not exist is named."""
        done = desk.revoke("./nothing.pem")
        assert (done.returncode, done.stderr) == (1, "acmems: ./nothing.pem: No such file or directory\n")


class TestQuestion:
    def test_yes_and_no(self, acmems: Acmems, desk: Desk) -> None:
        """Only yes revokes."""
        chain = desk.sign(acmems)
        refused = run_at_terminal(b"y\n", "revoke", desk.config, NAME)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.endswith("acmems: nothing was changed\n")
        assert desk.status(chain)["Status"] == "Valid"
        done = run_at_terminal(b"yes\n", "revoke", desk.config, NAME)
        assert done.returncode == 0
        assert f"Revoke the certificate of {NAME}? This cannot be undone. Type 'yes': " in done.stderr
        assert desk.status(chain)["Status"] == "Revoked"

    def test_no_terminal(self, desk: Desk) -> None:
        """Without a terminal nobody can answer: exit code 2."""
        done = run_acmems("revoke", desk.config, NAME)
        assert (done.returncode, done.stdout) == (2, "")
        assert "--yes" in done.stderr


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_a_kill(acmems: Acmems, desk: Desk, proxy: FaultProxy, point: CrashPoint) -> None:
    """Killed before or after the CA has revoked it, the certificate is never delivered again."""
    chain = desk.sign(acmems)
    process = acmems.process

    def kill() -> None:
        process.kill()
        process.wait()

    rule = proxy.when(path=REVOKE, nth=1)
    (rule.call_after if point.is_answered else rule.call_before)(kill)
    assert desk.revoke(NAME).returncode == 1
    proxy.heal()
    acmems.restart()
    assert serial_of(desk.sign(acmems)) != serial_of(chain)
    again = desk.revoke(serial_of(chain), "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["was_revoked_before"] is point.is_answered
    assert desk.status(chain)["Status"] == "Revoked"


def test_a_state_that_was_lost(desk: Desk) -> None:
    """A storage does not deliver a revoked chain even where the state that knows it is gone."""
    with Acmems(desk.settings) as acmems:
        chain = desk.sign(acmems)
        assert desk.revoke(NAME).returncode == 0
    for path in (desk.settings.folder / "account").glob("state.sqlite*"):
        path.unlink()
    with Acmems(desk.settings) as acmems:
        assert serial_of(desk.sign(acmems)) != serial_of(chain)
