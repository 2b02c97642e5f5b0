"""`acmems account rotate-key`: another key for the account, with a working one at every moment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.crash import CrashPoint
from tests.fault_proxy import FaultProxy
from tests.faults import DIRECTORY, FINALIZE, KEY_CHANGE, NEW_ACCOUNT, NEW_ORDER
from tests.peers import (
    Acmems,
    Pebble,
    Settings,
    curl_sign,
    environment,
    make_key_and_csr,
    run_acmems,
    verify_chain,
)
from tests.peers.process import PeerFailed, wait_until

from acmems.issuers.acme.account import AccountDirectory

POINTS = [CrashPoint("keyChange", after, KEY_CHANGE) for after in (False, True)]


class Desk:
    """An account at a real CA behind a proxy, and what is done with it.

    Args:
        settings: of acmems, by the proxy.
        folder: for the configuration and CSRs.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.config = folder / "acmems.ini"
        self.config.write_text(settings.text())
        self.account = settings.folder / "account"
        self.directory = AccountDirectory(self.account)

    def rotate(self, *more: str) -> subprocess.CompletedProcess[str]:
        return run_acmems("account", "rotate-key", *more, self.config)

    def show(self) -> dict[str, object]:
        done = run_acmems("account", "show", "--json", self.config)
        assert done.returncode == 0, done.stderr
        document: dict[str, object] = json.loads(done.stdout)
        return document

    @property
    def thumbprint(self) -> str:
        return self.directory.load_key().thumbprint

    def make_old(self) -> None:
        """Let the last change of the key be so long ago that it cannot arrive any more."""
        then = time.time() - 1000
        os.utime(self.directory.next_key_file, (then, then))

    def sign(self, acmems: Acmems, name: str, pebble: Pebble) -> None:
        """Get a certificate."""
        folder = self.folder / name
        folder.mkdir()
        _, csr = make_key_and_csr(folder, [name])
        reply = curl_sign(acmems.sign_url, csr)
        assert reply.status == 200, reply.body
        verify_chain(reply.body, pebble.root_pem())


@pytest.fixture
def desk(proxy: FaultProxy, settings: Settings, tmp_path: Path) -> Desk:
    return Desk(proxy.before(settings), tmp_path)


@pytest.fixture
def acmems(desk: Desk) -> Iterator[Acmems]:
    with Acmems(desk.settings) as running:
        yield running


