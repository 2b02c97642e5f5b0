"""`acmems check --records` against real DNS: missing, then added, then in place."""

from __future__ import annotations

import re
from pathlib import Path

import dns.query
import dns.update
from tests.peers import Bind, ChallTestSrv, Settings, free_port, run_acmems

SERVER = """
[verification "dns"]
type = dns01-server
zone = acme.example.org
ns = ns.acme.example.org 127.0.0.1
listener =
"""
PERSIST = """
[verification "persist"]
type = dns-persist01
resolver = {dns}
"""
AUTH = """
[auth "anyone"]
all = yes
domain = www.example.org
domain = *.www.example.org
"""
ALIAS = "_acme-challenge.www.example.org. CNAME www.example.org.acme.example.org."


class Resolving(Bind):
    """A resolver that has two zones of its own, and logs what it is asked for."""

    def prepare(self) -> None:
        """Allow recursion."""
        super().prepare()
        file = self.folder / "named.conf"
        text = file.read_text(encoding="utf-8").replace("recursion no;", "recursion yes; querylog yes;")
        file.write_text(text, encoding="utf-8")


def config_of(settings: Settings) -> Path:
    """Write the configuration; return its path."""
    file = settings.folder / "records.ini"
    file.write_text(settings.text(), encoding="utf-8")
    return file


def put(server: Bind, name: str, target: str) -> None:
    """Let a name be a CNAME to the target."""
    update = dns.update.UpdateMessage("example.org")
    update.replace(f"{name}.", 60, "CNAME", target)
    dns.query.tcp(update, "127.0.0.1", timeout=30, port=server.port)


def test_a_delegated_zone(settings: Settings) -> None:
    """A CNAME is missing until it is added, one that leads elsewhere is told, and the exit code says it."""
    settings.verification, settings.auth = SERVER, AUTH
    config = config_of(settings)
    with Resolving("example.org", "acme.example.org") as server:
        command = ("check", "--records", "--resolver", server.address, config)
        before = run_acmems(*command)
        assert before.returncode == 1
        first, *lines = before.stdout.splitlines()
        assert first.startswith("; ok: ")
        assert lines[:3] == [
            "acme.example.org. NS ns.acme.example.org. ; in place",
            "ns.acme.example.org. A 127.0.0.1 ; in place",
            f"{ALIAS} ; missing",
        ]
        put(server, "_acme-challenge.www.example.org", "other.example.org.")
        wrong = run_acmems(*command)
        assert wrong.returncode == 1
        assert f"{ALIAS} ; differs: other.example.org." in wrong.stdout
        put(server, "_acme-challenge.www.example.org", "www.example.org.acme.example.org.")
        after = run_acmems(*command)
        assert f"{ALIAS} ; in place" in after.stdout
        assert after.returncode == 0, after.stdout
        asked = re.findall(r"query: (\S+) IN (\S+) ([+-])", server.log)
        names = {(host, recursive) for host, _, recursive in asked if host.startswith("_acme-challenge.")}
        assert names == {("_acme-challenge.www.example.org", "-")}


def test_without_a_resolver_nothing_is_claimed(settings: Settings) -> None:
    """Without a resolver that answers, nothing is claimed of the records."""
    settings.verification, settings.auth = SERVER, AUTH
    done = run_acmems("check", "--records", "--resolver", f"127.0.0.1:{free_port()}", config_of(settings))
    assert done.returncode == 1
    assert f"{ALIAS} ; unknown: resolver 127.0.0.1:" in done.stdout


def test_a_record_that_stays(settings: Settings, dns: ChallTestSrv) -> None:
    """First the account, then the record as printed, then all is in place."""
    settings.verification, settings.auth = PERSIST.format(dns=dns.address), AUTH
    config = config_of(settings)
    early = run_acmems("check", "--records", config)
    assert early.returncode == 1
    assert "acmems account register" in early.stdout
    assert run_acmems("account", "register", config).returncode == 0
    before = run_acmems("check", "--records", config)
    assert before.returncode == 1
    (line,) = [line for line in before.stdout.splitlines() if line.endswith(" ; missing")]
    host, kind, quoted = line.removesuffix(" ; missing").split(" ", 2)
    assert (host, kind) == ("_validation-persist.www.example.org.", "TXT")
    dns.post("set-txt", host=host, value=quoted.strip('"'))
    try:
        after = run_acmems("check", "--records", config)
        assert f"{host} TXT {quoted} ; in place" in after.stdout
        assert after.returncode == 0, after.stdout
        elsewhere = run_acmems("check", "--records", "--resolver", f"127.0.0.1:{free_port()}", config)
        assert f"{host} TXT {quoted} ; unknown: " in elsewhere.stdout
    finally:
        dns.post("clear-txt", host=host)


def test_without_the_option(settings: Settings) -> None:
    """A plain check asks no DNS and prints its one line as ever."""
    settings.verification, settings.auth = SERVER, AUTH
    config = config_of(settings)
    done = run_acmems("check", config)
    assert (done.returncode, done.stdout) == (0, f"ok: {config}: 1 auth block\n")
