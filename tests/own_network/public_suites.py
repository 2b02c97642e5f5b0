"""The tests that ACME clients have for Pebble, as their authors wrote them, at acmems in its place."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.peers.ca import make_tls_certificate
from tests.peers.process import ROOT, environment, program

LAUNCHER = ROOT / "tests" / "pebble_launcher.py"
X_CRYPTO = {
    "TestWithPebble",
    "TestWithPebble/TLSALPN01-Issuance",
    "TestWithPebble/HTTP01-Issuance",
    "TestWithPebble/HTTP01-Issuance_with_shortlived_Profile",
    "TestUnsupportedProfileWithPebble",
}
ACMEZ = {"TestAlreadyReplaced"}
GO = """#!/bin/sh
# What the tests build, by "go build -o FILE -mod mod ./cmd/NAME", is there.
[ "$1" = build ] && cp {folder}/"${{6#./cmd/}}" "$3"
"""
PEBBLE = """#!/bin/sh
exec {python} -IS {launcher} "$@"
"""
CHALLTESTSRV = """#!/bin/sh
exec {program} "$@"
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder of what the tests find on PATH, and of what they build."""
    folder = tmp_path / "bin"
    folder.mkdir()
    scripts = {
        "go": GO.format(folder=shlex.quote(str(folder))),
        "pebble": PEBBLE.format(python=shlex.quote(sys.executable), launcher=shlex.quote(str(LAUNCHER))),
        "pebble-challtestsrv": CHALLTESTSRV.format(program=shlex.quote(program("pebble-challtestsrv"))),
    }
    for name, text in scripts.items():
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the tests want of a checkout of Pebble: its certificates."""
    certificates = tmp_path / "pebble" / "test" / "certs"
    (certificates / "localhost").mkdir(parents=True)
    certificate, key = certificates / "localhost" / "cert.pem", certificates / "localhost" / "key.pem"
    make_tls_certificate(certificate, key)
    key.chmod(0o600)
    (certificates / "pebble.minica.pem").symlink_to(certificate)
    return tmp_path / "pebble"


def results_of(
    suite: str, programs: Path, checkout: Path, *options: str | Path
) -> tuple[dict[str, str], str]:
    """Return the results of tests, and what they printed, when all has ended that they have started.

    They run one after the other, as each wants ports 80 and 443.
    """
    env = environment()
    done = subprocess.run(
        [program(suite), "-test.v", "-test.parallel=1", *options],
        env=env | {"PATH": f"{programs}{os.pathsep}{env['PATH']}", "PEBBLE_DIR": str(checkout)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    found = re.findall(r"^ *--- (\w+): (\S+)", done.stdout, re.MULTILINE)
    return {name: result for result, name in found}, done.stdout


def test_those_of_x_crypto_pass(programs: Path, checkout: Path) -> None:
    """None is skipped."""
    options = ("-test.run=Pebble", "-pebble-local-dir", checkout)
    results, printed = results_of("x-crypto-acme-suite", programs, checkout, *options)
    assert results == dict.fromkeys(X_CRYPTO, "PASS"), printed


def test_those_of_acmez_pass(programs: Path, checkout: Path) -> None:
    """There is one, which wants a certificate to be replaced twice."""
    results, printed = results_of("acmez-suite", programs, checkout, "-test.run=Replaced")
    assert results == dict.fromkeys(ACMEZ, "PASS"), printed
