"""nginx in front of acmems, as documented: TLS for clients, who are known by their own addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers import Acmems, Nginx, Pebble, Settings, curl, free_port, make_key_and_csr, names_of, run

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
SECTION = PAGE.read_text(encoding="utf-8").partition("\n## TLS in front of acmems\n")[2].partition("\n## ")[0]
[SITE] = re.findall(r"(?ms)^```nginx\n(.*?)^```$", SECTION)
[OPTIONS] = re.findall(r"(?ms)^```ini\n(.*?)^```$", SECTION)
BLOCKS = """
[auth "known"]
ip = 127.0.0.2
domain = www.example.org
"""
SUBJECT = ("-subj", "/CN=acmems.example.org", "-addext", "subjectAltName=DNS:acmems.example.org")


@pytest.fixture
def url(pebble: Pebble, tmp_path: Path) -> Iterator[tuple[str, Acmems]]:
    """The documented nginx before a server with the documented options, on free ports of loopback."""
    settings = Settings.of(pebble, tmp_path)
    settings.auth = BLOCKS
    kept = [line for line in OPTIONS.splitlines() if line.startswith("trusted-proxy")]
    assert len(kept) == 1
    settings.mgmt = kept[0]
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "front.key")
    run("openssl", "req", "-x509", *key, "-out", "front.pem", *SUBJECT, folder=tmp_path)
    port = free_port()
    site = SITE
    for old, new in {
        "listen 1314 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "listen [::]:1314 ssl;": "",
        "/etc/ssl/acmems/host.pem": str(tmp_path / "front.pem"),
        "/etc/ssl/acmems/host.key": str(tmp_path / "front.key"),
        "127.0.0.1:1313": f"127.0.0.1:{settings.port}",
    }.items():
        assert site.count(old) == 1, old
        site = site.replace(old, new)
    with Acmems(settings) as acmems, Nginx(port, sites=site):
        yield f"https://acmems.example.org:{port}/sign", acmems


def ask(url: str, folder: Path, address: str, *more: str) -> tuple[int, bytes]:
    """Send the CSR by TLS from an address of this machine, and check who answers."""
    port = url.rpartition(":")[2].removesuffix("/sign")
    reply = curl(
        *(url, "--resolve", f"acmems.example.org:{port}:127.0.0.1", "--cacert", str(folder / "front.pem")),
        *("--interface", address, "--data-binary", f"@{folder / 'host.csr'}", *more),
    )
    return reply.status, reply.body


def test_clients_are_known_by_their_own_address(url: tuple[str, Acmems], tmp_path: Path) -> None:
    """Who may ask is decided by the address that nginx sees, not by what a client claims."""
    address, _ = url
    _, csr = make_key_and_csr(tmp_path, ["www.example.org"])
    csr.rename(tmp_path / "host.csr")
    status, chain = ask(address, tmp_path, "127.0.0.2")
    assert (status, names_of(chain)) == (200, {"www.example.org"})
    assert ask(address, tmp_path, "127.0.0.3")[0] == 403
    assert ask(address, tmp_path, "127.0.0.3", "--header", "X-Forwarded-For: 127.0.0.2")[0] == 403


def test_a_refusal_comes_through_whole(url: tuple[str, Acmems], tmp_path: Path) -> None:
    """The line that says what to do reaches the client as acmems sends it."""
    (tmp_path / "host.csr").write_text("no CSR")
    status, answer = ask(url[0], tmp_path, "127.0.0.2")
    assert status == 415
    assert b"send a PEM certificate request" in answer
