"""`acmems account deactivate` asks first: the account at a real CA ends only if somebody says yes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from tests.peers import Acmems, Settings, curl_sign, make_key_and_csr, run_acmems
from tests.peers.terminals import run_at_terminal


@pytest.fixture
def config(settings: Settings, tmp_path: Path) -> Path:
    """A configuration whose account is registered."""
    path = tmp_path / "acmems.ini"
    path.write_text(settings.text())
    assert run_acmems("account", "register", path).returncode == 0
    return path


def answered(config: Path, answer: bytes) -> subprocess.CompletedProcess[str]:
    """Deactivate, and type this at the terminal."""
    return run_at_terminal(answer, "account", "deactivate", config)


def is_valid(config: Path) -> bool:
    return run_acmems("account", "show", config).returncode == 0


def test_yes(config: Path) -> None:
    """Whoever types yes has the account deactivated; the question names it."""
    done = answered(config, b"yes\n")
    assert done.returncode == 0
    [url] = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("account ")]
    assert f"Deactivate {url} for ever? Nothing more can be ordered with it. Type 'yes': " in done.stderr
    assert "deactivated" in done.stdout
    assert not is_valid(config)


@pytest.mark.parametrize("answer", [b"y\n", b"no\n", b"\n", b"\x04"], ids=["y", "no", "empty", "end of file"])
def test_anything_else(config: Path, answer: bytes) -> None:
    """Anything else changes nothing, says so, and is exit code 1."""
    done = answered(config, answer)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("acmems: nothing was changed\n")
    assert is_valid(config)


def test_no_terminal(config: Path) -> None:
    """Without a terminal nobody can answer: exit code 2, and the CA is not asked anything."""
    done = run_acmems("account", "deactivate", config)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--yes" in done.stderr
    assert is_valid(config)


def test_a_running_server(settings: Settings, tmp_path: Path) -> None:
    """The server ends the account itself, says who wanted that, and orders nothing more."""
    (tmp_path / "acmems.ini").write_text(settings.text())
    _, csr = make_key_and_csr(tmp_path, ["www.example.org"])
    with Acmems(settings) as acmems:
        done = run_acmems("account", "deactivate", "--yes", "--json", tmp_path / "acmems.ini")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["status"] == "deactivated"
        assert curl_sign(acmems.sign_url, csr).status == 503
        [line] = [line for line in acmems.log.splitlines() if "administered" in line]
        assert "act=deactivate" in line
