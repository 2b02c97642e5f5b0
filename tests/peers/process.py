"""A program under test's care: found, started, waited for, stopped, its output kept."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol, Self

ROOT = Path(__file__).parents[2]
FETCHED = ROOT / ".cache" / "peers" / "root"
APART = ROOT / ".cache" / "peers" / "apart"

STARTING = 60.0
"""Seconds that a peer may take to become ready: generous, since machines may be busy."""
STOPPING = 60.0
"""Seconds that a peer may take to end after it was told to: more than acmems lets requests have for that."""
ATTEMPTS = 5
"""Starts on ports that another program was quicker to take."""


class PeerFailed(Exception):
    """A peer is missing, did not start, or did not do what it was asked."""


def program(name: str) -> str:
    """Return the path of a program: as `scripts/peers` fetched it, else the machine's own.

    Raises:
        PeerFailed: there is none.
    """
    folders = [
        *(FETCHED / name for name in ("usr/sbin", "usr/bin", "bin")),
        *os.get_exec_path(),
        "/usr/sbin",
        "/sbin",
    ]
    found = shutil.which(name, path=os.pathsep.join(map(str, folders)))
    if found is None:
        raise PeerFailed(f"{name} is missing: run scripts/peers")
    return found


def apart(name: str, libraries: Path | None = None) -> list[str | Path]:
    """Return how to start a program that `scripts/peers` fetched together with all of its libraries.

    Args:
        name: of the program.
        libraries: a folder of libraries to use in place of those.

    Raises:
        PeerFailed: neither has that been fetched nor does the machine have it.
    """
    found = shutil.which(name, path=os.pathsep.join(str(APART / "usr" / each) for each in ("sbin", "bin")))
    loaders = list(APART.glob("usr/lib/*-linux-gnu*/ld-linux*.so.*"))
    if found is None or not loaders:
        return [program(name)]
    folders = [libraries, loaders[0].parent] if libraries else [loaders[0].parent]
    return [loaders[0], "--library-path", os.pathsep.join(map(str, folders)), found]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a peer: no switches of the caller, libraries of `scripts/peers`."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.lower().endswith("_proxy")
        and not key.startswith(("PEBBLE_", "ACMEMS_", "NOTIFY_", "WATCHDOG_", "LISTEN_"))
    }
    folders = sorted(FETCHED.glob("usr/lib/*-linux-gnu*")) + sorted(
        FETCHED.glob("usr/lib/*-linux-gnu*/systemd")
    )
    libraries = [*map(str, folders), kept.get("LD_LIBRARY_PATH", "")]
    kept["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, libraries))
    kept["PATH"] = os.pathsep.join([kept.get("PATH", os.defpath), str(FETCHED / "usr/bin")])
    kept.pop("PYTHONUNBUFFERED", None)  # with it, nobody would see that a program keeps what it prints
    if kept.pop("PYTHONDONTWRITEBYTECODE", ""):
        # Without compiled modules, a second of CPU is compiling whenever acmems starts.
        kept["PYTHONPYCACHEPREFIX"] = str(ROOT / ".cache" / "pycache")
    return {**kept, **(extra or {})}


def ports_of(worker: int, workers: int) -> Iterator[int]:
    """Return ports in random order, again and again, of which no other worker of the same test run has any.

    Args:
        worker: the number of the worker, from 0.
        workers: how many there are.
    """
    ports = list(range(10_000 + worker, 32_000, workers))
    random.SystemRandom().shuffle(ports)
    return itertools.cycle(ports)


_PORTS = ports_of(
    int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")),
    int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")),
)


def free_port() -> int:
    """Return a loopback port that nobody uses for TCP or UDP at this moment.

    Nobody else gets it for as long as there are others, although it may be some time until a peer listens
    there. It lies below the range from which systems take the ports of outgoing connections, so that none of
    those can take it before a peer does.
    """
    while True:
        port = next(_PORTS)
        with (
            contextlib.suppress(OSError),
            socket.socket() as tcp,
            socket.socket(type=socket.SOCK_DGRAM) as udp,
        ):
            tcp.bind(("127.0.0.1", port))
            udp.bind(("127.0.0.1", port))
            return port


def wait_until(condition: Callable[[], bool], what: str, seconds: float = STARTING) -> None:
    """Ask again and again until a condition holds.

    Raises:
        PeerFailed: it did not within so many seconds.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise PeerFailed(f"waited {seconds:g} s in vain until {what}")
        time.sleep(0.01)


