"""An account at an ACME CA, as a server orders with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from acmems.app.accounts.founding import AccountFounding
from acmems.challenges import Validator
from acmems.config import Configuration
from acmems.frontends.history import RecordedHistory
from acmems.issuers.acme.certificates.revocation import revoke
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuing.issuance import Issuance
from acmems.storages import IssuerIdentity
from acmems.system.clock import Deadline
from acmems.system.steps import Steps


@dataclass(frozen=True, slots=True)
class OrderingAccount:
    """One account, and what orders with it: an `OrderingParty`.

    Args:
        name: of its section; empty where that has none.
        identity: whose chains these are.
        issuer: speaks to its CA.
        founding: finds it, or makes it.
        issuance: turns requests into chains.
        history: notes its chains, None where there is no state.
    """

    name: str
    identity: IssuerIdentity
    issuer: AcmeIssuer
    founding: AccountFounding
    issuance: Issuance
    history: RecordedHistory | None

    @property
    def section(self) -> str:
        """Its section, as a configuration has it."""
        return self.issuer.options.section

    def find(self) -> bool:
        """Load its key, or make the account; tell whether it was known before."""
        with self.issuer.directory.founding():
            return self.founding.find()

    def load(self, *, is_asked: bool) -> None:
        """Load its key; ask the CA for it where a command is about it."""
        if is_asked:
            self.issuer.open(register=False)
        elif not self.name or self.issuer.directory.has_key():
            self.issuer.load_key()

    def check(self) -> None:
        """Ask the CA about it."""
        self.issuer.ensure_opened()

    def follow(self) -> None:
        """Use another key where another server has changed it."""
        self.founding.follow()

    def reconfigure(self, config: Configuration) -> None:
        """Go by another configuration from now on, which has the same account."""
        self.issuer.reconfigure(config.accounts[self.name], config.mgmt.request_timeout)

    def sweep(self, validators: Mapping[str, Validator], on_progress: Callable[[], None]) -> None:
        """Withdraw the proofs that a crash, or a validator that did not work, has left behind."""
        self.issuer.sweep(validators, on_progress)

    def revoke(self, certificate: bytes, reason: str, deadline: Deadline) -> bool:
        """Revoke a certificate at the CA."""

        def steps() -> Steps[bool]:
            client = yield from self.issuer.admitted(deadline)
            return (yield from revoke(client.session, certificate, reason, deadline))

        return self.issuer.run(steps())

    def stop(self) -> None:
        """End all that goes on with the CA; unfinished orders stay open there."""
        self.issuer.stop()

    def close(self) -> None:
        """Stop, and let go of threads."""
        self.issuer.close()
