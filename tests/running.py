"""What tests of the server share: a configuration that works, and an issuer that does as it is told."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from acmems.app import server as servers
from acmems.challenges import Validator
from acmems.config import Configuration
from acmems.issuers.acme.account import Account
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuers.acme.key import AccountKey
from acmems.system.clock import SYSTEM, Clock

TEXT = """
[account]
dir = {folder}/account
accept-terms-of-service = yes

[mgmt]
listener = 127.0.0.1:0

[verification "web"]
type = http01
listener = 127.0.0.1:0

[storage "disk"]
type = file
directory = {folder}/storage

[auth "all"]
all = yes
domain = **
"""

KEY = AccountKey.generate("ec256")
ACCOUNT = Account("https://ca.example.org/account/1")
LINES = {
    "terms": "accept-terms-of-service = yes",
    "mgmt": "[mgmt]\nlistener = 127.0.0.1:0",
    "web": "type = http01\nlistener = 127.0.0.1:0",
}


class Issuer(AcmeIssuer):
    """In the place of an issuer: takes note of what it is told, and fails as told."""

    told: list[str]
    error: Exception | None = None

    def sweep(
        self, validators: Mapping[str, Validator], on_progress: Callable[[], None] = lambda: None
    ) -> None:
        pass

    def create_key(self) -> None:
        self.told.append("create_key")

    def load_key(self) -> AccountKey:
        self.told.append("load_key")
        return KEY

    def refresh(self, *, register: bool = True) -> Account:
        self.told.append("refresh")
        if self.error is not None:
            raise self.error
        return ACCOUNT

    def ensure_opened(self) -> None:
        self.refresh()

    def stop(self) -> None:
        self.told.append("stop")

    def close(self) -> None:
        self.told.append("close")
        self.loop.close()


def configuration(folder: Path, **replaced: str) -> Configuration:
    text = TEXT.format(folder=folder)
    for old, new in replaced.items():
        text = text.replace(LINES[old], new)
    return Configuration.from_text(text)


@contextlib.contextmanager
def running(config: Configuration, clock: Clock = SYSTEM) -> Iterator[servers.Server]:
    server = servers.Server(config, clock)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def is_open(address: str) -> bool:
    host, _, port = address.rpartition(" ")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True
