"""A client on Go's `x/crypto/acme`, the library beneath cert-manager and autocert."""

from __future__ import annotations

from tests.peers.acme_clients.contract import Ability, ExternalAccount, ForeignClient
from tests.peers.client import make_key_and_csr, run
from tests.peers.process import program


class XCrypto(ForeignClient):
    """The program `x_crypto.go`, with requests and keys by openssl."""

    name = "x-crypto"
    abilities = frozenset(Ability) - {Ability.REPLACEMENT}

    def prepare(self) -> None:
        """Make the account's key."""
        kind = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
        run("openssl", "genpkey", *kind, "-out", self.folder / "account.key")

    def register(self, external: ExternalAccount | None) -> None:
        """Create an account."""
        binding = ["-kid", external.kid, "-hmac", external.key] if external else []
        self.x_crypto(*binding, "register")

    def order(self, *names: str) -> bytes:
        """Get a certificate."""
        _, request = make_key_and_csr(self.folder, names, stem=names[0])
        chain = self.x_crypto("order", str(request), *names)
        (self.folder / f"{names[0]}.pem").write_text(chain, encoding="ascii")
        return chain.encode()

    def renew(self, *names: str) -> bytes:
        """Get another certificate, in no way that differs from the first time."""
        return self.order(*names)

    def revoke(self, *names: str) -> None:
        """Revoke the certificate."""
        self.x_crypto("revoke", f"{names[0]}.pem")

    def x_crypto(self, *arguments: str) -> str:
        """Run it."""
        return self.run(
            program("x-crypto-acme"),
            *("-directory", self.directory.url, "-prover", self.directory.prover),
            *arguments,
            env={"SSL_CERT_FILE": str(self.directory.ca_file)},
        )
