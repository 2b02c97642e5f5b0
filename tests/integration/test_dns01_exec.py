"""The dns-01 validator that runs a program, with a program that changes records of a real BIND."""

from __future__ import annotations

import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers import Bind

from acmems.challenges.contract import Proof
from acmems.challenges.dns01_exec import DnsExec
from acmems.challenges.txt import txt_value
from acmems.clock import SYSTEM
from acmems.dnsclient.propagation import Propagation
from acmems.exceptions import ValidatorUnavailable
from acmems.ini import Address
from acmems.names import Identifier

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


@pytest.fixture
def validator(bind: Bind, tmp_path: Path) -> DnsExec:
    hook = tmp_path / "hook"
    hook.write_text(HOOK.format(python=sys.executable), encoding="utf-8")
    hook.chmod(stat.S_IRWXU)
    seen = Propagation("authoritative", nameservers=[Address("127.0.0.1", bind.port)], timeout=10)
    return DnsExec("hook", [str(hook), str(bind.port)], seen)


def proof(name: str, mark: str) -> Proof:
    return Proof(Identifier.dns(name), mark, f"{mark}.thumbprint", lambda: None)


def test_a_program_adds_and_removes_values_one_by_one(bind: Bind, validator: DnsExec) -> None:
    """A name, its wildcard and another name are there, are seen by the wait, and go one by one."""
    base, wildcard = proof("www.example.org", "base"), proof("*.www.example.org", "wildcard")
    other = proof("other.example.org", "other")
    validator.present([base, wildcard, other])
    validator.wait([base, wildcard, other], SYSTEM.deadline(10), threading.Event())
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
