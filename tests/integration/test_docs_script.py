"""The script that the documentation shows for the Python API, against a real CA."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers import ChallTestSrv, Pebble, Settings, environment

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "validate.py"


@pytest.fixture
def configuration(dns: ChallTestSrv, tmp_path: Path) -> Iterator[Path]:
    """A configuration for a CA whose http-01 port nobody else uses; the CA ends with the test."""
    with Pebble(dns.address) as ca:
        file = tmp_path / "acmems.ini"
        file.write_text(Settings.of(ca, tmp_path).text(), encoding="utf-8")
        yield file


def validate(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment(),
    )


def test_prints_what_was_validated(configuration: Path) -> None:
    """The script creates key and account, has names validated over a plain socket, and prints them."""
    done = validate(configuration, "b.example.org", "a.example.org")
    assert (done.stdout, done.stderr, done.returncode) == ("b.example.org\na.example.org\n", "", 0)
    account = configuration.parent / "account"
    assert {file.name for file in account.iterdir()} == {"account.pem", "registration.json"}


def test_uses_its_account_again(configuration: Path) -> None:
    """A second run keeps the key that the first one made."""
    validate(configuration, "a.example.org")
    key = (configuration.parent / "account" / "account.pem").read_bytes()
    assert validate(configuration, "a.example.org").stdout == "a.example.org\n"
    assert (configuration.parent / "account" / "account.pem").read_bytes() == key


def test_a_failure_is_one_line_that_says_why(dns: ChallTestSrv, configuration: Path) -> None:
    """A name that the CA cannot validate ends the script with one line that says why."""
    dns.post("set-servfail", host="broken.example.org")
    done = validate(configuration, "broken.example.org")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("the CA could not validate broken.example.org: ")
    assert done.stderr.count("\n") == 1
