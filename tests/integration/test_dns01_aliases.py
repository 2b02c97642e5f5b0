"""Records at the end of CNAMEs, added by a program and through a provider, in zones of a real BIND."""

from __future__ import annotations

import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.query
import dns.update
import pytest
from tests.peers import Acmems, Bind, Pebble, Settings, curl_sign, free_port, make_key_and_csr, names_of
from tests.stub_powerdns import KEY, StubPowerDns

from acmems.challenges import VALIDATORS, Proof, Validator, Waiter
from acmems.challenges.context import ValidatorContext
from acmems.challenges.txt import txt_value
from acmems.exceptions import ValidatorUnavailable
from acmems.settings.findings import Finding
from acmems.settings.grammar import read_sections
from acmems.settings.options import Options
from acmems.system.clock import SYSTEM
from acmems.x509.identifiers import Identifier

RECORDS = """
_acme-challenge.www CNAME www.acme.example.net.
_acme-challenge.second CNAME www.acme.example.net.
_acme-challenge.near CNAME elsewhere
_acme-challenge.circle CNAME round
round CNAME _acme-challenge.circle
_acme-challenge.chain CNAME 1
*.wild CNAME www.acme.example.net.
_acme-challenge.own.wild CNAME www.acme.example.net.
""" + "".join(f"{number} CNAME {number + 1}\n" for number in range(1, 10))
TARGET = "www.acme.example.net"
ZONES = ("example.org", "acme.example.net", "example.net")
# As an administrator may have it: it goes by its arguments alone.
HOOK = """#!{python}
import os, sys
import dns.query, dns.update

port, action, name, value = sys.argv[1:]
zone = next(zone for zone in {zones!r} if name.endswith(zone))
message = dns.update.UpdateMessage(zone)
if action == "present":
    message.add(name + ".", 60, "TXT", value)
else:
    message.delete(name + ".", "TXT", value)
answer = dns.query.tcp(message, "127.0.0.1", timeout=10, port=int(port))
with open({seen!r}, "a") as file:
    print(action, name, os.environ["ACMEMS_NAME"], os.environ["ACMEMS_CHALLENGE"], file=file)
sys.exit(1 if answer.rcode() else 0)
"""
EXEC = """
[verification "dns"]
type = dns01-exec
command = {hook} {port}
timeout = 30
"""
PROVIDER = """
[verification "dns"]
type = dns01-provider
provider = powerdns
option = pdns-server = {url}
option = auth_token = {key}
zone = example.org
zone = acme.example.net
timeout = 30
"""
SEEN = """
nameserver = 127.0.0.1:{port}
propagation = authoritative
"""
BLOCK = """
[auth "all"]
all = yes
domain = **
domain = *.www.example.org
"""


class Api(StubPowerDns):
    """A provider whose zones BIND serves."""

    def __init__(self, bind: Bind) -> None:
        super().__init__("example.org", "acme.example.net")
        self.bind = bind

    def replace(self, zone: str, rrset: dict[str, Any]) -> None:
        """Replace all records of a name, in BIND too."""
        super().replace(zone, rrset)
        update = dns.update.UpdateMessage(zone)
        update.delete(rrset["name"], "TXT")
        for record in rrset["records"]:
            update.add(rrset["name"], 60, "TXT", record["content"])
        dns.query.tcp(update, "127.0.0.1", timeout=30, port=self.bind.port)


@pytest.fixture(scope="module")
def bind() -> Iterator[Bind]:
    """A name server for the zone of the names, and for that where their CNAMEs lead."""
    with Zones(*ZONES) as server:
        yield server


class Zones(Bind):
    """Has the CNAMEs in its first zone alone, and follows them to the others for whoever wants recursion."""

    def prepare(self) -> None:
        """Write the zones."""
        super().prepare()
        with (self.folder / "example.org.zone").open("a", encoding="utf-8") as zone:
            zone.write(RECORDS)
        file = self.folder / "named.conf"
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace("recursion no", "recursion yes"), encoding="utf-8")


@pytest.fixture
def hook(tmp_path: Path) -> Path:
    """A program that changes zones of BIND, and notes its calls."""
    path = tmp_path / "hook"
    text = HOOK.format(python=sys.executable, zones=ZONES, seen=str(tmp_path / "calls"))
    path.write_text(text, encoding="utf-8")
    path.chmod(stat.S_IRWXU)
    return path


@pytest.fixture(params=["exec", "provider"])
def section(request: pytest.FixtureRequest, bind: Bind, hook: Path) -> Iterator[str]:
    """A section of each type that has others change DNS."""
    if request.param == "exec":
        yield EXEC.format(hook=hook, port=bind.port)
        return
    with Api(bind) as api:
        yield PROVIDER.format(url=api.url, key=KEY)


