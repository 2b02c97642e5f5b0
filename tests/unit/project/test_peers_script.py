"""What `scripts/peers` fetches, and what it leaves to the machine; apt is a stand-in that fails."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "peers"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder in front of PATH, with an apt that has nothing."""
    folder = tmp_path / "bin"
    folder.mkdir()
    write(folder, "apt-get", "echo fetching >&2; exit 100")
    return folder


def write(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    (folder / name).chmod(0o755)


def peers(programs: Path, *names: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a folder of its own."""
    checkout = programs.parent / "checkout"
    (checkout / "scripts").mkdir(parents=True)
    script = shutil.copy(SCRIPT, checkout / "scripts")
    path = f"{programs}{os.pathsep}{os.defpath}"
    return subprocess.run(
        [script, "--only", *names],
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("peer", "name", "output"),
    [
        ("bind9", "named", "BIND 9.18.49-1~deb12u3-Debian (Extended Support Version) <id:>"),
        ("bind9", "named", "BIND 9.20.0 (Stable Release) <id:>"),
        ("knot", "knotd", "knotd (Knot DNS), version 3.10.0"),
        ("haproxy", "haproxy", "HAProxy version 2.6.12-1+deb12u3 2025/10/03"),
        ("postgresql", "postgres", "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"),
        ("pgbouncer", "pgbouncer", "PgBouncer 1.18.0"),
        ("pebble", "pebble", "Pebble version: v2.10.0"),
        ("lego", "lego", "lego version 4.35.2 linux/amd64"),
        ("caddy", "caddy", "2.11.4"),
        ("haproxy-acme", "haproxy", "HAProxy version 3.2.26-1 2026/10/14\nFeature list : +ACCEPT4 +ACME"),
        ("busybox", "busybox", "BusyBox v1.35.0 (Debian 1:1.35.0-4+deb12u1+b1) multi-call binary."),
        ("bash", "bash", "GNU bash, version 5.2.15(1)-release (x86_64-pc-linux-gnu)"),
        ("shellcheck", "shellcheck", "ShellCheck - shell script analysis tool; version: 0.9.0"),
    ],
)
def test_a_program_of_the_machine_suffices(programs: Path, peer: str, name: str, output: str) -> None:
    """A program that is recent enough is not fetched, and nothing is written."""
    write(programs, name, f"echo '{output}'")
    done = peers(programs, peer)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (programs.parent / "checkout" / ".cache").exists()


@pytest.mark.parametrize(
    ("peer", "name", "output"),
    [
        ("bind9", "named", "BIND 9.16.50-Debian (Extended Support Version) <id:>"),
        ("bind9", "named", "named: error while loading shared libraries"),
        ("knot", "knotd", "knotd (Knot DNS), version 3.1.9"),
        ("pgbouncer", "pgbouncer", "PgBouncer 1.15.0"),
        ("pebble", "pebble", "Pebble version: dev"),
        ("lego", "lego", "lego version 4.9.1 linux/amd64"),
        ("haproxy-acme", "haproxy", "HAProxy version 3.2.26-1 2026/10/14\nFeature list : +ACCEPT4 -ACME"),
        ("uacme", "uacme", "uacme: version 1.8.1"),
        ("x-crypto-acme", "x-crypto-acme", "1"),
    ],
)
def test_an_older_program_is_fetched(programs: Path, peer: str, name: str, output: str) -> None:
    """A program that is too old, or does not say how old it is, is not trusted to do."""
    write(programs, name, f"echo '{output}'")
    write(programs, "dpkg-query", "exit 1")
    done = peers(programs, peer)
    assert done.returncode != 0
    assert "fetching" in done.stderr


@pytest.mark.parametrize(("promtool", "fetched"), [("2.42.0+ds", False), ("2.24.1", True), (None, True)])
def test_prometheus_comes_with_promtool(programs: Path, promtool: str | None, fetched: bool) -> None:
    """A machine that has a recent server needs a recent promtool, too."""
    write(programs, "prometheus", "echo 'prometheus, version 2.42.0+ds (branch: debian/sid, revision: 1)'")
    if promtool is not None:
        write(programs, "promtool", f"echo 'promtool, version {promtool} (branch: debian/sid, revision: 1)'")
    assert ("fetching" in peers(programs, "prometheus").stderr) is fetched


def test_a_peer_that_is_not_known_is_told(programs: Path) -> None:
    """A wrong name fetches nothing."""
    done = peers(programs, "bind10")
    assert done.returncode == 2
    assert "no such peer: bind10" in done.stderr
    assert "fetching" not in done.stderr
