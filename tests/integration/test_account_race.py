"""Several processes that find an empty account directory at once: one key, one account."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.fault_proxy import FaultProxy
from tests.faults import NEW_ACCOUNT
from tests.peers import Settings, acmems_processes, environment, free_port, run_acmems, wait_until
from tests.peers.acmems_processes import ACMEMS
from tests.peers.process import Process

from acmems.issuers.acme.account import AccountDirectory

ROUNDS = 10
pytestmark = pytest.mark.timeout(400)  # forty processes, one after the other where the machine is busy
SECONDS = 60.0  # for the end of a process; generous, since machines may be busy


def start(command: str, settings: Settings, log: Path) -> Process:
    """Start `acmems`, with all that it says in a file."""
    configuration = log.with_suffix(".ini")
    configuration.write_text(settings.text())
    words = [*ACMEMS, *command.split(), str(configuration)]
    with log.open("wb") as output:
        return acmems_processes.start(words, Path.cwd(), environment(), output, output)


def settings_of(proxy: FaultProxy, settings: Settings, folder: Path) -> Settings:
    """Return a configuration for a folder, with ports of its own."""
    folder.mkdir(exist_ok=True)
    own = dataclasses.replace(settings, folder=folder, port=free_port(), challenge_port=free_port())
    return proxy.before(own)


def wait_for_all(logs: Sequence[Path], words: str) -> None:
    """Wait until each of some processes has said these words."""
    wait_until(lambda: all(words in log.read_text() for log in logs), f"all say {words!r}", SECONDS)


def registrations(proxy: FaultProxy) -> list[object]:
    """Return the public keys for which accounts were wanted so far, once for each time."""
    return [
        seen.protected["jwk"]
        for seen in proxy.seen
        if seen.path == NEW_ACCOUNT.strip("^$") and "onlyReturnExisting" not in seen.payload
    ]


def check(settings: Settings, proxy: FaultProxy, before: int) -> str:
    """Check that one account was made, with the key that is there; return its URL."""
    (jwk,) = registrations(proxy)[before:]
    directory = AccountDirectory(settings.folder / "account")
    assert directory.load_key().jwk == jwk
    account = directory.load_registration()
    assert account is not None
    return account.url


def test_registrations_at_once(proxy: FaultProxy, settings: Settings, tmp_path: Path) -> None:
    """Two `acmems account register`, ten times: both succeed, and show the same account."""
    own, url = settings, ""
    for number in range(ROUNDS):
        before = len(registrations(proxy))
        own = settings_of(proxy, settings, tmp_path / str(number))
        logs = [own.folder / f"{name}.log" for name in "ab"]
        running = [start("account register", own, log) for log in logs]
        assert [each.wait(SECONDS) for each in running] == [0, 0], [log.read_text() for log in logs]
        url = check(own, proxy, before)
        assert all(url in log.read_text() for log in logs)
    shown = run_acmems("account", "show", own.folder / "a.ini")
    assert shown.returncode == 0, shown.stderr
    assert url in shown.stdout


def test_starts_at_once(proxy: FaultProxy, settings: Settings, tmp_path: Path) -> None:
    """Two `acmems serve` at the same moment, ten times: both become ready, with the same account."""
    for number in range(ROUNDS):
        before = len(registrations(proxy))
        both = [settings_of(proxy, settings, tmp_path / str(number)) for _ in "ab"]
        both[0].text()  # makes the folders
        logs = [own.folder / f"{name}.log" for name, own in zip("ab", both, strict=True)]
        running = []
        try:
            with AccountDirectory(both[0].folder / "account").founding():
                running += [start("serve", own, log) for own, log in zip(both, logs, strict=True)]
                wait_for_all(logs, "waiting for it")
            wait_for_all(logs, "ready, listening on")
        finally:
            for each in running:
                each.terminate()
            codes = [each.wait(SECONDS) for each in running]
        assert codes == [0, 0], [log.read_text() for log in logs]
        check(both[0], proxy, before)


def test_a_kill_while_others_wait(proxy: FaultProxy, settings: Settings, tmp_path: Path) -> None:
    """Where the one that makes the account is killed, the one that waits makes it, with the same key."""
    proxy.when(path=NEW_ACCOUNT, nth=1).stall()
    own = settings_of(proxy, settings, tmp_path / "killed")
    first = start("account register", own, own.folder / "a.log")
    wait_until(lambda: proxy.count(path=NEW_ACCOUNT) == 1, "the first asks the CA")
    key = (own.folder / "account/account.pem").read_bytes()
    second = start("account register", own, own.folder / "b.log")
    wait_until(
        lambda: "waiting for it" in (own.folder / "b.log").read_text(), "the second waits for the first"
    )
    first.send_signal(signal.SIGKILL)
    first.wait(SECONDS)
    assert second.wait(SECONDS) == 0, (own.folder / "b.log").read_text()
    assert (own.folder / "account/account.pem").read_bytes() == key
    check(own, proxy, 0)
