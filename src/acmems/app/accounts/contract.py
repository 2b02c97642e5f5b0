"""The contract between a server and what orders for it: an account at an ACME CA, or a CA of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from acmems.challenges import Validator
from acmems.config import Configuration
from acmems.frontends.history import RecordedHistory
from acmems.issuing.issuance import Issuance
from acmems.storages import IssuerIdentity
from acmems.system.clock import Deadline


class OrderingParty(Protocol):
    """Orders chains, and looks after what it needs for that."""

    @property
    def name(self) -> str:
        """The name of its section; empty where that has none."""

    @property
    def section(self) -> str:
        """Its section, as a configuration has it."""

    @property
    def identity(self) -> IssuerIdentity:
        """Whose chains it orders."""

    @property
    def issuance(self) -> Issuance:
        """Turns requests into chains."""

    @property
    def history(self) -> RecordedHistory | None:
        """Notes its chains, None where there is no state."""

    def find(self) -> bool:
        """Get its keys, or make them where that is agreed; tell whether somebody is to be asked about them.

        Raises:
            AccountError, NeedToAgreeToTOS: they cannot be used, or there are none.
            CAError, RateLimited, DeadlinePassed: there are none yet, and the CA does not help.
            StateUnavailable: it cannot be told what other servers use.
        """

    def load(self, *, is_asked: bool) -> None:
        """Get ready to act for a command.

        Args:
            is_asked: whether the command is about it, so that it has to be known to its CA.

        Raises:
            AccountError: its keys cannot be used.
            CAError, RateLimited, DeadlinePassed: the CA does not know it, or does not answer.
        """

    def check(self) -> None:
        """Ask about it whoever has to know it; orders do not wait for that.

        Raises:
            AccountError, CAError, RateLimited, DeadlinePassed: nothing can be ordered.
        """

    def follow(self) -> None:
        """Do what is to be done from time to time.

        Raises:
            AccountError: a file cannot be written.
            StateUnavailable: the state cannot be read.
        """

    def reconfigure(self, config: Configuration) -> None:
        """Go by another configuration from now on."""

    def sweep(self, validators: Mapping[str, Validator], on_progress: Callable[[], None]) -> None:
        """Withdraw the proofs that a crash, or a validator that did not work, has left behind.

        Args:
            validators: what may have presented them, by name.
            on_progress: called after each batch of proofs.
        """

    def revoke(self, certificate: bytes, reason: str, deadline: Deadline) -> bool:
        """Revoke a certificate, and tell whether it was not revoked before.

        Args:
            certificate: in DER.
            reason: as RFC 5280 section 5.3.1 names it.
            deadline: when to give up.

        Raises:
            CAProblem: the CA refuses.
            CAError, RateLimited, DeadlinePassed: the CA did not answer usably.
        """

    def stop(self) -> None:
        """End all that goes on, now and from now on; unfinished orders stay open."""

    def close(self) -> None:
        """Stop, and let go of threads."""
