"""acme-tiny, a client in two hundred lines of Python, as `pip` installs it."""

from __future__ import annotations

import itertools
import sys

from tests.peers.acme_clients.contract import Ability, ExternalAccount, ForeignClient
from tests.peers.client import make_key_and_csr, run


class AcmeTiny(ForeignClient):
    """acme-tiny, with requests and keys by openssl."""

    name = "acme-tiny"
    abilities = frozenset({Ability.SEVERAL_NAMES})

    def prepare(self) -> None:
        """Make the account's key."""
        run("openssl", "genrsa", "-out", self.folder / "account.key", "2048")
        (self.folder / "challenges").mkdir()
        self._numbers = itertools.count()

    def register(self, external: ExternalAccount | None) -> None:
        """Do nothing: it registers whenever it orders."""
        assert external is None

    def order(self, *names: str) -> bytes:
        """Get a certificate."""
        _, request = make_key_and_csr(self.folder, names, stem=f"{names[0]}-{next(self._numbers)}")
        printed = self.run(
            *(sys.executable, "-c", "import acme_tiny, sys; acme_tiny.main(sys.argv[1:])"),
            *("--account-key", "account.key", "--csr", request, "--acme-dir", "challenges"),
            *("--directory-url", self.directory.url, "--disable-check", "--quiet"),
            env={"SSL_CERT_FILE": str(self.directory.ca_file)},
        )
        return printed.encode()

    def renew(self, *names: str) -> bytes:
        """Get another certificate, in no way that differs from the first time."""
        return self.order(*names)
