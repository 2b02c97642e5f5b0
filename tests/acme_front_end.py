"""The ACME front end of a server of its own process, and clients of it."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path

from tests.acme_client import AcmeClient
from tests.acme_orders import Orderer
from tests.peers import Settings, free_port
from tests.peers.ca import make_tls_certificate


class AcmeFrontEnd:
    """Where a server takes ACME clients, and the files of its certificate.

    Attributes:
        url: the base of its URLs, which several servers may have in common.
    """

    def __init__(self, folder: Path, settings: Settings, url: str | None = None) -> None:
        self.port = free_port()
        self.url = url or f"https://127.0.0.1:{self.port}"
        self.chain, self.key = folder / "acme-chain.pem", folder / "acme-key.pem"
        make_tls_certificate(self.chain, self.key)
        self.key.chmod(0o600)
        settings.auth += (
            f"\n[acme]\nlistener = 127.0.0.1:{self.port}\nurl = {self.url}\n"
            f"tls-certificate = {self.chain}\ntls-key = {self.key}\n"
        )

    @contextlib.contextmanager
    def client(self, key_of: AcmeClient | None = None) -> Iterator[Orderer]:
        """Return a client of this server; with the key and account of another one, if it is given."""
        trust = ssl.create_default_context(cafile=str(self.chain))
        with Orderer(f"{self.url}/directory", trust=trust, address=("127.0.0.1", self.port)) as made:
            if key_of is not None:
                made.key, made.kid = key_of.key, key_of.kid
            yield made