class Process(Protocol):
    """What tests do with a process, as `subprocess.Popen` has it."""

    pid: int

    @property
    def returncode(self) -> Any:
        """The exit code, negative for a signal, None while that is not known."""

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, and return the exit code."""

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless it has ended."""

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended."""

    def terminate(self) -> None:
        """Send SIGTERM, unless it has ended."""


class Peer:
    """One program, running between `__enter__` and `__exit__` in a folder of its own.

    A peer chooses its ports and writes its files in `prepare`, which is called again with other ports when
    one was taken; `restart` keeps them.

    Args:
        env: variables to set for it.

    Attributes:
        pass_fds: descriptors that it inherits, beside the usual three.
        user: who runs it, None for the user of the tests.
    """

    name = ""

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        self.env = dict(env or {})
        self.folder = Path()
        self._cleanup = contextlib.ExitStack()
        self._process: Process | None = None
        self.pass_fds: Sequence[int] = ()
        self.user: pwd.struct_passwd | None = None

    def prepare(self) -> None:
        """Choose ports and write configuration into `folder`."""

    def command(self) -> Sequence[str]:
        """Return the command line to run."""
        raise NotImplementedError

    def launch(self, output: IO[bytes]) -> Process:
        """Run that command.

        Args:
            output: what gets all that it prints.
        """
        return subprocess.Popen(
            list(self.command()),
            cwd=self.folder,
            env=environment(self.env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=self.pass_fds,
            user=self.user and self.user.pw_uid,
            group=self.user and self.user.pw_gid,
            extra_groups=self.user and [],
            # A Ctrl-C at the terminal is for whoever runs the peers, who then stops them in order.
            start_new_session=True,
        )

    def ready(self) -> bool:
        """Tell whether the peer serves; may raise OSError for "not yet"."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._cleanup = stack  # what `prepare` opens is closed with the rest
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{self.name}-")))
            stack.callback(self.stop)
            for attempt in range(1, ATTEMPTS + 1):
                self.prepare()
                try:
                    self.start()
                    break
                except PeerFailed:
                    if attempt == ATTEMPTS or "in use" not in self.log:
                        raise
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def start(self) -> None:
        """Start the program and wait until it serves.

        Raises:
            PeerFailed: it ended, or did not serve in time; with its output.
        """
        with self._output.open("ab") as output:
            self._process = self.launch(output)
        try:
            wait_until(self._ready_or_dead, f"{self.name} serves")
        except PeerFailed as error:
            self.stop(signal.SIGKILL)
            raise PeerFailed(f"{error}\n{self.log}") from None
        if (code := self._process.poll()) is not None:
            raise PeerFailed(f"{self.name} ended with {code}\n{self.log}")

    def _ready_or_dead(self) -> bool:
        if self.process.poll() is not None:
            return True
        try:
            return self.ready()
        except OSError:
            return False

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int | None:
        """Send a signal, wait for the end, and return the exit code; None if it does not run.

        Raises:
            PeerFailed: it did not end by itself and had to be killed.
        """
        process, self._process = self._process, None
        if process is None:
            return None
        process.send_signal(number)
        try:
            return process.wait(STOPPING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise PeerFailed(f"{self.name} did not end after {number.name}\n{self.log}") from None

    def restart(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop the program and start it again, on the same ports and files."""
        self.stop(number)
        self.start()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Hold the program: connections reach it, answers do not come."""
        process = self.process
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)  # which does nothing where it has ended

    @property
    def process(self) -> Process:
        """The running program.

        Raises:
            PeerFailed: it does not run.
        """
        if self._process is None:
            raise PeerFailed(f"{self.name} does not run")
        return self._process

    @property
    def log(self) -> str:
        """All that the program printed so far."""
        return self._output.read_text(encoding="utf-8", errors="replace") if self._output.exists() else ""

    @property
    def _output(self) -> Path:
        return self.folder / "output"
