"""The contract between issuances and what turns a request into a chain."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

from acmems.challenges import Validator
from acmems.system.clock import Deadline
from acmems.system.steps import StepLoop, Steps
from acmems.x509.csr import CertificateRequest


class IssuanceMemory(Protocol):
    """Remembers over a restart what has begun; the futures are done once that is certain."""

    def intend(self, identity: str, csr: bytes, block: str | None, now: datetime.datetime) -> Future[None]:
        """Remember that an order is going to be placed, or an open one to be continued.

        Args:
            identity: what makes two requests the same.
            csr: the certificate request as the client sent it.
            block: the auth block that grants it.
            now: the time.
        """

    def forget(self, identity: str) -> Future[None]:
        """Forget what has begun: its chain is safe, or of no use."""


class Issuer(Protocol):
    """What turns a certificate request into a chain."""

    @property
    def loop(self) -> StepLoop:
        """Runs the steps of `obtain`, and those of the issuances around it."""

    @property
    def account_url(self) -> str | None:
        """The URL of its account, for events; None where there is none."""

    @property
    def key_digest(self) -> str | None:
        """The SHA-256 of its account's public key, which nobody gets a certificate for."""

    def obtain(
        self,
        request: CertificateRequest,
        validators: Sequence[Validator],
        deadline: Deadline,
        identity: str,
    ) -> Steps[bytes]:
        """Return a new chain in PEM, as it was issued.

        Args:
            request: what is asked for.
            validators: what can prove its names, best first.
            deadline: when to give up.
            identity: what makes two requests the same; what was begun for the same is continued.

        Raises:
            AcmeException: why there is none.
        """
