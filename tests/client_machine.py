"""A machine that runs `contrib/acmems-client`, with the shell and the programs that a test gives it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.peers import environment, program

CLIENT = Path(__file__).parents[1] / "contrib" / "acmems-client"

TOOLS = (
    *("awk", "cat", "chmod", "chown", "cmp", "cp", "cut", "date", "grep", "head", "id", "ln", "ls", "mkdir"),
    *("mv", "od", "readlink", "rm", "sed", "sleep", "sync", "tail", "timeout", "tr"),
)
"""What the client needs of POSIX and of every Linux, whichever package it comes from."""
OTHERS = ("flock", "openssl")

Setting = str | int | Path | Sequence[str | int | Path]


@dataclass
class Machine:
    """A machine with one shell, one program that speaks HTTP, and the least of other programs.

    Args:
        folder: all its files.
        shell: `dash`, `bash` or `busybox`.
        asks_with: `curl`, `wget` or `busybox`, which has a small wget.
    """

    folder: Path
    shell: str = "dash"
    asks_with: str = "curl"
    env: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.programs = self.folder / "bin"
        self.programs.mkdir()
        self.state = self.folder / "state"
        self.ssl = self.folder / "ssl"
        self.ssl.mkdir()
        self.hooks = self.folder / "hooks"
        self.hooks.mkdir()
        for name in TOOLS:
            self._link(name, "busybox" if self.shell == "busybox" else name)
        for name in OTHERS:
            self._link(name, name)
        if self.asks_with == "busybox":
            self._link("wget", "busybox")
        elif self.asks_with:
            self._link(self.asks_with, self.asks_with)

    def _link(self, name: str, target: str) -> None:
        (self.programs / name).symlink_to(program(target))

    def replace(self, name: str, script: str) -> None:
        """Put a script in the place of a program."""
        (self.programs / name).unlink(missing_ok=True)
        (self.programs / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (self.programs / name).chmod(0o755)

    def hook(self, name: str, script: str) -> Path:
        """Write a hook and return its path."""
        path = self.hooks / name
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)
        return path

    def configure(
        self, server: str | Sequence[str], stem: str = "host", /, **settings: Setting | None
    ) -> Path:
        """Write a configuration file: a certificate for `STEM.example.org`, unless settings say otherwise."""
        values: dict[str, Setting | None] = {
            "server": server,
            "name": f"{stem}.example.org",
            "key": self.ssl / f"{stem}.key",
            "fullchain": self.ssl / f"{stem}.pem",
            "retry_for": 0,
            **settings,
        }
        path = self.folder / f"{stem}.conf"
        path.write_text("".join(_lines(values)), encoding="utf-8")
        path.chmod(0o644)
        return path

    def command(self, *arguments: str | Path) -> list[str]:
        """Return the command line that runs the client."""
        shell = [program("busybox"), "sh"] if self.shell == "busybox" else [program(self.shell)]
        return [*shell, str(CLIENT), "--state", str(self.state), *map(str, arguments)]

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of the client, as cron has it: next to nothing."""
        libraries = environment()["LD_LIBRARY_PATH"]
        return {"PATH": str(self.programs), "LD_LIBRARY_PATH": libraries, **self.env}

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the client to its end."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )

    @contextlib.contextmanager
    def running(self, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
        """Run the client meanwhile; it is killed if the test fails."""
        with subprocess.Popen(
            self.command(*arguments),
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as client:
            try:
                yield client
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(client.pid, signal.SIGKILL)

    def snapshot(self) -> dict[str, tuple[bytes, int, int, int]]:
        """Return content, mode, owner and inode of all files below `ssl`, hidden ones too."""
        return {
            path.name: (
                path.read_bytes(),
                (found := path.stat()).st_mode & 0o7777,
                found.st_uid,
                found.st_ino,
            )
            for path in sorted(self.ssl.iterdir())
        }


def _lines(values: Mapping[str, Setting | None]) -> Iterator[str]:
    for key, value in values.items():
        if value is None:
            continue
        many = [value] if isinstance(value, str | int | os.PathLike) else value
        yield from (f"{key.replace('_', '-')} = {each}\n" for each in many)