def made(text: str) -> Validator:
    findings: list[Finding] = []
    (section,) = read_sections(text, "a.ini", findings)
    options = Options(section, findings)
    kind = VALIDATORS[str(options.required("type", str, meaning=""))]
    validator = kind.from_options("dns", options, ValidatorContext())
    options.finish()
    assert not findings
    return validator


def proof(name: str, mark: str = "one") -> Proof:
    return Proof(Identifier.dns(name), mark, f"{mark}.thumbprint", lambda: None)


def values(*marks: str) -> set[str]:
    return {txt_value(f"{mark}.thumbprint") for mark in marks}


def test_a_ca_finds_the_records(bind: Bind, section: str, tmp_path: Path) -> None:
    """A name, its wildcard and one that shares their target are certified, and nothing stays there."""
    names = ["www.example.org", "*.www.example.org", "second.example.org", "plain.example.org"]
    with Pebble(bind.address) as ca:
        settings = Settings.of(ca, tmp_path)
        settings.verification = section + SEEN.format(port=bind.port)
        settings.auth = BLOCK
        with Acmems(settings) as acmems:
            _, csr = make_key_and_csr(tmp_path, names)
            reply = curl_sign(acmems.sign_url, csr)
            assert reply.status == 200, (reply, acmems.log)
            assert names_of(reply.body) == set(names)
            assert "WARNING" not in acmems.log
    assert bind.texts(TARGET) == bind.texts("_acme-challenge.plain.example.org") == set()


def test_values_stand_where_the_cnames_lead(bind: Bind, section: str) -> None:
    """Values of several names come together at one target, are seen by the wait, and go one by one."""
    validator = made(section + SEEN.format(port=bind.port))
    assert isinstance(validator, Waiter)
    first, second, plain = (
        proof("www.example.org", "a"),
        proof("second.example.org", "b"),
        proof("x.example.org", "c"),
    )
    validator.present([first, second, plain])
    validator.wait([first, second, plain], SYSTEM.deadline(30), threading.Event())
    assert bind.texts(TARGET) == values("a", "b")
    assert bind.texts("_acme-challenge.x.example.org") == values("c")
    validator.withdraw([first])
    assert bind.texts(TARGET) == values("b")
    made(section + SEEN.format(port=bind.port)).withdraw([second, plain])
    assert bind.texts(TARGET) == bind.texts("_acme-challenge.x.example.org") == set()


@pytest.mark.parametrize("name", ["wild.example.org", "www.wild.example.org"])
def test_a_wildcard_is_no_delegation(bind: Bind, section: str, name: str) -> None:
    """Where a wildcard record makes the CNAME, the value stands at the name that the CA asks for."""
    validator = made(section + SEEN.format(port=bind.port))
    assert isinstance(validator, Waiter)
    validator.present([proof(name)])
    validator.wait([proof(name)], SYSTEM.deadline(30), threading.Event())
    assert bind.texts(f"_acme-challenge.{name}") == values("one")
    assert bind.texts(TARGET) == set()
    validator.withdraw([proof(name)])
    assert bind.texts(f"_acme-challenge.{name}") == set()


def test_a_cname_beside_a_wildcard_is_followed(bind: Bind, section: str) -> None:
    """A CNAME of its own is followed, even to where the wildcard beside it leads."""
    validator = made(section + SEEN.format(port=bind.port))
    validator.present([proof("own.wild.example.org")])
    assert bind.texts(TARGET) == values("one")
    validator.withdraw([proof("own.wild.example.org")])
    assert bind.texts(TARGET) == set()


@pytest.mark.threat("proving", "a CNAME in a circle or to others")
@pytest.mark.parametrize(
    ("name", "reason"),
    [("circle.example.org", "in a circle"), ("chain.example.org", "more than 8 CNAMEs")],
)
def test_no_way_is_told(bind: Bind, section: str, name: str, reason: str) -> None:
    """Circles and endless chains are errors that say so, and nothing is to be withdrawn then."""
    validator = made(section + SEEN.format(port=bind.port))
    with pytest.raises(ValidatorUnavailable, match=reason) as caught:
        validator.present([proof(name)])
    assert f"_acme-challenge.{name}" in str(caught.value)
    assert caught.value.advice
    validator.withdraw([proof(name)])


