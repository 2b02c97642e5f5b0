"""What the documentation shows for forwarding tls-alpn-01, each run exactly as documented."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from tests.peers import (
    CALM,
    Acmems,
    ChallTestSrv,
    Pebble,
    PeerFailed,
    Settings,
    curl,
    curl_sign,
    free_port,
    make_key_and_csr,
    names_of,
    run,
)
from tests.peers.forwarders import Forwarder, HAProxy, NginxStream
from tests.tls_server import ANSWERING, Server

PAGE = Path(__file__).parents[2] / "docs" / "forwarding.md"
BY_TLS = PAGE.read_text(encoding="utf-8").partition("\n## By TLS")[2]
HAPROXY, NGINX = re.findall(r"^```text\n(.*?)^```$", BY_TLS, re.MULTILINE | re.DOTALL)
VERIFICATION = '[verification "tls"]\ntype = tls-alpn01\nlistener = 127.0.0.1:{port}\n'
NAME = "www.example.org"
REPLACED = {
    HAProxy: {"bind :443\n": "bind 127.0.0.1:{port}\n"},
    NginxStream: {"listen 443;": "listen 127.0.0.1:{port};", "listen [::]:443;": "listen 127.0.0.2:{port};"},
}


def on_loopback(kind: type[Forwarder], text: str, port: int, acmems: int, web: int) -> Forwarder:
    """Return the documented program with its addresses and ports replaced, and nothing else."""
    replacements = {
        **REPLACED[kind],
        "192.0.2.13:1443": f"127.0.0.1:{acmems}",
        "127.0.0.1:8443": f"127.0.0.1:{web}",
    }
    for old, new in replacements.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new.format(port=port))
    return kind(port, text)


@pytest.mark.parametrize(
    ("kind", "text"), [(HAProxy, HAPROXY), (NginxStream, NGINX)], ids=["haproxy", "nginx"]
)
def test_one_port_serves_the_ca_and_the_rest(
    dns: ChallTestSrv, tmp_path: Path, kind: type[Forwarder], text: str
) -> None:
    """As documented, a name is validated through the forwarder, and the rest reaches the web server."""
    port = free_port()
    with contextlib.ExitStack() as stack:
        ca = stack.enter_context(Pebble(dns.address, env=CALM))
        settings = Settings.of(ca, tmp_path)
        settings.verification = VERIFICATION.format(port=port)
        acmems = stack.enter_context(Acmems(settings))
        web = stack.enter_context(contextlib.closing(Server(tmp_path, ANSWERING)))
        stack.enter_context(on_loopback(kind, text, ca.tls_port, port, web.origin.port))
        _, csr = make_key_and_csr(tmp_path, [NAME])
        reply = curl_sign(acmems.sign_url, csr)
        assert reply.status == 200, reply.text
        assert names_of(reply.body) == {NAME}
        assert curl(f"https://127.0.0.1:{ca.tls_port}/", "-k").text == "ok"
        asked = ["-connect", f"127.0.0.1:{ca.tls_port}", "-servername", NAME, "-alpn", "acme-tls/1"]
        with pytest.raises(PeerFailed, match=r"unrecognized name.*SSL alert number 112"):
            run("openssl", "s_client", *asked)
