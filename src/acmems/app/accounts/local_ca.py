"""A CA of one's own, as a server orders with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from acmems.challenges import Validator
from acmems.config import Configuration
from acmems.frontends.history import RecordedHistory
from acmems.issuers.local.issuer import LocalIssuer
from acmems.issuers.local.profiles import RevokedCertificate
from acmems.issuing.issuance import Issuance
from acmems.state.chains.revocations import RevocationRecords
from acmems.storages import IssuerIdentity
from acmems.system.clock import Clock, Deadline


@dataclass(frozen=True, slots=True)
class OrderingCa:
    """One local CA, and what orders with it: an `OrderingParty`.

    Args:
        name: of its section.
        identity: whose chains these are.
        issuer: signs them.
        issuance: turns requests into chains.
        history: notes its chains, None where there is no state.
        revocations: tell which are revoked, None where there is no state.
        clock: for dates.
    """

    name: str
    identity: IssuerIdentity
    issuer: LocalIssuer
    issuance: Issuance
    history: RecordedHistory | None
    revocations: RevocationRecords | None
    clock: Clock

    @property
    def section(self) -> str:
        """Its section, as a configuration has it."""
        return self.issuer.options.section

    def find(self) -> bool:
        """Load its keys; nobody has to be asked about them."""
        self.issuer.load()
        self.follow()
        return False

    def load(self, *, is_asked: bool) -> None:  # noqa: ARG002 - there is nobody to ask
        """Load its keys, if there are any."""
        if self.issuer.directory.existing():
            self.issuer.load()

    def check(self) -> None:
        """Ask nobody."""

    def follow(self) -> None:
        """Publish which certificates are revoked.

        Raises:
            StateUnavailable: that cannot be read.
        """
        if self.revocations is not None:
            self.issuer.publish(
                RevokedCertificate(serial, at, reason)
                for serial, at, reason in self.revocations.of(self.identity.directory, self.clock.now())
            )

    def published(self, kind: str) -> bytes | None:
        """Return its root (`pem`) or what it has revoked (`crl`), None where that is not known."""
        return self.issuer.root_pem if kind == "pem" else self.issuer.crl

    def reconfigure(self, config: Configuration) -> None:
        """Go by another configuration from now on, which has the same CA."""
        self.issuer.reconfigure(config.local_cas[self.name])

    def sweep(self, validators: Mapping[str, Validator], on_progress: Callable[[], None]) -> None:
        """Withdraw nothing: nothing is proved to it."""

    def revoke(self, certificate: bytes, reason: str, deadline: Deadline) -> bool:  # noqa: ARG002 - for CAs outside
        """Leave a certificate to `follow`, which publishes what the state says is revoked."""
        return True

    def stop(self) -> None:
        """End nothing: it signs at once."""

    def close(self) -> None:
        """Let go of threads."""
        self.issuer.close()
