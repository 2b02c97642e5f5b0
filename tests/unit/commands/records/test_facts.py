"""What records depend on beside the configuration, and when the CA is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fake_ca import ACCOUNT, FakeSession

from acmems.commands.records import facts
from acmems.commands.records.facts import AccountFacts, account_facts
from acmems.config import Configuration
from acmems.exceptions import CAUnavailable
from acmems.issuers.acme.account import Account, AccountDirectory
from acmems.issuers.acme.directory import Directory
from acmems.system.clock import Deadline
from acmems.system.steps import Steps


class Asked(FakeSession):
    """A CA with some metadata, or that fails."""

    def __init__(self, error: Exception | None = None, **meta: object) -> None:
        super().__init__({}, **meta)
        self.error = error

    def directory(self, deadline: Deadline) -> Steps[Directory]:
        if self.error is not None:
            raise self.error
        return super().directory(deadline)


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AccountFacts]:
    """Read the facts for a configuration with an account, from a CA."""

    def ask(session: Asked, kind: str = "dns-persist01", *, registered: bool = True) -> AccountFacts:
        if registered:
            AccountDirectory(tmp_path).save_registration(Account.of(ACCOUNT, {}, None))
        config = Configuration.from_text(
            f'[account]\ndir = {tmp_path}\n[verification "v"]\ntype = {kind}\n'
            '[auth "a"]\nall = yes\ndomain = a.example.org\n'
        )
        monkeypatch.setattr(facts, "Session", lambda *_, **__: session)
        return account_facts(config.account, config.auth.blocks)

    return ask


@pytest.mark.parametrize(
    ("names", "issuers"),
    [
        (["ca.example", "other.example"], ("ca.example", "other.example")),
        (["ca.example\n; forged", 7, None], ("ca.example ; forged",)),
        ("ca.example", ()),
    ],
)
def test_the_names_of_the_ca(ask: Callable[..., AccountFacts], names: Any, issuers: tuple[str, ...]) -> None:
    """The CA's names are one line each; what is no list of texts is none."""
    session = Asked(caaIdentities=names)
    assert ask(session) == AccountFacts(ACCOUNT, issuers)


def test_a_ca_that_does_not_answer(ask: Callable[..., AccountFacts]) -> None:
    """Why there are no names is kept, for the person who is to configure them."""
    session = Asked(CAUnavailable("the CA\nis away"))
    assert ask(session) == AccountFacts(ACCOUNT, no_issuers="the CA is away")


@pytest.mark.parametrize(("kind", "registered"), [("http01", True), ("dns-persist01", False)])
def test_the_ca_is_asked_only_where_it_matters(
    ask: Callable[..., AccountFacts], kind: str, registered: bool
) -> None:
    """No record without an account, or without dns-persist01, has the name of the CA."""
    session = Asked(AssertionError("nobody may ask"))
    assert ask(session, kind, registered=registered) == AccountFacts(ACCOUNT if registered else None)
