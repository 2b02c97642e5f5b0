"""The ACME servers that are compared, each with a CA of its own, HTTPS, and its state on the same disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.peers import CALM, Acmems, Pebble, Peer, PeerFailed, free_port, run_acmems
from tests.peers.ca import fetch, make_tls_certificate
from tests.peers.process import ROOT, program

ACME2CERTIFIER = ROOT / ".cache" / "acme2certifier" / "bin" / "python"
WORKERS = 5
"""Processes of acme2certifier: as many as its own configuration for uWSGI has."""


class AcmeServer(Peer):
    """A server that speaks ACME.

    Attributes:
        directory_url: its ACME directory.
        ca_file: what its HTTPS is to be checked with.
    """

    directory_url: str
    ca_file: Path

    def prepare(self) -> None:
        """Choose a port and make a certificate for HTTPS."""
        self.port = free_port()
        self.ca_file = self.folder / "tls.pem"
        make_tls_certificate(self.ca_file, self.folder / "tls.key")

    def ready(self) -> bool:
        """Tell whether it answers."""
        return bool(fetch(self.directory_url, self.ca_file))


def _caddy(port: int, dns_port: int) -> dict[str, Any]:
    """Return a configuration of Caddy with nothing but an ACME server, for its own format."""
    acme = {"handler": "acme_server", "challenges": ["dns-01"], "resolvers": [f"127.0.0.1:{dns_port}"]}
    server = {
        "listen": [f"127.0.0.1:{port}"],
        "routes": [{"handle": [acme]}],
        "tls_connection_policies": [{}],
        "automatic_https": {"disable": True},
    }
    files = {"certificate": "tls.pem", "key": "tls.key"}
    return {
        "admin": {"disabled": True, "config": {"persist": False}},
        "apps": {
            "http": {"servers": {"acme": server}},
            "tls": {"certificates": {"load_files": [files]}},
            # Without this, a Caddy that is run by root has the whole machine trust its root.
            "pki": {"certificate_authorities": {"local": {"install_trust": False}}},
        },
    }


class CaddyServer(AcmeServer):
    """Caddy's `acme_server`, which proves names by dns-01: for http-01 it would need port 80.

    Args:
        dns_port: where its resolver listens.
    """

    name = "Caddy"

    def __init__(self, dns_port: int) -> None:
        super().__init__()
        self._dns_port = dns_port

    def prepare(self) -> None:
        """Write the configuration."""
        super().prepare()
        self.env.update(XDG_DATA_HOME=str(self.folder), HOME=str(self.folder))
        self.directory_url = f"https://127.0.0.1:{self.port}/acme/local/directory"
        text = json.dumps(_caddy(self.port, self._dns_port))
        (self.folder / "caddy.json").write_text(text, encoding="utf-8")

    def command(self) -> Sequence[str]:
        """Return the command line to run."""
        return [program("caddy"), "run", "--config", "caddy.json"]


CONFIGURATION = """
[DEFAULT]
debug: False

[CAhandler]
handler_module: acme2certifier.cahandlers.openssl_ca_handler
issuing_ca_key: {folder}/ca.key
issuing_ca_cert: {folder}/ca.pem
issuing_ca_crl: {folder}/crl.pem
cert_validity_days: 30
cert_save_path: {folder}/certificates

[DBhandler]
handler: wsgi
dbfile: {folder}/acme.db

[Challenge]
challenge_validation_disable: True

[Order]
tnauthlist_support: False
"""


class Acme2certifier(AcmeServer):
    """acme2certifier with its OpenSSL CA and SQLite, run by gunicorn; every challenge is valid unproved."""

    name = "acme2certifier"

    def prepare(self) -> None:
        """Write the configuration and a CA."""
        super().prepare()
        if not ACME2CERTIFIER.exists():
            raise PeerFailed("acme2certifier is missing: run scripts/bench")
        make_tls_certificate(self.folder / "ca.pem", self.folder / "ca.key")
        (self.folder / "certificates").mkdir(exist_ok=True)
        (self.folder / "acme.cfg").write_text(CONFIGURATION.format(folder=self.folder), encoding="utf-8")
        self.env.update(ACME_SRV_CONFIGFILE=str(self.folder / "acme.cfg"), ACME2CERTIFIER_I_KNOW_THE_RISK="1")
        self.directory_url = f"https://127.0.0.1:{self.port}/directory"

    def command(self) -> Sequence[str]:
        """Return the command line to run."""
        return [
            *(str(ACME2CERTIFIER), "-m", "gunicorn", "--preload"),
            *("--workers", str(WORKERS), "--worker-class", "gthread", "--threads", "4"),
            *("--keep-alive", "75", "--timeout", "120", "--log-level", "warning"),
            *("--certfile", "tls.pem", "--keyfile", "tls.key", "--bind", f"127.0.0.1:{self.port}"),
            "acme2certifier.share.acme2certifier_wsgi:application",
        ]


def always_valid() -> Pebble:
    """Return a Pebble to which every challenge is valid unproved, and that locks itself up less often."""
    return Pebble(env={**CALM, "PEBBLE_VA_ALWAYS_VALID": "1"})


OURS = """
[state]
url = sqlite:///{folder}/state.sqlite

[mgmt]
listener =
{mgmt}

[acme]
listener = 127.0.0.1:{port}
url = https://127.0.0.1:{port}
tls-certificate = {folder}/tls.pem
tls-key = {folder}/tls.key

[local-ca "local"]
dir = {folder}/ca
permit = any

[logging]
level = info

[storage "state"]
type = sql

[auth "anyone"]
all = yes
domain = **
issuer = local
"""


class Ours(Acmems):
    """acmems with an ACME front end and a local CA.

    Args:
        folder: where CA and state live.
        mgmt: further lines of its section `[mgmt]`.

    Attributes:
        directory_url: its ACME directory.
        ca_file: what its HTTPS is to be checked with.
    """

    def __init__(self, folder: Path, mgmt: str = "") -> None:
        port = free_port()
        self.ca_file = folder / "tls.pem"
        make_tls_certificate(self.ca_file, folder / "tls.key")
        self.directory_url = f"https://127.0.0.1:{port}/directory"
        super().__init__(OURS.format(folder=folder, port=port, mgmt=mgmt))

    def prepare(self) -> None:
        """Write the configuration, and make the CA."""
        super().prepare()
        made = run_acmems("ca", "init", self.folder / "acmems.ini")
        if made.returncode:
            raise PeerFailed(f"there is no local CA: {made.stderr}")
