"""The tests that golang.org/x/crypto/acme has for Pebble, as its authors wrote them, at acmems."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.peers.ca import make_tls_certificate
from tests.peers.process import ROOT, environment, program

TESTS = {
    "TestWithPebble",
    "TestWithPebble/TLSALPN01-Issuance",
    "TestWithPebble/HTTP01-Issuance",
    "TestWithPebble/HTTP01-Issuance_with_shortlived_Profile",
    "TestUnsupportedProfileWithPebble",
}
OPTIONS = ["-test.v", "-test.run=Pebble", "-test.parallel=1", "-pebble-local-dir"]
LAUNCHER = ROOT / "tests" / "pebble_launcher.py"
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


def write_programs(folder: Path) -> None:
    """Write what the tests find on PATH, and what they build."""
    scripts = {
        "go": GO.format(folder=shlex.quote(str(folder))),
        "pebble": PEBBLE.format(python=shlex.quote(sys.executable), launcher=shlex.quote(str(LAUNCHER))),
        "pebble-challtestsrv": CHALLTESTSRV.format(program=shlex.quote(program("pebble-challtestsrv"))),
    }
    for name, text in scripts.items():
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)


def test_all_of_them_pass(tmp_path: Path) -> None:
    """None is skipped. They run one after the other, as each wants ports 80 and 443."""
    programs, checkout = tmp_path / "bin", tmp_path / "pebble"
    programs.mkdir()
    write_programs(programs)
    certificates = checkout / "test" / "certs"
    (certificates / "localhost").mkdir(parents=True)
    make_tls_certificate(certificates / "localhost" / "cert.pem", certificates / "localhost" / "key.pem")
    (certificates / "localhost" / "key.pem").chmod(0o600)
    (certificates / "pebble.minica.pem").symlink_to("localhost/cert.pem")
    env = environment()
    done = subprocess.run(
        [program("x-crypto-acme-suite"), *OPTIONS, checkout],
        env=env | {"PATH": f"{programs}:{env['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    results = {name: result for result, name in re.findall(r"^ *--- (\w+): (\S+)", done.stdout, re.MULTILINE)}
    assert results == dict.fromkeys(TESTS, "PASS"), done.stdout
