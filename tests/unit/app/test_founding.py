"""How a server gets its account, alone and among servers on other machines."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.sharing import Sharer, sharing, unwritable

from acmems.app.accounts.founding import AccountFounding
from acmems.exceptions import AccountError, CAUnavailable
from acmems.issuers.acme.account import Account
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuers.acme.key import AccountKey
from acmems.issuers.acme.options import AccountOptions
from acmems.state.sharing.accounts import AccountRecord, AccountRecords, SharedAccounts
from acmems.system.clock import SYSTEM

URL = "https://ca.example.org/directory"
ACCOUNT = Account("https://ca.example.org/account/0", {"status": "valid"})


class Authority:
    """A CA that knows accounts by their keys.

    Attributes:
        accounts: their numbers, by the thumbprints of their keys.
        registered: the thumbprints that accounts were registered with.
    """

    def __init__(self) -> None:
        self.accounts: dict[str, int] = {}
        self.registered: list[str] = []

    def change_key(self, before: str, after: str) -> None:
        self.accounts[after] = self.accounts.pop(before)


class Issuer(AcmeIssuer):
    """Speaks to such a CA."""

    ca: Authority
    error: Exception | None = None

    def refresh(self, *, register: bool = True) -> Account:
        if self.error is not None:
            raise self.error
        key = self.client.key.thumbprint
        if key not in self.ca.accounts:
            if not register:
                raise AccountError("the CA does not know this key")
            self.ca.accounts[key] = len(self.ca.registered)
            self.ca.registered.append(key)
        account = Account(f"https://ca.example.org/account/{self.ca.accounts[key]}", {"status": "valid"})
        self.directory.save_registration(account)
        return account


class Machine:
    """A server on a machine of its own.

    Args:
        folder: where its directory is made.
        sharer: its place in the state, None where it is alone.
        ca: where its account is.
    """

    def __init__(self, folder: Path, sharer: Sharer | None, ca: Authority) -> None:
        folder.mkdir(mode=0o700)
        terms = frozenset(["https://ca.example.org/terms"])
        options = AccountOptions(URL, folder, terms, (), "ec256", None, None, None, None)
        self.issuer = Issuer(options, 10.0)
        self.issuer.ca = ca
        self.directory = self.issuer.directory
        self.sharer = sharer
        self.shared: SharedAccounts | None = None
        if sharer is not None:
            records = AccountRecords(sharer.database)
            self.shared = SharedAccounts(records, sharer.leases, "postgresql://db")
        self.founding = AccountFounding(self.issuer, self.shared, SYSTEM)

    @property
    def records(self) -> AccountRecords:
        assert self.shared is not None
        return self.shared.records

    @property
    def thumbprint(self) -> str:
        return self.directory.load_key().thumbprint

    def change_key(self, *, publishes: bool = True) -> str:
        """Give the account another key, as `acmems account rotate-key` does; return the new one."""
        key = AccountKey.generate("ec256")
        self.issuer.ca.change_key(self.thumbprint, key.thumbprint)
        self.directory.save_key(key, force=True)
        self.issuer.load_key()
        if publishes:
            self.issuer.on_new_key()
        return key.thumbprint


@pytest.fixture
def ca() -> Authority:
    return Authority()


@pytest.fixture
def machines(tmp_path: Path, ca: Authority) -> Iterator[list[Machine]]:
    with sharing(tmp_path, 3) as nodes:
        made = [Machine(tmp_path / f"account{number}", each, ca) for number, each in enumerate(nodes)]
        yield made
        for each in made:
            each.issuer.close()


def test_alone(tmp_path: Path, ca: Authority) -> None:
    """A key is made and registered once."""
    machine = Machine(tmp_path / "account", None, ca)
    assert not machine.founding.find()
    assert machine.founding.find()
    machine.founding.follow()
    assert ca.registered == [machine.thumbprint]
    machine.issuer.close()


def test_several_first_starts_at_once(machines: list[Machine], ca: Authority) -> None:
    """One registers the account, and all of them have its key, for their owner alone."""
    with ThreadPoolExecutor(3) as pool:
        known = list(pool.map(lambda machine: machine.founding.find(), machines))
    assert {machine.thumbprint for machine in machines} == set(ca.registered)
    assert len(ca.registered) == 1
    assert not all(known)
    for machine in machines:
        assert stat.S_IMODE(machine.directory.key_file.stat().st_mode) == 0o600
        registration = machine.directory.load_registration()
        assert registration is not None
        assert registration.url == "https://ca.example.org/account/0"
        assert machine.issuer.client.key.thumbprint == ca.registered[0]


def test_a_server_that_comes_later(machines: list[Machine], ca: Authority) -> None:
    """It takes the account, also without terms that it accepts: they were accepted."""
    machines[0].founding.find()
    machines[1].issuer.options = machines[1].issuer.options.__class__(
        URL, machines[1].directory.path, frozenset(), (), "ec256", None, None, None, None
    )
    assert machines[1].founding.find()
    assert [machines[1].thumbprint] == ca.registered


def test_a_server_that_was_alone(machines: list[Machine], ca: Authority) -> None:
    """Its account becomes that of all."""
    first, second, _ = machines
    alone = AccountFounding(first.issuer, None, SYSTEM)
    alone.find()
    assert first.founding.find()
    assert second.founding.find()
    assert ca.registered == [first.thumbprint] == [second.thumbprint]


def test_a_registration_that_fails(machines: list[Machine], ca: Authority) -> None:
    """The next server registers the same key."""
    first, second, _ = machines
    first.issuer.error = CAUnavailable("down")
    with pytest.raises(CAUnavailable):
        first.founding.find()
    assert not second.founding.find()
    assert ca.registered == [second.thumbprint] == [first.thumbprint]
    assert first.founding.find()
    assert len(ca.registered) == 1


def test_a_registration_that_is_known_here_alone(machines: list[Machine], ca: Authority) -> None:
    """The others learn of it at the next start of who knows it."""
    first, second, _ = machines
    first.issuer.create_key()
    key = first.issuer.load_key()
    first.records.add(AccountRecord(URL, key.pem(), key.thumbprint)).result(20)
    first.issuer.ca.accounts[key.thumbprint] = 0
    first.directory.save_registration(ACCOUNT)
    assert first.founding.find()
    assert second.founding.find()
    assert ca.registered == []


def test_another_account(machines: list[Machine]) -> None:
    """A server with an account of its own does not start, and is told what to do."""
    first, second, _ = machines
    first.founding.find()
    AccountFounding(second.issuer, None, SYSTEM).find()
    before = second.thumbprint
    with pytest.raises(
        AccountError, match=r"account1/account.pem is another key .* postgresql://db: move .* away"
    ):
        second.founding.find()
    assert second.thumbprint == before


def test_a_key_that_was_changed_elsewhere(machines: list[Machine]) -> None:
    """Whoever has a former key takes the new one: while it runs, and at its start."""
    first, second, third = machines
    for machine in machines:
        machine.founding.find()
    first.change_key()
    changed = first.change_key()
    second.founding.follow()
    assert second.thumbprint == second.issuer.client.key.thumbprint == changed
    assert third.founding.find()
    assert third.thumbprint == third.issuer.client.key.thumbprint == changed
    first.founding.follow()
    assert first.thumbprint == changed


def test_a_change_that_was_not_told(machines: list[Machine]) -> None:
    """Where a server was killed before it told the others, the CA says whose key is right."""
    first, second, _ = machines
    for machine in (first, second):
        machine.founding.find()
    changed = first.change_key(publishes=False)
    first.founding.follow()
    assert first.thumbprint == changed
    with pytest.raises(AccountError):
        second.issuer.refresh(register=False)
    assert first.founding.find()
    second.founding.follow()
    assert second.thumbprint == first.thumbprint == changed


def test_a_change_that_cannot_be_told(machines: list[Machine]) -> None:
    """It is told as soon as the state can be written."""
    first, second, _ = machines
    for machine in (first, second):
        machine.founding.find()
    assert first.sharer is not None
    with unwritable(first.sharer.database):
        changed = first.change_key()
    second.founding.follow()
    assert second.thumbprint != changed
    first.founding.follow()
    second.founding.follow()
    assert second.thumbprint == changed


def test_a_key_that_is_not_the_accounts(machines: list[Machine]) -> None:
    """A key that the CA does not know does not take the place of the right one."""
    first, second, _ = machines
    for machine in (first, second):
        machine.founding.find()
    first.directory.save_key(AccountKey.generate("ec256"), force=True)
    with pytest.raises(AccountError, match=r"move .* away"):
        first.founding.find()
    second.founding.follow()
    assert [second.thumbprint] == second.issuer.ca.registered


def test_a_ca_that_does_not_tell(machines: list[Machine]) -> None:
    """While it is down, nobody knows which key is right, and nothing is changed."""
    first, *_ = machines
    first.founding.find()
    changed = first.change_key(publishes=False)
    first.issuer.error = CAUnavailable("down")
    with pytest.raises(CAUnavailable):
        first.founding.find()
    assert first.thumbprint == changed


def test_another_ca(machines: list[Machine]) -> None:
    """Each CA has an account of its own."""
    first, *_ = machines
    first.founding.find()
    assert first.records.get(URL) is not None
    assert first.records.get("https://other.example/directory") is None


def test_a_key_is_never_shown(machines: list[Machine]) -> None:
    """Not even where an account is printed."""
    machines[0].founding.find()
    found = machines[0].records.get(URL)
    assert found is not None
    assert "PRIVATE" in found.key.decode()
    assert "PRIVATE" not in repr(found)
