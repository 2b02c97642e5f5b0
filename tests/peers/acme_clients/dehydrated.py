"""dehydrated, a client in bash."""

from __future__ import annotations

from tests.peers.acme_clients.contract import Ability, ExternalAccount, ForeignClient
from tests.peers.process import program

CONFIGURATION = """
CA={url}
BASEDIR={folder}
CHALLENGETYPE=dns-01
HOOK={hook}
KEY_ALGO=prime256v1
KEYSIZE=2048
ACCOUNT_KEY_ALGO=secp384r1
CONTACT_EMAIL=admin@example.org
CURL_OPTS="--cacert {ca_file}"
{binding}
"""

PROOF = """#!/bin/sh
[ "$1" != deploy_challenge ] || {prover} "_acme-challenge.$2" "$4"
"""


class Dehydrated(ForeignClient):
    """dehydrated with a hook."""

    name = "dehydrated"
    abilities = frozenset(Ability) - {Ability.REPLACEMENT}

    def register(self, external: ExternalAccount | None) -> None:
        """Create an account."""
        configuration = CONFIGURATION.format(
            url=self.directory.url,
            folder=self.folder,
            hook=self.program("prove", PROOF.format(prover=self.directory.prover)),
            ca_file=self.directory.ca_file,
            binding=f"EAB_KID={external.kid}\nEAB_HMAC_KEY={external.key}" if external else "",
        )
        (self.folder / "config").write_text(configuration, encoding="utf-8")
        self.dehydrated("--register", "--accept-terms")

    def order(self, *names: str) -> bytes:
        """Get a certificate."""
        return self._get(names)

    def renew(self, *names: str) -> bytes:
        """Get another certificate."""
        return self._get(names, "--force")

    def revoke(self, *names: str) -> None:
        """Revoke the certificate."""
        self.dehydrated("--revoke", str(self.folder / "certs" / names[0] / "cert.pem"))

    def dehydrated(self, *arguments: str) -> str:
        """Run it."""
        return self.run("bash", program("dehydrated"), *arguments, "--config", self.folder / "config")

    def _get(self, names: tuple[str, ...], *options: str) -> bytes:
        self.dehydrated("--cron", "--domain", " ".join(names), "--alias", names[0], *options)
        return (self.folder / "certs" / names[0] / "fullchain.pem").read_bytes()