class TestRunningServer:
    def test_it_goes_on_with_the_new_key(self, acmems: Acmems, desk: Desk, pebble: Pebble) -> None:
        """The server orders with the new key at once, and after a restart; the old one is gone."""
        desk.sign(acmems, "before.example.org", pebble)
        before, old = desk.show(), desk.directory.load_key()
        done = desk.rotate("--json", "--key-type", "ec384")
        assert (done.returncode, done.stderr) == (0, "")
        after = json.loads(done.stdout)
        assert after["account"] == before["account"]
        assert after["key"] == "P-384"
        assert desk.thumbprint == after["thumbprint"] != before["thumbprint"]
        assert desk.show() == after
        assert not desk.directory.has_next_key()
        assert desk.directory.key_file.stat().st_mode & 0o777 == 0o600
        desk.sign(acmems, "after.example.org", pebble)
        acmems.restart()
        desk.sign(acmems, "restarted.example.org", pebble)
        desk.directory.save_key(old, force=True)
        shown = run_acmems("account", "show", desk.config)
        assert shown.returncode == 1
        assert "the CA" in shown.stderr

    def test_it_is_told(self, acmems: Acmems, desk: Desk) -> None:
        """The log says who has changed the key; no key is in it."""
        assert desk.rotate().returncode == 0
        [line] = [line for line in acmems.log.splitlines() if "administered" in line]
        assert "rotate-key" in line
        assert str(os.geteuid()) in line
        assert "PRIVATE" not in acmems.log

    def test_a_key_that_was_changed_elsewhere(
        self, acmems: Acmems, desk: Desk, pebble: Pebble, tmp_path: Path
    ) -> None:
        """Where another server has changed the key, this one uses what is on disk, and nobody hears of it."""
        desk.sign(acmems, "before.example.org", pebble)
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir(mode=0o700)
        for name in ("account.pem", "registration.json"):
            shutil.copy(desk.account / name, elsewhere / name)
        config = tmp_path / "elsewhere.ini"
        config.write_text(desk.settings.text().replace(f"dir = {desk.account}", f"dir = {elsewhere}"))
        assert run_acmems("account", "rotate-key", config).returncode == 0
        shutil.copy(elsewhere / "account.pem", desk.account / "account.pem")
        desk.sign(acmems, "after.example.org", pebble)
        assert "the account has another key by now" in acmems.log

    def test_twenty_wait_for_it(self, acmems: Acmems, desk: Desk, pebble: Pebble, proxy: FaultProxy) -> None:
        """Twenty who ask meanwhile get their certificates, whether their order runs or waits."""
        desk.show()
        failures: list[BaseException] = []

        def ask(number: int) -> None:
            try:
                desk.sign(acmems, f"host{number}.example.org", pebble)
            except BaseException as error:
                failures.append(error)
                raise

        threads = [threading.Thread(target=ask, args=[number]) for number in range(20)]
        for thread in threads[:10]:
            thread.start()
        wait_until(lambda: proxy.count(path=NEW_ORDER) >= 10, "ten orders run")

        def start_more() -> None:
            for thread in threads[10:]:
                thread.start()

        proxy.when(path=KEY_CHANGE).call_meanwhile(start_more)
        before = desk.thumbprint
        done = desk.rotate()
        assert done.returncode == 0, done.stderr
        for thread in threads:
            thread.join()
        assert not failures
        assert desk.thumbprint != before

    @pytest.mark.parametrize("point", POINTS, ids=str)
    def test_a_kill(
        self, acmems: Acmems, desk: Desk, pebble: Pebble, proxy: FaultProxy, point: CrashPoint
    ) -> None:
        """Killed before or after the CA changed the key, the next start uses the one that the CA knows."""
        desk.sign(acmems, "before.example.org", pebble)
        before, url = desk.thumbprint, desk.show()["account"]
        process = acmems.process

        def kill() -> None:
            process.kill()
            process.wait()

        rule = proxy.when(path=KEY_CHANGE, nth=1)
        (rule.call_after if point.after else rule.call_before)(kill)
        done = desk.rotate()
        assert done.returncode == 1
        assert "the server ended before it told" in done.stderr
        assert desk.directory.has_next_key()
        proxy.heal()
        acmems.restart()
        desk.sign(acmems, "after.example.org", pebble)
        shown = desk.show()
        assert shown["account"] == url
        assert (shown["thumbprint"] != before) == point.after
        assert desk.directory.has_next_key() != point.after


