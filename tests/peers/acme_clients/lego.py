"""lego, which is also what Traefik gets its certificates with."""

from __future__ import annotations

from tests.peers.acme_clients.contract import Ability, ExternalAccount, ForeignClient
from tests.peers.process import program

EMAIL = "admin@example.org"
HOOK = """#!/bin/sh
[ "$1" != present ] || {prover} "${{2%.}}" "$3"
"""


class Lego(ForeignClient):
    """lego with a program for dns-01.

    It registers when it orders for the first time.

    Attributes:
        preferred_chain: the common name of the root that it wants chains to end in, None for the first.
    """

    name = "lego"
    abilities = frozenset(Ability)
    listens = frozenset({"http-01", "tls-alpn-01"})
    preferred_chain: str | None = None

    def register(self, external: ExternalAccount | None) -> None:
        """Keep in mind how to create an account."""
        self.external = external

    def order(self, *names: str) -> bytes:
        """Get a certificate."""
        wish = () if self.preferred_chain is None else ("--preferred-chain", self.preferred_chain)
        self.lego(names, "run", *wish)
        return self._chain(names)

    def renew(self, *names: str) -> bytes:
        """Get another certificate."""
        self.lego(names, "renew", "--days", "36500", "--no-random-sleep")
        return self._chain(names)

    def revoke(self, *names: str) -> None:
        """Revoke the certificate."""
        self.lego(names, "revoke", "--keep", "--reason", "4")

    def lego(self, names: tuple[str, ...], *command: str) -> str:
        """Run it for these names."""
        external = self.external
        binding = ["--eab", "--kid", external.kid, "--hmac", external.key] if external else []
        return self.run(
            *(program("lego"), "--path", "lego", "--server", self.directory.url),
            *("--email", EMAIL, "--accept-tos", *binding, *self._proof()),
            *(argument for name in names for argument in ("--domains", name)),
            *command,
            env={
                "LEGO_CA_CERTIFICATES": str(self.directory.ca_file),
                "LEGO_DISABLE_CNAME_SUPPORT": "true",
                "EXEC_SEQUENCE_INTERVAL": "1",  # seconds between proofs, otherwise 60
                "EXEC_PATH": str(self.program("prove", HOOK.format(prover=self.directory.prover))),
            },
        )

    def _proof(self) -> tuple[str, ...]:
        if self.listening is None:
            return "--dns", "exec", "--dns.propagation-wait", "1ms"
        kind = "http" if self.listening.challenge == "http-01" else "tls"
        return f"--{kind}", f"--{kind}.port", self.listening.socket

    def _chain(self, names: tuple[str, ...]) -> bytes:
        return (self.folder / "lego" / "certificates" / f"{names[0]}.crt").read_bytes()
