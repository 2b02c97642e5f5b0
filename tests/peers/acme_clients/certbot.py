"""certbot, as `pip` installs it."""

from __future__ import annotations

import sys

from tests.peers.acme_clients.contract import Ability, ExternalAccount, ForeignClient

PROGRAM = "import certbot.main, sys; sys.exit(certbot.main.main())"


class Certbot(ForeignClient):
    """certbot with a hook."""

    name = "certbot"
    abilities = frozenset(Ability) - {Ability.REPLACEMENT}
    listens = frozenset({"http-01"})

    def register(self, external: ExternalAccount | None) -> None:
        """Create an account."""
        binding = ["--eab-kid", external.kid, "--eab-hmac-key", external.key] if external else []
        self.certbot("register", "--agree-tos", "--email", "admin@example.org", "--no-eff-email", *binding)

    def order(self, *names: str) -> bytes:
        """Get a certificate."""
        hook = f'{self.directory.prover} "_acme-challenge.$CERTBOT_DOMAIN" "$CERTBOT_VALIDATION"'
        proof = ("--manual", "--preferred-challenges", "dns", "--manual-auth-hook", hook)
        if self.listening is not None:
            proof = (
                "--standalone",
                "--preferred-challenges",
                "http",
                "--http-01-address",
                self.listening.address,
            )
        self.certbot("certonly", *proof, "--cert-name", names[0], "--domains", ",".join(names))
        return self._chain(names)

    def renew(self, *names: str) -> bytes:
        """Get another certificate."""
        self.certbot("renew", "--cert-name", names[0], "--force-renewal", "--no-random-sleep-on-renew")
        return self._chain(names)

    def revoke(self, *names: str) -> None:
        """Revoke the certificate."""
        self.certbot("revoke", "--cert-name", names[0], "--reason", "superseded", "--no-delete-after-revoke")

    def certbot(self, *arguments: str) -> str:
        """Run it, without questions."""
        folders = [part for name in ("config", "work", "logs") for part in (f"--{name}-dir", name)]
        options = ["--non-interactive", "--server", self.directory.url, *folders]
        return self.run(
            *(sys.executable, "-c", PROGRAM, *arguments, *options),
            env={"REQUESTS_CA_BUNDLE": str(self.directory.ca_file)},
        )

    def _chain(self, names: tuple[str, ...]) -> bytes:
        return (self.folder / "config" / "live" / names[0] / "fullchain.pem").read_bytes()
