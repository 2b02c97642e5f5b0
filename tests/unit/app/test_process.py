"""What the process hears: signals, and what systemd and the log are told of them."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.peers import wait_until

from acmems.app import process
from acmems.app.reloading import ConfigurationSource
from acmems.app.signals import StoppedEarly, taking
from acmems.config import Configuration
from acmems.exceptions import AcmeException, ConfigurationError
from acmems.logs.options import LoggingOptions
from acmems.net.listening import SocketPool
from acmems.settings.findings import Finding, Location
from acmems.system import children


class Server:
    """In the place of a server: takes note of what it is told, and fails as told."""

    told: list[str]
    error: BaseException | None = None
    at_start: Callable[[], None] = staticmethod(lambda: None)
    is_serving = False

    def __init__(self, config: Configuration, *, sockets: SocketPool) -> None:
        self.config = config
        self.unused_sockets = sockets.unused
        self.addresses = ["mgmt 127.0.0.1:1313"]

    def start(self) -> None:
        self.told.append("start")
        self.at_start()

    def reload(self, config: Configuration, log: Callable[[], None]) -> None:
        if self.error is not None:
            raise self.error
        self.told.append("reload")
        log()

    def is_healthy(self) -> bool:
        return True

    def stop(self) -> None:
        self.told.append("stop")


class Systemd:
    """In the place of systemd: sends signals, one each time the server is ready."""

    signals: list[signal.Signals]
    told: list[str]

    def ready(self, status: str) -> None:
        self.told.append("ready")
        signal.raise_signal(self.signals.pop(0))

    def watch(self, healthy: Callable[[], bool]) -> None:
        assert healthy()

    def reloading(self) -> None:
        self.told.append("reloading")

    def stopping(self) -> None:
        self.told.append("stopping")


@pytest.fixture
def config(tmp_path: Path) -> Configuration:
    return Configuration.from_text(f"[account]\ndir = {tmp_path}\n")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What server and systemd are told, in this order."""
    told: list[str] = []
    monkeypatch.setattr(Server, "told", told, raising=False)
    monkeypatch.setattr(Systemd, "told", told, raising=False)
    monkeypatch.setattr(process, "Server", Server)
    monkeypatch.setattr(process, "Notifier", Systemd)
    monkeypatch.setattr("acmems.logs.configure", lambda options: told.append(f"log {options.level}"))
    return told


def hear(monkeypatch: pytest.MonkeyPatch, *numbers: signal.Signals) -> None:
    monkeypatch.setattr(Systemd, "signals", [*numbers, signal.SIGTERM], raising=False)


def test_a_reload(monkeypatch: pytest.MonkeyPatch, told: list[str], config: Configuration) -> None:
    """SIGHUP has the configuration read anew, given the one that runs; systemd hears of beginning and end."""
    hear(monkeypatch, signal.SIGHUP, signal.SIGHUP)
    seen: list[Configuration] = []

    def reread(running: Configuration) -> Configuration:
        seen.append(running)
        return config

    process.run(config, ConfigurationSource(reread))
    once = ["reloading", "reload", "log info", "ready"]
    assert told == ["start", "ready", *once, *once, "stopping", "stop"]
    assert seen == [config, config]


def test_the_log_of_the_command_line_stays(
    monkeypatch: pytest.MonkeyPatch, told: list[str], config: Configuration
) -> None:
    """What the command line says of the log holds after a reload, too."""
    hear(monkeypatch, signal.SIGHUP)
    process.run(config, ConfigurationSource(logging_options=LoggingOptions("debug", "stderr", "text")))
    assert "log debug" in told


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (
            ConfigurationError([Finding(Location("acmems.ini", 3), "no such key")]),
            ["acmems.ini:3: no such key", "the configuration has errors"],
        ),
        (AcmeException("the storage is full"), ["the storage is full"]),
        (OSError(13, "Permission denied", "192.0.2.1:80"), ["192.0.2.1:80: Permission denied"]),
        (ZeroDivisionError(), ["a bug", "of a bug"]),
    ],
    ids=["configuration", "storage", "address", "bug"],
)
@pytest.mark.parametrize("where", ["reread", "reload"])
def test_a_reload_that_fails(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    told: list[str],
    config: Configuration,
    error: BaseException,
    lines: list[str],
    where: str,
) -> None:
    """Why it failed is in the log, the server runs on, and systemd hears that it is ready."""
    hear(monkeypatch, signal.SIGHUP)

    def reread(_: Configuration) -> Configuration:
        if where == "reread":
            raise error
        return config

    monkeypatch.setattr(Server, "error", error if where == "reload" else None)
    process.run(config, ConfigurationSource(reread))
    assert told == ["start", "ready", "reloading", "ready", "stopping", "stop"]
    found = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert found[:-1] == lines[:-1]
    assert found[-1] == f"not reloaded, all stays as it was: {lines[-1]}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_starting(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    told: list[str],
    config: Configuration,
    number: signal.Signals,
) -> None:
    """A start is ended at once; what serves already is stopped in order."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(Server, "at_start", staticmethod(lambda: signal.raise_signal(number)))
    process.run(config)
    assert told == ["start"]
    assert "stopped while starting" in caplog.text
    monkeypatch.setattr(Server, "is_serving", True)
    process.run(config)
    assert told == ["start", "start", "stopping", "stop"]


def test_a_stop_before_the_start() -> None:
    """A signal that came before something could be interrupted interrupts it at once, and only that."""
    with taking() as signals:
        signal.raise_signal(signal.SIGHUP)
        with signals.interrupting():
            pass
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(StoppedEarly), signals.interrupting():
            pytest.fail("nothing is begun")
        assert list(signals.until_stop()) == []
        with signals.interrupting():
            pass


def test_a_stop_interrupts_once() -> None:
    """What begins afterwards, such as an orderly end, is not interrupted by the same stop."""
    with taking() as signals:
        with pytest.raises(StoppedEarly), signals.interrupting():
            signal.raise_signal(signal.SIGTERM)
        with signals.interrupting():
            pass


def test_a_reload_while_starting(
    monkeypatch: pytest.MonkeyPatch, told: list[str], config: Configuration
) -> None:
    """SIGHUP during the start ends nothing: it is heard when the server is ready."""
    hear(monkeypatch, signal.SIGWINCH)
    monkeypatch.setattr(Server, "at_start", staticmethod(lambda: signal.raise_signal(signal.SIGHUP)))
    process.run(config)
    assert told == ["start", "ready", "reloading", "reload", "log info", "ready", "stopping", "stop"]


def test_handlers_are_as_before(
    monkeypatch: pytest.MonkeyPatch, told: list[str], config: Configuration
) -> None:
    """After the end nothing hears the signals any more."""
    hear(monkeypatch, signal.SIGHUP)
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
    before = [signal.getsignal(number) for number in numbers]
    process.run(config)
    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize("reaps", [False, True])
def test_orphans_are_reaped_where_they_come(
    monkeypatch: pytest.MonkeyPatch, told: list[str], config: Configuration, reaps: bool
) -> None:
    """Only a process to which orphans come looks for them when a child has ended."""
    reaped = threading.Event()
    monkeypatch.setattr(children.CHILDREN, "reap", reaped.set)
    monkeypatch.setattr(process, "reaps_orphans", lambda: reaps)

    def end_soon(_: Systemd, status: str) -> None:
        subprocess.run(["true"], check=True)
        threading.Thread(target=end).start()

    def end() -> None:
        if reaps:
            wait_until(reaped.is_set, "orphans are looked for")
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Systemd, "ready", end_soon)
    process.run(config)
    assert reaped.is_set() is reaps
