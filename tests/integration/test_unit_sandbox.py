"""Programs and DNS providers under the system call filters of the systemd unit."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.peers import (
    Acmems,
    Bind,
    ChallTestSrv,
    Pebble,
    Reply,
    Settings,
    curl_sign,
    environment,
    make_key_and_csr,
    names_of,
    program,
    sandbox,
)
from tests.peers.process import FETCHED
from tests.stub_powerdns import KEY, StubPowerDns

UNIT = Path(__file__).parents[2] / "contrib" / "acmems.service"
HOOKS = UNIT.with_name("acmems.service.d") / "hooks.conf"
SHELL = """#!/bin/bash
# What hooks are made of: a pipe, a here document, a temporary file, limits, other programs.
set -eu
temporary=$(mktemp)
trap 'rm -f "$temporary"' EXIT
ulimit -n >/dev/null
{exchange}
"""
EXCHANGE = """exec {python} - "$@" <<'END'
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
END"""
MACHINE_CODE = "import mmap\nmmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)\n"
INTERFACES = "import socket\nsocket.if_nameindex()\n"
PROVIDER = """
[verification "provider"]
type = dns01-provider
provider = powerdns
zone = example.org
option = pdns-server={url}
option = auth_token={key}
propagation = none
"""
HOOK = '[verification "hook"]\ntype = dns01-exec\ncommand = {hook} {port}\ntimeout = 30\n'
BLOCK = '[auth "all"]\nall = yes\ndomain = www.example.org\ndomain = *.www.example.org\n'


class Confined(Acmems):
    """`acmems serve` under the filters of units."""

    def __init__(self, settings: Settings, *units: Path) -> None:
        super().__init__(settings)
        self.units = units

    def command(self) -> Sequence[str]:
        """Return the command line to run."""
        service: dict[str, list[str]] = {}
        for unit in self.units:
            for key, value in re.findall(r"(?m)^([A-Za-z]+)=(.*)$", unit.read_text(encoding="ascii")):
                service.setdefault(key, []).append(value)
        libraries = ":".join(map(str, FETCHED.glob("usr/lib/*/systemd")))
        env = environment()
        env["LD_LIBRARY_PATH"] = f"{env['LD_LIBRARY_PATH']}:{libraries}"
        rules = self.folder / "rules.json"
        rules.write_text(sandbox.rules_of(service, program("systemd-analyze"), env), encoding="utf-8")
        return [sys.executable, str(sandbox.__file__), str(rules), *super().command()]


def ask(folder: Path, hook: str, *units: Path) -> tuple[Reply, str]:
    """Have a name and its wildcard certified through a hook; return the answer and the log."""
    path = folder / "hook"
    path.write_text(hook, encoding="utf-8")
    path.chmod(0o700)
    _, csr = make_key_and_csr(folder, ["www.example.org", "*.www.example.org"])
    with Bind("example.org") as bind, Pebble(bind.address) as ca:
        settings = Settings.of(ca, folder)
        settings.verification = HOOK.format(hook=path, port=bind.port)
        settings.auth = BLOCK
        with Confined(settings, *units) as acmems:
            return curl_sign(acmems.sign_url, csr), acmems.log


def test_a_hook_of_shell_and_python(tmp_path: Path) -> None:
    """The unit leaves ordinary programs what they need, and the server as well."""
    hook = SHELL.format(exchange=EXCHANGE.format(python=sys.executable))
    reply, log = ask(tmp_path, hook, UNIT)
    assert reply.status == 200, log
    assert names_of(reply.body) == {"www.example.org", "*.www.example.org"}


def test_a_dns_provider(dns: ChallTestSrv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that speaks to a provider works under the unit, too."""
    changed: list[str] = []
    replace = StubPowerDns.replace

    def noted(stub: StubPowerDns, zone: str, rrset: dict[str, Any]) -> None:
        changed.append(rrset["name"])
        replace(stub, zone, rrset)

    monkeypatch.setattr(StubPowerDns, "replace", noted)
    _, csr = make_key_and_csr(tmp_path, ["www.example.org"])
    with StubPowerDns("example.org") as stub, Pebble(dns.address, env={"PEBBLE_VA_ALWAYS_VALID": "1"}) as ca:
        settings = Settings.of(ca, tmp_path)
        settings.verification = PROVIDER.format(url=stub.url, key=KEY)
        settings.auth = BLOCK
        with Confined(settings, UNIT) as acmems:
            reply = curl_sign(acmems.sign_url, csr)
            assert reply.status == 200, acmems.log
    assert set(changed) == {"_acme-challenge.www.example.org."}


@pytest.mark.parametrize("needs", [MACHINE_CODE, INTERFACES], ids=["machine code", "interfaces"])
def test_what_the_drop_in_is_for(tmp_path: Path, needs: str) -> None:
    """What the unit keeps a program from, the drop-in allows."""
    for name, units, status in (("without", (UNIT,), 421), ("with", (UNIT, HOOKS), 200)):
        folder = tmp_path / name
        folder.mkdir()
        exchange = EXCHANGE.format(python=sys.executable).replace("import sys\n", f"{needs}import sys\n")
        reply, log = ask(folder, SHELL.format(exchange=exchange), *units)
        assert reply.status == status, log
