"""What a killed server has presented in DNS, and what a dead DNS server has kept, is removed afterwards."""

from __future__ import annotations

import contextlib
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.query
import dns.update
import psycopg
import pytest
from tests.peers import (
    Acmems,
    Bind,
    Pebble,
    Postgres,
    Settings,
    curl_sign,
    make_key_and_csr,
    program,
    wait_until,
)
from tests.stub_powerdns import KEY, StubPowerDns

from acmems.challenges import DnsUpdate, Proof
from acmems.challenges.presented.note_files import NoteFiles
from acmems.net.address import parse_address
from acmems.x509.identifiers import Identifier

RECORD = "_acme-challenge.left.example.org"
DNS = """
[verification "dns"]
type = dns01-dnsUpdate
dns-server = {server}
timeout = {seconds}
"""


EXEC = """
[verification "dns"]
type = dns01-exec
command = {hook}
nameserver = {server}
"""
HOOK = """#!{python}
import sys
import dns.query, dns.update

action, name, value = sys.argv[1:]
message = dns.update.UpdateMessage("example.org")
if action == "present":
    message.add(name + ".", 60, "TXT", value)
else:
    message.delete(name + ".", "TXT", value)
sys.exit(dns.query.tcp(message, "127.0.0.1", timeout=10, port={port}).rcode())
"""
PROVIDER = """
[verification "dns"]
type = dns01-provider
provider = powerdns
option = pdns-server = {url}
option = auth_token = {key}
zone = example.org
nameserver = {server}
"""


@contextlib.contextmanager
def undecided() -> Iterator[Pebble]:
    """Run a CA whose resolver never answers, so that it decides nothing."""
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        with Pebble(f"127.0.0.1:{silent.getsockname()[1]}") as ca:
            yield ca


def kill_while_proving(acmems: Acmems, csr: Path, is_presented: Callable[[], bool]) -> None:
    """Ask for a chain, and kill the server as soon as the proofs are presented."""
    command = [program("curl"), "-sS", "--data-binary", f"@{csr}", acmems.sign_url]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as asking:
        wait_until(is_presented, "the proofs are presented")
        acmems.stop(signal.SIGKILL)
        asking.wait(30)


@pytest.mark.threat("proving", "a crash or a refusal with records in DNS")
@pytest.mark.parametrize("kind", ["dnsUpdate", "exec", "provider"])
def test_a_cname_that_changes_meanwhile(settings: Settings, tmp_path: Path, kind: str) -> None:
    """After kill -9 a record is removed from where it was added, though its CNAME leads elsewhere by then."""
    with undecided() as ca, Bind("example.org") as bind, StubPowerDns("example.org") as provider:
        settings.directory_url, settings.ca_file = ca.directory_url, ca.ca_file
        hook = tmp_path / "hook"
        hook.write_text(HOOK.format(python=sys.executable, port=bind.port))
        hook.chmod(0o700)
        settings.verification = {
            "dnsUpdate": DNS.format(server=bind.address, seconds=30),
            "exec": EXEC.format(hook=hook, server=bind.address),
            "provider": PROVIDER.format(url=provider.url, key=KEY, server=bind.address),
        }[kind]
        texts = provider.texts if kind == "provider" else bind.texts
        point(bind, "before.example.org.")
        _, csr = make_key_and_csr(tmp_path, ["left.example.org"])
        with Acmems(settings) as acmems:
            kill_while_proving(acmems, csr, lambda: len(texts("before.example.org")) == 1)
            point(bind, "after.example.org.")
            acmems.start()
            wait_until(lambda: texts("before.example.org") == set(), "the record is gone")


def point(bind: Bind, target: str) -> None:
    """Let the CNAME of the record lead to a name."""
    update = dns.update.UpdateMessage("example.org")
    update.replace(f"{RECORD}.", 0, "CNAME", target)
    assert dns.query.tcp(update, "127.0.0.1", timeout=30, port=bind.port).rcode() == 0


