"""The rival: macen, a server for the same job, as it comes from the package index."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from tests.peers import Pebble, Peer, free_port
from tests.peers.process import ROOT

PROGRAM = ROOT / ".cache" / "rival" / "bin" / "macen"
CHALLENGE_PORT = 5002
"""The only port, but 80, at which it recognises the names of challenges."""

TEXT = """
[account]
acme-server = {directory_url}
accept-terms-of-service = yes
dir = {folder}/account

[mgmt]
listener = 127.0.0.1:{port}

[logging]
level = info

[verification "http"]
type = http01
listener = 127.0.0.1:{challenge_port}

[storage "file"]
type = file
directory = {folder}/storage

[auth "anyone"]
all = yes
domain = *
"""


class Macen(Peer):
    """macen 0.5, ready as soon as it takes connections.

    Args:
        pebble: its CA, which must fetch challenges at `CHALLENGE_PORT`.

    Attributes:
        port: where its `/sign` is.
    """

    name = "macen"

    def __init__(self, pebble: Pebble) -> None:
        trust = {name: str(pebble.ca_file) for name in ("ACME_CAFILE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")}
        super().__init__({**trust, "PYTHONUNBUFFERED": "1"})
        self._directory_url = pebble.directory_url
        self._challenge_port = pebble.http_port
        self.port = 0

    def prepare(self) -> None:
        """Write configuration."""
        self.port = free_port()
        text = TEXT.format(
            directory_url=self._directory_url,
            folder=self.folder,
            port=self.port,
            challenge_port=self._challenge_port,
        )
        (self.folder / "macen.ini").write_text(text, encoding="utf-8")

    def command(self) -> Sequence[str]:
        """Return the command line to run."""
        return [str(PROGRAM), "macen.ini"]

    def ready(self) -> bool:
        """Tell whether it takes connections."""
        socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        return True
