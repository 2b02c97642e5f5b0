"""Caddy, a web server that gets its certificates by itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.peers.acme_clients.contract import PATIENCE, Ability, ExternalAccount, ForeignClient
from tests.peers.process import Peer, PeerFailed, program, wait_until


class CaddyServer(Peer):
    """Caddy, ready as soon as its configuration holds.

    Args:
        configuration: what it goes by.
        home: the folder below which it keeps what no configuration says where to keep.
        adapter: the kind of configuration, where it is not JSON.
    """

    name = "caddy"

    def __init__(self, configuration: str, home: Path, adapter: str | None = None) -> None:
        super().__init__({"HOME": str(home), "XDG_DATA_HOME": str(home)})
        self.configuration = configuration
        self.adapter = ["--adapter", adapter] if adapter else []

    def prepare(self) -> None:
        (self.folder / "configuration").write_text(self.configuration, encoding="utf-8")

    def command(self) -> Sequence[str]:
        return [program(self.name), "run", "--config", "configuration", *self.adapter]

    def ready(self) -> bool:
        return "serving initial configuration" in self.log

    def obtain(self, name: str, folder: Path, before: bytes = b"") -> bytes:
        """Wait until it has another chain than before, and return that.

        Raises:
            PeerFailed: it did not get one; with what it printed.
        """
        try:
            wait_until(lambda: chain_of(name, folder) != before, "caddy has a certificate", PATIENCE)
        except PeerFailed as error:
            raise PeerFailed(f"{error}\n{self.log}") from None
        return chain_of(name, folder)


def chain_of(name: str, folder: Path) -> bytes:
    """Return the chain that Caddy keeps, once it is complete: of its files, the JSON is written last."""
    stem = name.replace("*", "wildcard_")
    found = list(folder.glob(f"caddy/certificates/*/{stem}/{stem}.json"))
    return found[0].with_suffix(".crt").read_bytes() if found else b""


class Caddy(ForeignClient):
    """Caddy, run until it has a certificate; it registers when it orders for the first time."""

    name = "caddy"
    abilities = frozenset({Ability.EXTERNAL_ACCOUNT, Ability.WILDCARD})
    listens = frozenset({"http-01", "tls-alpn-01"})

    def register(self, external: ExternalAccount | None) -> None:
        """Keep in mind how to create an account."""
        self.external = external

    def order(self, *names: str) -> bytes:
        """Get a certificate for one name."""
        [name] = names
        return self._get(name, renew_at_once=False)

    def renew(self, *names: str) -> bytes:
        """Get another certificate: any part of the lifetime that is over makes it renew."""
        [name] = names
        return self._get(name, renew_at_once=True)

    def _get(self, name: str, *, renew_at_once: bool) -> bytes:
        before = chain_of(name, self.folder)
        ratio = {"renewal_window_ratio": 0.99999999} if renew_at_once else {}
        with CaddyServer(json.dumps(self._configuration(name, ratio)), self.folder) as server:
            return server.obtain(name, self.folder, before)

    def _configuration(self, name: str, ratio: dict[str, float]) -> dict[str, Any]:
        external = self.external
        binding = {"external_account": {"key_id": external.kid, "mac_key": external.key}} if external else {}
        issuer = {
            "module": "acme",
            "ca": self.directory.url,
            "email": "admin@example.org",
            "trusted_roots_pem_files": [str(self.directory.ca_file)],
            **binding,
            **self._challenges(),
        }
        policy = {"issuers": [issuer], "key_type": "p256", **ratio}
        return {
            "admin": {"disabled": True},
            "storage": {"module": "file_system", "root": str(self.folder / "caddy")},
            "apps": {
                "tls": {
                    "certificates": {"automate": [name]},
                    "automation": {"policies": [policy]},
                }
            },
        }

    def _challenges(self) -> dict[str, Any]:
        if self.listening is None:
            return {}
        other = "http" if self.listening.challenge == "tls-alpn-01" else "tls-alpn"
        return {"challenges": {"bind_host": self.listening.address, other: {"disabled": True}}}
