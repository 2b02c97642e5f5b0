"""What systemd hears, over real sockets."""

from __future__ import annotations

import fcntl
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from acmems.system.clock import Clock
from acmems.system.systemd import Notifier

WATCHDOG = {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}


class Systemd:
    """What systemd is to a service: a socket, and variables that name it."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(30)
        self.socket.bind(address)
        self.environment = {"NOTIFY_SOCKET": address.replace("\0", "@")}

    def hear(self) -> str:
        return self.socket.recv(4096).decode()

    def hears_nothing(self) -> bool:
        self.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            self.socket.recv(4096)
        return True


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    """A systemd that listens at a path, or at an abstract address (unix(7))."""
    address = str(tmp_path / "notify") if request.param == "path" else f"\0acmems-test-{os.getpid()}"
    made = Systemd(address)
    yield made
    made.socket.close()


class Ticks:
    """A clock whose waits end when a test says so: without the event, or because of it."""

    def __init__(self) -> None:
        self.waits: queue.SimpleQueue[float] = queue.SimpleQueue()
        self.ends: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits.put(seconds)
        return self.ends.get(timeout=30)

    def tick(self) -> float:
        """Let a wait end by time, and what follows come to its end; return how long the wait would be."""
        seconds = self.waits.get(timeout=30)
        self.ends.put(False)
        return seconds

    def end(self) -> None:
        self.ends.put(True)


class TestNotify:
    def test_readiness_and_status_are_one_message(self, systemd: Systemd) -> None:
        """That the service is ready and what it does is one message, its status one line."""
        Notifier(systemd.environment).ready("listening on\nREADY=0  here")
        assert systemd.hear() == "READY=1\nSTATUS=listening on READY=0 here"

    def test_the_stop_is_told(self, systemd: Systemd) -> None:
        """That the service ends is told."""
        Notifier(systemd.environment).stopping()
        assert systemd.hear() == "STOPPING=1"

    @pytest.mark.parametrize("name", [None, "", "vsock:2:1234", "relative/path"])
    def test_no_systemd(self, name: str | None, caplog: pytest.LogCaptureFixture) -> None:
        """Where no socket is named, or one of a kind that is not for services, nothing happens."""
        Notifier({} if name is None else {"NOTIFY_SOCKET": name}).ready("listening")
        assert caplog.records == []

    def test_a_socket_that_nobody_reads_is_logged(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """That systemd does not hear is logged, and no reason to stop."""
        Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("listening")
        assert [record.getMessage() for record in caplog.records] == ["systemd does not hear"]


class TestInterval:
    def test_half_the_time(self) -> None:
        """Signs of life come twice in the time after which systemd gives up, so that one may be late."""
        assert Notifier(WATCHDOG).interval == 1.5
        assert Notifier({"WATCHDOG_USEC": "500000"}).interval == 0.25

    @pytest.mark.parametrize(
        "environment",
        [
            {},
            {**WATCHDOG, "WATCHDOG_PID": str(os.getpid() + 1)},
            {**WATCHDOG, "WATCHDOG_PID": ""},
            *({**WATCHDOG, "WATCHDOG_USEC": text} for text in ("", "0", "-1", "1.5", "soon", "²")),
        ],
    )
    def test_without_a_watchdog_there_is_no_interval(self, environment: dict[str, str]) -> None:
        """No signs of life are wanted without a time, or if another process shall give them."""
        assert Notifier(environment).interval is None


class TestWatch:
    @pytest.fixture
    def ticks(self) -> Ticks:
        """Waits that end when told to."""
        return Ticks()

    @pytest.fixture
    def notifier(self, systemd: Systemd, ticks: Ticks) -> Iterator[Notifier]:
        """A notifier from which systemd wants to hear every 1.5 seconds."""
        made = Notifier({**systemd.environment, **WATCHDOG}, Clock(wait=ticks.wait))
        yield made
        ticks.end()

    def test_a_healthy_service(self, systemd: Systemd, ticks: Ticks, notifier: Notifier) -> None:
        """As long as the service is healthy a sign of life follows each interval."""
        notifier.watch(lambda: True)
        for _ in range(3):
            assert ticks.tick() == 1.5
            assert systemd.hear() == "WATCHDOG=1"

    def test_an_unhealthy_service(
        self, systemd: Systemd, ticks: Ticks, notifier: Notifier, caplog: pytest.LogCaptureFixture
    ) -> None:
        """While the service is not well, or cannot tell, there is no sign of life; then there is again."""
        states: Iterator[bool | Exception] = iter([False, ZeroDivisionError("a bug"), True])

        def healthy() -> bool:
            state = next(states)
            if isinstance(state, Exception):
                raise state
            return state

        notifier.watch(healthy)
        for _ in range(3):
            ticks.tick()
        assert systemd.hear() == "WATCHDOG=1"
        assert ticks.waits.get(timeout=30) == 1.5
        assert systemd.hears_nothing()
        assert [record.getMessage() for record in caplog.records] == [
            "no sign of life to systemd: the service is not healthy",
            "the service cannot tell whether it is healthy",
            "no sign of life to systemd: the service is not healthy",
        ]

    def test_a_stopping_service(self, systemd: Systemd, ticks: Ticks, notifier: Notifier) -> None:
        """While the service ends it gives signs of life though its listeners are gone."""
        notifier.watch(lambda: False)
        notifier.stopping()
        assert systemd.hear() == "STOPPING=1"
        ticks.tick()
        assert systemd.hear() == "WATCHDOG=1"

    def test_a_closed_notifier(self, systemd: Systemd) -> None:
        """After its end a service gives no more signs of life, and its thread ends."""
        notifier = Notifier({**systemd.environment, "WATCHDOG_USEC": "60000000"})
        before = set(threading.enumerate())
        notifier.watch(lambda: True)
        [thread] = set(threading.enumerate()) - before
        notifier.close()
        thread.join(20)
        assert not thread.is_alive()
        assert systemd.hears_nothing()

    def test_no_watchdog(self, systemd: Systemd) -> None:
        """Where systemd wants no signs of life no thread is started."""
        before = set(threading.enumerate())
        Notifier(systemd.environment).watch(lambda: True)
        assert set(threading.enumerate()) <= before  # some of earlier tests may have ended meanwhile


class TestReloading:
    def test_it_is_told_with_the_time(self, systemd: Systemd) -> None:
        """A reload is told with the time at which it begins, by the clock that systemd compares it to."""
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        Notifier(systemd.environment).reloading()
        first, second = systemd.hear().splitlines()
        assert first == "RELOADING=1"
        name, _, microseconds = second.partition("=")
        assert name == "MONOTONIC_USEC"
        assert before <= int(microseconds) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


INHERITING = """
import os, subprocess, sys
from acmems.system.systemd import inherited_sockets

