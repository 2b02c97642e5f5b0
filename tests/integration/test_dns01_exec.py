"""The dns-01 validator that runs a program, with a program that changes records of a real BIND."""

from __future__ import annotations

import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers import Acmems, Bind, Pebble, Settings, curl_sign, make_key_and_csr, names_of

from acmems.challenges.contract import Proof
from acmems.challenges.dns01_exec import DnsExec
from acmems.challenges.txt import txt_value
from acmems.dns.client.propagation import Propagation
from acmems.exceptions import ValidatorUnavailable
from acmems.net.address import Address
from acmems.system.clock import SYSTEM
from acmems.x509.identifiers import Identifier

RECORD = "_acme-challenge.www.example.org"
HOOK = """#!{python}
import sys
import dns.query, dns.rcode, dns.update

port, action, name, value = sys.argv[1:]
message = dns.update.UpdateMessage("example.org")
if action == "present":
    message.add(name + ".", 60, "TXT", value)
else:
    message.delete(name + ".", "TXT", value)
answer = dns.query.tcp(message, "127.0.0.1", timeout=10, port=int(port))
sys.exit(dns.rcode.to_text(answer.rcode()) if answer.rcode() else 0)
"""


@pytest.fixture(scope="module")
def bind() -> Iterator[Bind]:
    """A name server for example.org."""
    with Bind("example.org") as server:
        yield server


VERIFICATION = """
[verification "hook"]
type = dns01-exec
command = {hook} {dns_port}
nameserver = 127.0.0.1:{dns_port}
timeout = 30
"""
BLOCK = '[auth "all"]\nall = yes\ndomain = www.example.org\ndomain = *.www.example.org\n'


@pytest.fixture
def hook(tmp_path: Path) -> Path:
    """A program that changes the zone of BIND."""
    path = tmp_path / "hook"
    path.write_text(HOOK.format(python=sys.executable), encoding="utf-8")
    path.chmod(stat.S_IRWXU)
    return path


@pytest.fixture
def validator(bind: Bind, hook: Path) -> DnsExec:
    seen = Propagation("authoritative", nameservers=[Address("127.0.0.1", bind.port)], timeout=60)
    return DnsExec("hook", [str(hook), str(bind.port)], seen)


def proof(name: str, mark: str) -> Proof:
    return Proof(Identifier.dns(name), mark, f"{mark}.thumbprint", lambda: None)


def test_a_program_adds_and_removes_values_one_by_one(bind: Bind, validator: DnsExec) -> None:
    """A name, its wildcard and another name are there, are seen by the wait, and go one by one."""
    base, wildcard = proof("www.example.org", "base"), proof("*.www.example.org", "wildcard")
    other = proof("other.example.org", "other")
    validator.present([base, wildcard, other])
    validator.wait([base, wildcard, other], SYSTEM.deadline(60), threading.Event())
    assert bind.texts(RECORD) == {txt_value("base.thumbprint"), txt_value("wildcard.thumbprint")}
    assert bind.texts("_acme-challenge.other.example.org") == {txt_value("other.thumbprint")}
    validator.withdraw([base])
    assert bind.texts(RECORD) == {txt_value("wildcard.thumbprint")}
    validator.withdraw([base, wildcard, other])
    assert bind.texts(RECORD) == bind.texts("_acme-challenge.other.example.org") == set()


def test_a_refusal_is_a_failure(bind: Bind, validator: DnsExec) -> None:
    """What BIND refuses makes the program fail, which names program and record; other names are done."""
    with pytest.raises(
        ValidatorUnavailable,
        match=r"program hook ended with code 1 .* record _acme-challenge\.www\.example\.net",
    ):
        validator.present([proof("www.example.net", "one"), proof("here.example.org", "two")])
    assert bind.texts("_acme-challenge.here.example.org") == {txt_value("two.thumbprint")}
    validator.withdraw([proof("here.example.org", "two")])


def test_a_ca_that_asks_bind(bind: Bind, hook: Path, tmp_path: Path) -> None:
    """A name and its wildcard are certified by what the program adds, and nothing stays."""
    _, csr = make_key_and_csr(tmp_path, ["www.example.org", "*.www.example.org"])
    with Pebble(bind.address) as ca:
        settings = Settings.of(ca, tmp_path)
        settings.verification = VERIFICATION.format(hook=hook, dns_port=bind.port)
        settings.auth = BLOCK
        with Acmems(settings) as acmems:
            reply = curl_sign(acmems.sign_url, csr)
            assert reply.status == 200, (reply, acmems.log)
    assert names_of(reply.body) == {"www.example.org", "*.www.example.org"}
    assert bind.texts(RECORD) == set()


@pytest.mark.threat("proving", "a hook that fails or hangs")
def test_a_hook_that_fails_is_the_clients_421(bind: Bind, hook: Path, tmp_path: Path) -> None:
    """The client gets 421 with program, code and record, nothing of the output; the log says what to do."""
    hook.write_text("#!/bin/sh\necho password=hunter2\n[ $2 = withdraw ] || exit 7\n", encoding="utf-8")
    _, csr = make_key_and_csr(tmp_path, ["www.example.org"])
    with Pebble(bind.address) as ca:
        settings = Settings.of(ca, tmp_path)
        settings.verification = VERIFICATION.format(hook=hook, dns_port=bind.port)
        settings.auth = BLOCK
        with Acmems(settings) as acmems:
            reply = curl_sign(acmems.sign_url, csr)
            assert reply.status == 421, (reply, acmems.log)
            words, log = reply.body.decode(), acmems.log
    assert f"the program hook ended with code 7 when it should present record {RECORD}" in words
    assert "command" not in words
    assert "hunter2" not in words
    assert all(" DEBUG " in line for line in log.splitlines() if "hunter2" in line)
    assert "'command' of [verification" in log
