"""The commands and configurations for ACME clients that the documentation shows, each run as documented."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acme_front_end import AcmeFrontEnd
from tests.peers import CALM, Acmems, Pebble, Settings, environment, free_port, names_of
from tests.peers.acme_clients import Directory
from tests.peers.acme_clients.caddy import CaddyServer
from tests.peers.acme_clients.haproxy import HAProxyServer
from tests.peers.acme_clients.uacme import write_library
from tests.peers.ca import make_tls_certificate
from tests.peers.process import FETCHED, apart

PAGE = (Path(__file__).parents[2] / "docs" / "acme-server.md").read_text(encoding="utf-8")
NAMES = {"a.build.example.org", "a.room.example.org"}
FENCED = re.compile(r"^```(?P<kind>[a-z]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
FENCES = [(match["kind"], match["text"]) for match in FENCED.finditer(PAGE)]
COMMANDS = [text for kind, text in FENCES if kind == "console" and "acme.example.org" in text]
DEHYDRATED = "".join(text for _, text in FENCES if text.startswith("$ dehydrated"))
CHAINS = {
    "certbot": "certbot/live/a.build.example.org/fullchain.pem",
    "lego": ".lego/certificates/a.build.example.org.crt",
    "uacme": "uacme/a.build.example.org/cert.pem",
    "acme.sh": ".acme.sh/a.build.example.org_ecc/fullchain.cer",
    "dehydrated": "certs/a.build.example.org/fullchain.pem",
    "openssl": "a.pem",
}
"""Where clients keep the chain, by the first program that their commands name."""


@pytest.fixture(scope="module")
def ca() -> Iterator[Pebble]:
    """A CA that believes everything."""
    with Pebble(env={**CALM, "PEBBLE_VA_ALWAYS_VALID": "1"}) as running:
        yield running


@pytest.fixture(scope="module")
def directory(ca: Pebble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Directory]:
    """A server with the auth blocks of the page."""
    settings = Settings.of(ca, tmp_path_factory.mktemp("acmems"))
    [documented] = [text for _, text in FENCES if text.startswith("[acme]")]
    settings.auth = documented[documented.index("[auth ") :].replace("198.51.100.0/24", "127.0.0.1")
    front_end = AcmeFrontEnd(settings.folder, settings)
    with Acmems(settings):
        yield Directory(f"{front_end.url}/directory", front_end.chain)


def adapted(text: str, directory: Directory) -> str:
    """Return what the page shows, for this server: with its URL and key, and nothing else replaced."""
    [key] = re.findall(r"^eab-hmac-key = (\S+)$", PAGE, re.MULTILINE)
    text = text.replace("https://acme.example.org:14000/directory", directory.url)
    return re.sub(r"\bKEY\b", key, text)


@pytest.fixture
def machine(directory: Directory, tmp_path: Path) -> dict[str, str]:
    """The environment of a machine that has the clients and trusts the server, as the page says."""
    programs = tmp_path / "bin"
    programs.mkdir()
    acme_sh = FETCHED / "usr" / "share" / "acme.sh" / "acme.sh"
    uacme = " ".join(map(str, apart("uacme", tmp_path)))
    for name, command in {
        "acme.sh": f"sh {acme_sh}" if acme_sh.exists() else "exec acme.sh",
        "uacme": f"{uacme} --confdir uacme",
    }.items():
        (programs / name).write_text(f'#!/bin/sh\n{command} "$@"\n', encoding="utf-8")
        (programs / name).chmod(0o755)
    write_library(tmp_path, directory.ca_file)
    folders = "\n".join(f"{each}-dir = {tmp_path}/certbot" for each in ("config", "work", "logs"))
    (tmp_path / "letsencrypt").mkdir()
    (tmp_path / "letsencrypt" / "cli.ini").write_text(folders, encoding="utf-8")
    path = [str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]
    trusted = dict.fromkeys(re.findall(r"`(\w+)` in its environment", PAGE), str(directory.ca_file))
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    given = environment(home | trusted)
    return given | {"PATH": os.pathsep.join([*path, given["PATH"]])}


@pytest.mark.parametrize("commands", [*COMMANDS, DEHYDRATED], ids=lambda text: text.split()[1])
def test_commands(commands: str, directory: Directory, machine: dict[str, str], tmp_path: Path) -> None:
    """The commands as they stand there bring a chain."""
    [config] = [text for kind, text in FENCES if kind == "sh"]
    (tmp_path / "config").write_text(adapted(config, directory), encoding="utf-8")
    script = re.sub(r"^\$ ", "", adapted(commands, directory), flags=re.MULTILINE)
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=tmp_path,
        env=machine,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    chain = (tmp_path / CHAINS[script.split()[0]]).read_bytes()
    assert len(names_of(chain) & NAMES) == 1


def test_caddy(directory: Directory, tmp_path: Path) -> None:
    """With the global options of the page, Caddy serves a site with a certificate from acmems."""
    [options] = [text for _, text in FENCES if "acme_ca_root" in text]
    text = adapted(options, directory).replace("/etc/caddy/acmems.pem", str(directory.ca_file))
    ports = f"{{\n    admin off\n    http_port {free_port()}\n    https_port {free_port()}\n"
    site = "\nhttps://a.build.example.org {\n    bind 127.0.0.1\n}\n"
    with CaddyServer(text.replace("{\n", ports, 1) + site, tmp_path, "caddyfile") as server:
        assert names_of(server.obtain("a.build.example.org", tmp_path)) == {"a.build.example.org"}


def test_haproxy(directory: Directory, tmp_path: Path) -> None:
    """With the sections of the page, HAProxy gets its certificate from acmems."""
    [sections] = [text for _, text in FENCES if "crt-store" in text]
    make_tls_certificate(tmp_path / "a.pem", tmp_path / "key.pem")
    with (tmp_path / "a.pem").open("a", encoding="ascii") as certificate:
        certificate.write((tmp_path / "key.pem").read_text(encoding="ascii"))
    text = adapted(sections, directory).replace("/etc/haproxy/acmems.pem", str(directory.ca_file))
    text = text.replace("/etc/haproxy", str(tmp_path))
    text = text.replace("global\n", f"global\n    stats socket {tmp_path}/control level admin\n", 1)
    text += "\ndefaults\n    timeout server 60s\n    timeout connect 5s\n    timeout client 60s\n"
    text += f"frontend site\n    bind {tmp_path}/site ssl crt @/a\n"
    with HAProxyServer(text, tmp_path) as server:
        assert names_of(server.renew("@/a")) == {"a.room.example.org"}
