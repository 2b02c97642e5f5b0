"""`contrib/acmems-client` against a real server and CA: with each shell and each program that speaks HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.client_machine import Machine
from tests.peers import Acmems, Pebble, Settings, names_of, run, verify_chain

EVERYWHERE = [
    ("dash", "curl"),
    ("dash", "wget"),
    ("bash", "curl"),
    ("busybox", "wget"),
    ("busybox", "busybox"),
]


@pytest.fixture(scope="module")
def acmems(pebble: Pebble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Acmems]:
    """A server that grants anybody any name."""
    with Acmems(Settings.of(pebble, tmp_path_factory.mktemp("server"))) as running:
        yield running


@pytest.fixture(params=EVERYWHERE, ids="-".join)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    """A machine of each kind."""
    return Machine(tmp_path, *request.param)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_first_use_and_nothing_to_do(acmems: Acmems, pebble: Pebble, machine: Machine) -> None:
    """The first run makes key and CSR and installs both files; the second asks and changes nothing."""
    config = machine.configure(acmems.sign_url, name=["host.example.org", "WWW.example.org"])
    done = machine.run(config)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"host: installed the certificate {machine.ssl}/host.pem, valid until ")
    assert done.stdout.count("\n") == 1
    chain = (machine.ssl / "host.pem").read_bytes()
    assert names_of(chain) == {"host.example.org", "www.example.org"}
    assert verify_chain(chain, pebble.root_pem()).endswith("OK")
    certified = run("openssl", "x509", "-in", "host.pem", "-noout", "-pubkey", folder=machine.ssl)
    assert run("openssl", "pkey", "-in", "host.key", "-pubout", folder=machine.ssl) == certified
    assert (mode(machine.ssl / "host.key"), mode(machine.ssl / "host.pem")) == (0o600, 0o644)
    before = machine.snapshot()
    done = machine.run(config)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.snapshot() == before
    assert "status=304" in acmems.log.splitlines()[-1]
