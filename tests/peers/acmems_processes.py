"""Processes of acmems for tests: started as anybody does, or forked from one that has imported it already."""

from __future__ import annotations

import atexit
import functools
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tests.peers.process import Process, environment

ACMEMS = (sys.executable, "-m", "acmems")
"""A command line that runs it."""
_SERVER = Path(__file__).with_name("fork_server.py")

# What Python and libraries look at before acmems does: where one of these is not as usual, nothing is forked.
_READ_AT_START = re.compile(r"(?:GLIBC|LANG|LC|LD|MALLOC|OPENSSL|PYTHON|SSL|TZ)")


class Forking:
    """Whether processes are forked instead of started, where nobody would see the difference."""

    is_on = False


def start(
    command: Sequence[str],
    folder: Path,
    env: Mapping[str, str],
    output: IO[bytes],
    errors: IO[bytes],
) -> Process:
    """Start a command with nothing at its standard input and in a session of its own.

    Args:
        command: the command line; it is forked only if it begins with `ACMEMS`.
        folder: where it runs.
        env: its environment.
        output: where its standard output goes.
        errors: where its standard error goes.
    """
    is_acmems = tuple(command[: len(ACMEMS)]) == ACMEMS
    if Forking.is_on and is_acmems and (server := _fork_server()).can_make(env):
        with Path(os.devnull).open("rb") as nothing:
            return server.make(command[len(ACMEMS) :], folder, env, [nothing, output, errors])
    return subprocess.Popen(
        command,
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        start_new_session=True,
    )


class _ForkServer:
    """The program that forks, for this process of the tests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._env = environment()
        self._asking, asked = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with asked:
            self._process = subprocess.Popen(
                [sys.executable, "-P", _SERVER, str(asked.fileno()), "-" * 4096],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[asked.fileno()],
                start_new_session=True,
            )
        atexit.register(self._end)

    def can_make(self, env: Mapping[str, str]) -> bool:
        """Tell whether a process with such an environment would be like one that is started."""
        keys = filter(_READ_AT_START.match, env.keys() | self._env)
        return all(env.get(key) == self._env.get(key) for key in keys)

    def make(
        self, arguments: Sequence[str], folder: Path, env: Mapping[str, str], files: Sequence[IO[bytes]]
    ) -> Process:
        """Make a process, given its standard input, output and error."""
        request = {"arguments": list(arguments), "folder": str(folder), "env": dict(env)}
        return _Forked(self, self._ask(request, [each.fileno() for each in files])["pid"])

    def exit_code(self, pid: int) -> int | None:
        """Return how a process has ended, None while it runs; not to be asked after that."""
        code: int | None = self._ask({"pid": pid})["code"]
        return code

    def _ask(self, request: Mapping[str, Any], descriptors: Sequence[int] = ()) -> dict[str, Any]:
        with self._lock:
            socket.send_fds(self._asking, [json.dumps(request).encode()], descriptors)
            answer: dict[str, Any] = json.loads(self._asking.recv(4096))
            return answer

    def _end(self) -> None:
        self._asking.close()
        self._process.wait()


_fork_server = functools.cache(_ForkServer)


class _Forked:
    """A process that the fork server has made; it stays a zombie until somebody asks how it has ended."""

    def __init__(self, server: _ForkServer, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._server = server
        self._lock = threading.Lock()  # who asks second must not ask the server, to which it is gone

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        with self._lock:
            if self.returncode is None:
                self.returncode = self._server.exit_code(self.pid)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, and return the exit code.

        Raises:
            subprocess.TimeoutExpired: it has not ended within so many seconds.
        """
        if self.poll() is None:
            ends = select.poll()  # select(2) does not know descriptors from 1024 on, and some tests have many
            descriptor = os.pidfd_open(self.pid)
            try:
                ends.register(descriptor, select.POLLIN)
                ends.poll(None if timeout is None else timeout * 1000)
            finally:
                os.close(descriptor)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("acmems", timeout or 0)
        return code

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Send SIGTERM, unless it has ended."""
        self.send_signal(signal.SIGTERM)
