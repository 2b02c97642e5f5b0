"""The nginx configurations that the documentation shows, each run exactly as documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.peers import (
    Acmems,
    ChallTestSrv,
    Nginx,
    Pebble,
    Settings,
    curl,
    curl_sign,
    free_port,
    make_key_and_csr,
    names_of,
)

PAGE = Path(__file__).parents[2] / "docs" / "forwarding.md"
SINGLE, PAIR = re.findall(
    r"^```nginx\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)
NAME = "www.example.org"


def on_loopback(text: str, port: int, **upstreams: int) -> str:
    """Return a configuration with its addresses and ports replaced, and nothing else."""
    replacements = {
        "listen 80;": f"listen 127.0.0.1:{port};",
        "listen [::]:80;": f"listen 127.0.0.2:{port};",
        **{f"192.0.2.{host.lstrip('_')}:1380": f"127.0.0.1:{to}" for host, to in upstreams.items()},
    }
    for old, new in replacements.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@pytest.fixture
def ca(dns: ChallTestSrv) -> Pebble:
    """A CA whose http-01 port is nginx's; not started yet."""
    return Pebble(dns.address)


def test_single_server(ca: Pebble, tmp_path: Path) -> None:
    """With the documented server block, a name is validated through nginx and a certificate comes back."""
    with ca:
        settings = Settings.of(ca, tmp_path)
        settings.challenge_port = free_port()
        site = on_loopback(SINGLE, ca.http_port, _13=settings.challenge_port)
        with Nginx(ca.http_port, sites=site), Acmems(settings) as acmems:
            _, csr = make_key_and_csr(tmp_path, [NAME])
            reply = curl_sign(acmems.sign_url, csr)
            assert reply.status == 200, reply.text
            assert names_of(reply.body) == {NAME}


def test_rest_is_redirected(tmp_path: Path, pebble: Pebble) -> None:
    """The documented server block answers the documented test request from acmems, and redirects the rest."""
    port, settings = free_port(), Settings.of(pebble, tmp_path)
    settings.challenge_port = free_port()
    site = on_loopback(SINGLE, port, _13=settings.challenge_port)
    with Nginx(port, sites=site), Acmems(settings):
        host = ("-H", f"Host: {NAME}")
        reply = curl(f"http://127.0.0.1:{port}/.well-known/acme-challenge/test", *host)
        assert (reply.status, reply.text) == (404, "there is no such challenge here\n")
        reply = curl(f"http://127.0.0.1:{port}/a?b=c", *host)
        assert (reply.status, reply.headers["Location"]) == (301, f"https://{NAME}/a?b=c")


def test_two_servers(ca: Pebble, tmp_path: Path) -> None:
    """With the documented upstream of two servers, each of them gets a certificate."""
    with ca:
        both = []
        for number in (13, 14):
            (tmp_path / str(number)).mkdir()
            settings = Settings.of(ca, tmp_path / str(number))
            settings.challenge_port = free_port()
            both.append(settings)
        site = on_loopback(PAIR, ca.http_port, _13=both[0].challenge_port, _14=both[1].challenge_port)
        with Nginx(ca.http_port, sites=site), Acmems(both[0]) as first, Acmems(both[1]) as second:
            _, csr = make_key_and_csr(tmp_path, [NAME])
            for acmems in (first, second):
                reply = curl_sign(acmems.sign_url, csr)
                assert reply.status == 200, reply.text
                assert names_of(reply.body) == {NAME}
