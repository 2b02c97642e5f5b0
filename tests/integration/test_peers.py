"""The peers themselves: they start, serve, start again and end."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import dns.query
import dns.rcode
import dns.update
import pytest
from tests.peers import Bind, ChallTestSrv, Nginx, Pebble, PeerFailed, curl, free_port, make_key_and_csr, run


def test_pebble_serves_a_directory(pebble: Pebble) -> None:
    """Pebble answers over HTTPS that its own certificate file vouches for."""
    reply = curl(pebble.directory_url, "--cacert", pebble.ca_file)
    assert reply.status == 200
    assert b"newOrder" in reply.body
    assert pebble.root_pem().startswith("-----BEGIN CERTIFICATE-----")


def test_pebble_starts_again_where_it_was(dns: ChallTestSrv) -> None:
    """A CA that was restarted serves the same URL, with another root: it forgets everything."""
    with Pebble(dns.address) as ca:
        url, root = ca.directory_url, ca.root_pem()
        ca.restart()
        assert ca.directory_url == url
        assert ca.root_pem() != root


def test_a_failed_start_shows_the_output() -> None:
    """A peer that cannot start says why, in its own words."""
    with pytest.raises(PeerFailed, match="none such"), Pebble(options={"keyAlgorithm": "none such"}):
        pass


def test_bind_takes_updates() -> None:
    """A record that is sent to BIND by dynamic update can be asked for."""
    with Bind("example.org", "example.net") as server:
        update = dns.update.UpdateMessage("example.net")
        update.add("_acme-challenge.www", 60, "TXT", "proof")
        answer = dns.query.tcp(update, "127.0.0.1", timeout=5, port=server.port)
        assert answer.rcode() == dns.rcode.NOERROR
        assert server.texts("_acme-challenge.www.example.net") == {"proof"}
        assert server.texts("_acme-challenge.www.example.org") == set()


@pytest.fixture
def upstream() -> Iterator[int]:
    """The port of a web server that answers with path and host of a request."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"{self.path} at {self.headers['Host']}".encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_nginx_forwards_challenges(upstream: int) -> None:
    """Nginx passes challenges on, with their host, and nothing else."""
    with Nginx(free_port(), upstream) as web:
        root = f"http://127.0.0.1:{web.port}"
        reply = curl(f"{root}/.well-known/acme-challenge/token", "-H", "Host: www.example.org")
        assert reply.text == "/.well-known/acme-challenge/token at www.example.org"
        assert curl(f"{root}/other").status == 404


@pytest.mark.parametrize("kind", ["ec", "ec384", "rsa"])
def test_requests_carry_names_as_told(tmp_path: Path, kind: str) -> None:
    """Openssl writes the names where a test wants them: subject, subjectAltName, or both."""
    text = ("openssl", "req", "-noout", "-verify", "-text", "-in")
    _, csr = make_key_and_csr(tmp_path, ["a.example.org", "b.example.org"], kind=kind)
    assert b"DNS:a.example.org, DNS:b.example.org" in run(*text, csr)
    assert b"CN = " not in run(*text, csr)
    _, csr = make_key_and_csr(tmp_path, ["a.example.org"], kind=kind, san=False)
    assert b"CN = a.example.org" in run(*text, csr)
    assert b"DNS:" not in run(*text, csr)