class TestCommandAlone:
    @pytest.fixture(autouse=True)
    def registered(self, desk: Desk) -> None:
        assert run_acmems("account", "register", desk.config).returncode == 0

    def test_it_changes_the_key_itself(self, desk: Desk) -> None:
        """Where no server runs the command changes the key, and prints the account."""
        before = desk.show()
        done = desk.rotate()
        assert done.returncode == 0, done.stderr
        assert desk.thumbprint in done.stdout
        assert desk.show() == {**before, "thumbprint": desk.thumbprint}
        assert desk.thumbprint != before["thumbprint"]

    @pytest.mark.parametrize("point", POINTS, ids=str)
    def test_a_kill(self, desk: Desk, proxy: FaultProxy, point: CrashPoint) -> None:
        """Killed before or after the CA has changed the key, the next command uses the one it knows."""
        before = desk.show()
        command = [sys.executable, "-m", "acmems", "account", "rotate-key", str(desk.config)]
        started = threading.Event()
        processes: list[subprocess.Popen[bytes]] = []

        def kill() -> None:
            started.wait()
            processes[0].kill()
            processes[0].wait()

        rule = proxy.when(path=KEY_CHANGE, nth=1)
        (rule.call_after if point.after else rule.call_before)(kill)
        processes.append(subprocess.Popen(command, env=environment()))
        started.set()
        assert processes[0].wait() == -9
        proxy.heal()
        shown = desk.show()
        assert shown["account"] == before["account"]
        assert (shown["thumbprint"] != before["thumbprint"]) == point.after
        assert desk.directory.has_next_key() != point.after

    def test_a_key_that_is_dropped(self, desk: Desk, proxy: FaultProxy) -> None:
        """A key that the CA does not know is dropped once its change cannot arrive any more."""
        before = desk.show()
        proxy.when(path=KEY_CHANGE).reset()
        assert desk.rotate().returncode == 1
        proxy.heal()
        assert desk.show() == before
        assert desk.directory.has_next_key()
        again = desk.rotate()
        assert again.returncode == 1
        assert "try again in some minutes" in again.stderr
        desk.make_old()
        assert desk.show() == before
        assert not desk.directory.has_next_key()
        assert desk.rotate().returncode == 0

    def test_a_ca_that_does_not_answer(self, desk: Desk, proxy: FaultProxy) -> None:
        """While the CA cannot be asked, both keys stay, however old the new one is."""
        proxy.when(path=KEY_CHANGE).drop_answer()
        proxy.when(path=NEW_ACCOUNT).problem(500, "serverInternal")
        assert desk.rotate().returncode == 1
        desk.make_old()
        assert run_acmems("account", "show", desk.config).returncode == 1
        assert desk.directory.has_next_key()
        new = desk.directory.load_next_key()
        proxy.heal()
        assert new is not None
        assert desk.show()["thumbprint"] == new.thumbprint == desk.thumbprint

    def test_a_lost_answer(self, desk: Desk, proxy: FaultProxy) -> None:
        """Where only the answer is lost, the CA is asked which key it knows."""
        proxy.when(path=KEY_CHANGE).drop_answer()
        done = desk.rotate()
        assert done.returncode == 0, done.stderr
        assert desk.thumbprint in done.stdout
        assert desk.show()["thumbprint"] == desk.thumbprint

    def test_a_lost_request(self, desk: Desk, proxy: FaultProxy) -> None:
        """Where the CA may not have got the request, the old key is used, and the new one is kept."""
        before = desk.thumbprint
        proxy.when(path=KEY_CHANGE).reset()
        done = desk.rotate()
        assert done.returncode == 1
        assert "both are kept" in done.stderr
        assert desk.thumbprint == before
        assert desk.directory.has_next_key()

    def test_a_bad_nonce(self, desk: Desk, proxy: FaultProxy) -> None:
        """A nonce that the CA does not take is nothing to hear of."""
        proxy.when(path=KEY_CHANGE, nth=1).problem(400, "badNonce")
        before = desk.thumbprint
        assert desk.rotate().returncode == 0
        assert desk.show()["thumbprint"] == desk.thumbprint != before

    @pytest.mark.parametrize(
        ("status", "code", "words"),
        [
            (409, "malformed", "another account has the new key already"),
            (400, "badPublicKey", "choose another --key-type"),
            (403, "unauthorized", "stays as it is"),
        ],
        ids=["conflict", "key type", "refused"],
    )
    def test_a_refusal(self, desk: Desk, proxy: FaultProxy, status: int, code: str, words: str) -> None:
        """What the CA refuses leaves the account as it was, without the new key."""
        before = desk.show()
        proxy.when(path=KEY_CHANGE).problem(status, code)
        done = desk.rotate()
        assert done.returncode == 1
        assert words in done.stderr
        assert not desk.directory.has_next_key()
        proxy.heal()
        assert desk.show() == before

    def test_a_ca_that_changes_no_keys(self, desk: Desk, proxy: FaultProxy) -> None:
        """A directory without keyChange is told of before any key is made."""

        def without(directory: dict[str, Any]) -> dict[str, Any]:
            return {name: url for name, url in directory.items() if name != "keyChange"}

        proxy.when(path=DIRECTORY).edit(without)
        done = desk.rotate()
        assert done.returncode == 1
        assert "has no keyChange" in done.stderr
        assert not desk.directory.has_next_key()

    def test_an_open_order_is_found_again(self, desk: Desk, proxy: FaultProxy, pebble: Pebble) -> None:
        """An order that a kill has left open is finished with the new key, and not placed again."""
        with Acmems(desk.settings) as acmems:
            process = acmems.process

            def kill() -> None:
                process.kill()
                process.wait()

            proxy.when(path=FINALIZE, nth=1).call_after(kill)
            folder = desk.folder / "open"
            folder.mkdir()
            _, csr = make_key_and_csr(folder, ["open.example.org"])
            with pytest.raises(PeerFailed):
                curl_sign(acmems.sign_url, csr)
            proxy.heal()
            assert desk.rotate().returncode == 0
            placed = proxy.count(path=NEW_ORDER)
            acmems.restart()
            reply = curl_sign(acmems.sign_url, csr)
            assert reply.status == 200
            assert proxy.count(path=NEW_ORDER) == placed
