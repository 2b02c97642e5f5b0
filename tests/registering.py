"""A registrar before a CA that is a table of answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.fake_ca import ACCOUNT, CA, KEY, NEW_ACCOUNT, FakeSession, Said, Time, problem

from acmems.config import Configuration
from acmems.issuers.acme.account import Account, AccountDirectory
from acmems.issuers.acme.registration import Registrar

TERMS = f"{CA}/terms-1"
VALID = {"status": "valid", "contact": ["mailto:hostmaster@example.org"], "orders": f"{ACCOUNT}/orders"}
UNKNOWN = problem("accountDoesNotExist", "no such account", 400)
OLD_CA = "https://old.example.org/account/7"


class Desk:
    """A registrar before a CA that knows a valid account, and whose terms are accepted.

    Args:
        path: of the account directory.
        lines: of the configuration.
        meta: of the CA's directory.
    """

    def __init__(self, path: Path, *lines: str, **meta: object) -> None:
        text = ["[account]", f"acme-server = {CA}/directory", f"dir = {path}", *lines]
        options = Configuration.from_text("\n".join(text)).account
        self.directory = AccountDirectory(path)
        found = Said(VALID, {"Location": ACCOUNT})
        self.session = FakeSession({NEW_ACCOUNT: [found], ACCOUNT: [VALID]}, **meta)
        self.session.kid = None
        self.registrar = Registrar(options, self.directory, self.session, KEY)
        time = Time()
        self.loop, self.deadline = time.loop(), time.within()

    def refresh(self, **options: Any) -> Account:
        return self.loop.run(self.registrar.refresh(self.deadline, **options))

    def deactivate(self) -> Account:
        return self.loop.run(self.registrar.deactivate(self.deadline))

    def remember(self, url: str = ACCOUNT) -> None:
        """Let the directory hold a registration already."""
        self.directory.save_registration(Account(url, {"status": "valid"}))

    @property
    def payloads(self) -> list[object]:
        return [post.payload for post in self.session.posts]


ACCEPT = "accept-terms-of-service = yes"
EMAIL = "email = hostmaster@example.org"