@pytest.mark.threat("proving", "a CNAME in a circle or to others")
def test_zones_that_are_not_listed_are_refused(bind: Bind, section: str) -> None:
    """With `zone`, a CNAME that leads elsewhere is refused, and so are names elsewhere."""
    only = section.replace("zone = acme.example.net\n", "")
    if "zone = " not in only:
        only += "zone = example.org\n"
    validator = made(only + SEEN.format(port=bind.port))
    with pytest.raises(ValidatorUnavailable, match=r"its CNAME leads to www\.acme\.example\.net, in none of"):
        validator.present([proof("www.example.org")])
    with pytest.raises(ValidatorUnavailable, match="it is in none of the zones"):
        validator.present([proof("host.example.net")])
    validator.present([proof("near.example.org")])
    assert bind.texts("elsewhere.example.org") == values("one")
    validator.withdraw([proof("near.example.org")])


@pytest.mark.threat("proving", "a CNAME in a circle or to others")
def test_a_provider_without_zones_changes_the_zone_of_the_name(bind: Bind) -> None:
    """Without `zone`, a provider's records go into the zone of their own name, along CNAMEs in it."""
    with Api(bind) as api:
        text = PROVIDER.format(url=api.url, key=KEY)
        text = text.replace("zone = example.org\n", "").replace("zone = acme.example.net\n", "")
        validator = made(text + SEEN.format(port=bind.port))
        proofs = [proof("near.example.org"), proof("www.wild.example.org")]
        validator.present(proofs)
        assert bind.texts("elsewhere.example.org") == values("one")
        assert bind.texts("_acme-challenge.www.wild.example.org") == values("one")
        validator.withdraw(proofs)
        with pytest.raises(ValidatorUnavailable, match=r"in the zone acme\.example\.net that is not its own"):
            validator.present([proof("www.example.org")])


def test_a_program_hears_both_names(bind: Bind, hook: Path, tmp_path: Path) -> None:
    """Argument and ACMEMS_NAME are where the record belongs, ACMEMS_CHALLENGE is what the CA asks for."""
    text = EXEC.format(hook=hook, port=bind.port) + SEEN.format(port=bind.port)
    made(text).present([proof("www.example.org")])
    made(text).withdraw([proof("www.example.org")])
    calls = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
    assert calls == [
        f"{action} {TARGET} {TARGET} _acme-challenge.www.example.org" for action in ("present", "withdraw")
    ]


def test_cnames_are_not_followed_where_that_is_configured(bind: Bind, hook: Path, tmp_path: Path) -> None:
    """With `follow-cnames = no`, a program gets the name that the CA asks for, and no server is asked."""
    hook.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n', encoding="utf-8")
    dead = f"nameserver = 127.0.0.1:{free_port()}\nfollow-cnames = no\n"
    made(EXEC.format(hook=hook, port=bind.port) + dead).present([proof("www.example.org")])
    (call,) = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
    assert call.split()[1:3] == ["present", "_acme-challenge.www.example.org"]


def test_where_nobody_tells_a_record_goes_to_its_own_name(
    bind: Bind, hook: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A site whose firewall lets no question through has its records added as ever, with a warning."""
    hook.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n', encoding="utf-8")
    dead = f"resolver = 127.0.0.1:{free_port()}\n"
    made(EXEC.format(hook=hook, port=bind.port) + dead).present(
        [proof("www.example.org"), proof("x.example.org")]
    )
    calls = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
    assert {call.split()[2] for call in calls} == {
        "_acme-challenge.www.example.org",
        "_acme-challenge.x.example.org",
    }
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "(and of 1 more)" in told
    assert "follow-cnames = no" in told


def test_a_resolver_with_authority_of_its_own_tells(bind: Bind, hook: Path) -> None:
    """Where name servers cannot be reached, a resolver is asked for what it has authority for itself."""
    text = EXEC.format(hook=hook, port=bind.port) + f"resolver = {bind.address}\n"
    made(text).present([proof("www.example.org")])
    assert bind.texts(TARGET) == values("one")
    made(text).withdraw([proof("www.example.org")])
    assert bind.texts(TARGET) == set()


def test_a_name_in_a_zone_that_may_not_be_changed(bind: Bind, section: str) -> None:
    """Of a name in none of the zones, whose CNAME leads into one, the resolver may be asked."""
    only = section.replace("zone = example.org\n", "")
    if "zone = " not in only:
        only += "zone = acme.example.net\n"
    validator = made(only + f"resolver = {bind.address}\n")
    validator.present([proof("www.wild.example.org"), proof("www.example.org")])
    assert bind.texts(TARGET) == values("one")
    validator.withdraw([proof("www.wild.example.org"), proof("www.example.org")])
    assert bind.texts(TARGET) == set()