@pytest.mark.threat("proving", "a crash or a refusal with records in DNS")
def test_a_crash_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    """After kill -9 with a record in DNS the next start removes it, and others' records stay."""
    with undecided() as ca, Bind("example.org") as bind:
        settings.directory_url, settings.ca_file = ca.directory_url, ca.ca_file
        settings.verification = DNS.format(server=bind.address, seconds=30)
        _, csr = make_key_and_csr(tmp_path, ["left.example.org", "*.left.example.org"])
        settings.auth = '[auth "a"]\nall = yes\ndomain = left.example.org\ndomain = *.left.example.org\n'
        with Acmems(settings) as acmems:
            kill_while_proving(acmems, csr, lambda: len(bind.texts(RECORD)) == 2)
            assert len(bind.texts(RECORD)) == 2
            assert len(noted(settings)) == 2
            acmems.start()
            wait_until(lambda: bind.texts(RECORD) == set(), "the records are gone")
            wait_until(lambda: noted(settings) == [], "the notes are gone")


@pytest.mark.threat("proving", "a crash or a refusal with records in DNS")
def test_what_an_earlier_version_has_left(settings: Settings, tmp_path: Path) -> None:
    """What a version without a state has noted in files is removed from DNS at the next start."""
    folder = tmp_path / "account" / "presented"
    left = Proof(Identifier.dns("left.example.org"), "token", "token.thumbprint", lambda: None)
    with Bind("example.org") as bind:
        validator = DnsUpdate("dns", [parse_address(bind.address)])
        validator.present([left])
        settings.verification = DNS.format(server=bind.address, seconds=30)
        settings.text()  # which makes the folders
        NoteFiles(folder).note(validator, {left: ""}).settle([left], withdrawn=False)
        assert len(bind.texts(RECORD)) == 1
        with Acmems(settings):
            wait_until(lambda: bind.texts(RECORD) == set(), "the record is gone")
            wait_until(lambda: list(folder.iterdir()) == [], "the note is gone")


@pytest.mark.threat("proving", "a crash or a refusal with records in DNS")
def test_another_server(settings: Settings, postgres: Postgres, tmp_path: Path) -> None:
    """What a killed server has left is removed by another one with the same state, once the first is dead."""
    url = postgres.url_of(postgres.make_database())
    with undecided() as ca, Bind("example.org") as bind:
        (tmp_path / "other").mkdir()
        other = Settings.of(ca, tmp_path / "other")
        settings.directory_url, settings.ca_file = ca.directory_url, ca.ca_file
        for each in (settings, other):
            each.verification = DNS.format(server=bind.address, seconds=30)
            each.auth += f"[state]\nurl = {url}\n"
        _, csr = make_key_and_csr(tmp_path, ["left.example.org"])
        with Acmems(settings) as acmems:
            kill_while_proving(acmems, csr, lambda: len(bind.texts(RECORD)) == 1)
        with psycopg.connect(url) as database:
            database.execute("UPDATE nodes SET expires = 0")
        with Acmems(other):
            wait_until(lambda: bind.texts(RECORD) == set(), "the record is gone")


def noted(settings: Settings) -> list[str]:
    """Return the names whose proofs the state has, read beside whoever uses it."""
    path = settings.folder / "account" / "state.sqlite"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return [name for (name,) in database.execute("SELECT name FROM proofs")]


@pytest.mark.threat("proving", "a crash or a refusal with records in DNS")
def test_a_refused_proof_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    """Where the CA finds the name unproved, the client hears 421 and nothing stays in DNS."""
    with Bind("example.org") as bind, Bind("example.org") as other, Pebble(other.address) as ca:
        settings.directory_url, settings.ca_file = ca.directory_url, ca.ca_file
        settings.verification = DNS.format(server=bind.address, seconds=30)
        _, csr = make_key_and_csr(tmp_path, ["left.example.org"])
        with Acmems(settings) as acmems:
            reply = curl_sign(acmems.sign_url, csr)
            assert reply.status == 421
            assert "left.example.org" in reply.text
        assert bind.texts(RECORD) == set()


@pytest.mark.threat("proving", "a DNS server that is dead")
def test_a_dead_server_is_told(settings: Settings, pebble: Pebble, tmp_path: Path) -> None:
    """Where the DNS server does not answer, 421 names it and the record, and the log says what to do."""
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        server = f"127.0.0.1:{silent.getsockname()[1]}"
        settings.verification = DNS.format(server=server, seconds=2)
        _, csr = make_key_and_csr(tmp_path, ["left.example.org"])
        with Acmems(settings) as acmems:
            reply = curl_sign(acmems.sign_url, csr)
            assert reply.status == 421
            assert server in reply.text
            assert RECORD in reply.text
            assert reply.headers["Retry-After"] == "60"
            assert "see that it runs" in acmems.log
