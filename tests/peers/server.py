"""This project's own server, as a process of its own."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tests.peers.acmems_processes import ACMEMS, start
from tests.peers.ca import Pebble
from tests.peers.process import STARTING, Peer, Process, environment, free_port, wait_until

ANYONE = """
[auth "anyone"]
all = yes
domain = **
"""

TEXT = """
[account]
acme-server = {directory_url}
ca-file = {ca_file}
dir = {folder}/account
accept-terms-of-service = yes
{account}

[mgmt]
listener = 127.0.0.1:{port}
{mgmt}

[logging]
level = debug
{logging}
"""

HTTP01 = """
[verification "http"]
type = http01
listener = 127.0.0.1:{challenge_port}
"""

FILES = """
[storage "file"]
type = file
directory = {folder}/storage
"""


@dataclass(kw_only=True)
class Settings:
    """A configuration of acmems that works as it is, to be changed where a test needs it.

    Args:
        folder: where account and storage live; their folders are made here.
        directory_url: the CA's directory.
        ca_file: what to check the CA's HTTPS with.
        challenge_port: where the http-01 listener listens; the CA's `http_port`, or nginx' upstream.
        port: where `/sign` is.
        account: further lines of `[account]`.
        mgmt: further lines of `[mgmt]`.
        logging: further lines of `[logging]`.
        verification: all verification sections; a `http01` by default.
        storage: all storage sections; a `file` by default.
        auth: all auth sections; anyone may have any name but wildcards by default.
    """

    folder: Path
    directory_url: str
    ca_file: Path
    challenge_port: int
    port: int = field(default_factory=free_port)
    account: str = ""
    mgmt: str = ""
    logging: str = ""
    verification: str = HTTP01
    storage: str = FILES
    auth: str = ANYONE

    @classmethod
    def of(cls, pebble: Pebble, folder: Path) -> Settings:
        """Return a configuration that uses this CA and folder, proving names by http-01."""
        return cls(
            folder=folder,
            directory_url=pebble.directory_url,
            ca_file=pebble.ca_file,
            challenge_port=pebble.http_port,
        )

    def text(self) -> str:
        """Return the configuration file; make the folders that it names."""
        for name in ("account", "storage"):
            (self.folder / name).mkdir(mode=0o700, exist_ok=True)
        sections = TEXT + self.verification + self.storage + self.auth
        return sections.format_map(vars(self))


# Does what systemd does before it runs a service: sockets become descriptors 3 and following, and variables
# tell how many they are and whom they are for.
ACTIVATE = """
import fcntl, os, sys
count = int(sys.argv[1])
sockets = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 100) for each in sys.argv[2:2 + count]]
for number, found in enumerate(sockets):
    os.dup2(found, 3 + number)
    os.close(found)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count))
os.execvp(sys.argv[2 + count], sys.argv[2 + count:])
"""


class Acmems(Peer):
    """`acmems serve`, ready as soon as it tells systemd so.

    Args:
        configuration: the text of the configuration file, or what makes one.
        env: variables to set for it.
        sockets: what it inherits as from systemd, by name; whoever opened them closes them.

    Attributes:
        port: where `/sign` is, as the configuration says.
        sign_url: its URL.
    """

    name = "acmems"

    def __init__(
        self,
        configuration: str | Settings,
        env: Mapping[str, str] | None = None,
        *,
        sockets: Sequence[tuple[str, socket.socket]] = (),
    ) -> None:
        super().__init__(env)
        self.pass_fds = [each.fileno() for _, each in sockets]
        if sockets:
            self.env["LISTEN_FDNAMES"] = ":".join(name for name, _ in sockets)
        self.configuration = configuration if isinstance(configuration, str) else configuration.text()
        mgmt = self.configuration.partition("[mgmt]")[2]
        found = re.search(r"^\s*(?:listener|mgmt)\s*=\s*\S+:(\d+)\s*$", mgmt, re.MULTILINE)
        self.port = int(found[1]) if found else 1313
        self.sign_url = f"http://127.0.0.1:{self.port}/sign"
        self._notifications: list[str] = []

    def prepare(self) -> None:
        """Write the configuration and open the socket that systemd would."""
        (self.folder / "acmems.ini").write_text(self.configuration, encoding="utf-8")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._cleanup.callback(self._socket.close)
        self._socket.setblocking(False)
        (self.folder / "notify").unlink(missing_ok=True)  # an earlier start found a port taken
        self._socket.bind(str(self.folder / "notify"))
        self.env["NOTIFY_SOCKET"] = str(self.folder / "notify")

    def command(self) -> Sequence[str]:
        """Return the command line to run."""
        serve = [*ACMEMS, "serve", "acmems.ini"]
        if not self.pass_fds:
            return serve
        return [sys.executable, "-c", ACTIVATE, *map(str, [len(self.pass_fds), *self.pass_fds]), *serve]

    def launch(self, output: IO[bytes]) -> Process:
        """Run it."""
        if self.pass_fds or self.user is not None:
            return super().launch(output)
        return start(self.command(), self.folder, environment(self.env), output, output)

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self._notifications = []
        super().start()

    def ready(self) -> bool:
        """Tell whether it said that it is ready."""
        return "READY=1" in self.notifications

    def reload(self, configuration: str | Settings | None = None) -> None:
        """Have it read its configuration anew, and wait until it has done so, whatever comes of it.

        Args:
            configuration: what to write into the file before; None: what is there stays.
        """
        if configuration is not None:
            self.configuration = configuration if isinstance(configuration, str) else configuration.text()
            # Whole at once, as editors do it: the server may read at any time.
            (self.folder / "new.ini").write_text(self.configuration, encoding="utf-8")
            (self.folder / "new.ini").rename(self.folder / "acmems.ini")
        before = self.notifications.count("RELOADING=1")
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self._has_reloaded(before + 1), "it has reloaded")

    def _has_reloaded(self, times: int) -> bool:
        told = [each for each in self.notifications if each in {"RELOADING=1", "READY=1"}]
        return told.count("RELOADING=1") >= times and told[-1] == "READY=1"

    @property
    def notifications(self) -> list[str]:
        """What it told systemd since it started, line by line."""
        while True:
            try:
                self._notifications += self._socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return list(self._notifications)

    @property
    def peak_memory(self) -> int:
        """The most memory that it had resident so far, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
        assert found
        return int(found[1]) * 1024


def run_acmems(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run an `acmems` command that ends by itself; return its exit code and output."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        command = [*ACMEMS, *map(str, arguments)]
        process = start(command, Path.cwd(), environment(), output, errors)
        try:
            code = process.wait(STARTING)
        finally:
            process.kill()
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(command, code, output.read().decode(), errors.read().decode())