os.environ["LISTEN_PID"] = sys.argv[1] or str(os.getpid())
for each in inherited_sockets():
    print(each.name, each.socket.getsockname()[:2], os.get_inheritable(each.socket.fileno()))
print(sorted(name for name in os.environ if name.startswith("LISTEN_")))
"""


class TestInheritedSockets:
    """Sockets that are there from the beginning, as descriptors 3 and following."""

    def inherit(self, count: str, names: str, files: list[int], process: str = "") -> list[str]:
        """Return what a process prints that inherits these files."""
        moved = [fcntl.fcntl(each, fcntl.F_DUPFD, 100) for each in files]
        script = "".join(f"exec {3 + number}<&{each}; " for number, each in enumerate(moved))
        done = subprocess.run(
            ["bash", "-c", f'{script} exec "$@"', "bash", sys.executable, "-c", INHERITING, process],
            env={**os.environ, "LISTEN_FDS": count, "LISTEN_FDNAMES": names},
            pass_fds=moved,
            capture_output=True,
            text=True,
            check=True,
        )
        for each in moved:
            os.close(each)
        return done.stdout.splitlines()

    def test_they_are_taken_over(self) -> None:
        """Each has its name, no program that is started inherits it, and the variables are gone."""
        with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            udp.bind(("127.0.0.1", 0))
            printed = self.inherit("2", "web:dns", [tcp.fileno(), udp.fileno()])
            assert printed == [f"web {tcp.getsockname()} False", f"dns {udp.getsockname()} False", "[]"]

    def test_names_may_be_missing(self) -> None:
        """Systemd before version 227 gives no names; what is no socket is left out."""
        with socket.create_server(("127.0.0.1", 0)) as tcp, Path(os.devnull).open() as null:
            printed = self.inherit("2", "", [null.fileno(), tcp.fileno()])
            assert printed == [f"unknown {tcp.getsockname()} False", "[]"]

    @pytest.mark.parametrize(
        ("count", "process"), [("1", "1"), ("", ""), ("-1", ""), ("one", ""), ("²", ""), ("0", "")]
    )
    def test_those_of_another_process(self, count: str, process: str) -> None:
        """What is for another process, or no number, is nothing; the variables are removed all the same."""
        with socket.create_server(("127.0.0.1", 0)) as tcp:
            assert self.inherit(count, "web", [tcp.fileno()], process) == ["[]"]
