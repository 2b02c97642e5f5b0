"""acme.sh, a client in the language of the shell."""

from __future__ import annotations

from tests.peers.acme_clients.contract import Ability, ExternalAccount, ForeignClient
from tests.peers.process import FETCHED, program

PROOF = """#!/bin/sh
dns_tested_add() {{ {prover} "$1" "$2"; }}
dns_tested_rm() {{ return 0; }}
"""


class AcmeSh(ForeignClient):
    """acme.sh with a plug-in for dns-01."""

    name = "acme.sh"
    abilities = frozenset(Ability)
    listens = frozenset({"http-01", "tls-alpn-01"})

    def prepare(self) -> None:
        """Write the plug-in."""
        (self.folder / "dnsapi").mkdir()
        self.program("dnsapi/dns_tested.sh", PROOF.format(prover=self.directory.prover))

    def register(self, external: ExternalAccount | None) -> None:
        """Create an account."""
        binding = ["--eab-kid", external.kid, "--eab-hmac-key", external.key] if external else []
        self.acme_sh("--register-account", "--email", "admin@example.org", *binding)

    def order(self, *names: str) -> bytes:
        """Get a certificate."""
        proof: tuple[str, ...] = ("--dns", "dns_tested", "--dnssleep", "1")
        if self.listening is not None:
            kind = "--standalone" if self.listening.challenge == "http-01" else "--alpn"
            proof = (kind, "--local-address", self.listening.address)
        options = (*proof, "--keylength", "ec-256")
        self.acme_sh("--issue", *(part for name in names for part in ("-d", name)), *options)
        return self._chain(names)

    def renew(self, *names: str) -> bytes:
        """Get another certificate."""
        self.acme_sh("--renew", "-d", names[0], "--ecc", "--force", "--always-force-new-domain-key")
        return self._chain(names)

    def revoke(self, *names: str) -> None:
        """Revoke the certificate."""
        self.acme_sh("--revoke", "-d", names[0], "--ecc", "--revoke-reason", "4")

    def acme_sh(self, *arguments: str) -> str:
        """Run it."""
        script = FETCHED / "usr" / "share" / "acme.sh" / "acme.sh"
        command = ("sh", script) if script.exists() else (program("acme.sh"),)
        server = ("--server", self.directory.url, "--ca-bundle", self.directory.ca_file)
        return self.run(*command, *arguments, "--home", self.folder, *server)

    def _chain(self, names: tuple[str, ...]) -> bytes:
        return (self.folder / f"{names[0]}_ecc" / "fullchain.cer").read_bytes()
