"""What is to be prepared, and a preparation on its way."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Self

from acmems.challenges import Validator
from acmems.issuing.requests import IssuanceKey, owner_of
from acmems.storages import Storage
from acmems.system.shares import Share
from acmems.system.steps import Signal
from acmems.x509.identifiers import Identifier


@dataclass(frozen=True, slots=True)
class PreparationRequest:
    """Names that policy grants, and that somebody is going to send a CSR for.

    Args:
        identifiers: the names, sorted, each once.
        validators: what can prove them, best first.
        storage: where the chain will be kept.
        reference: names the request in the log.
        client: who asks.
        block: the auth block that grants it.
        most_orders: how many orders of that block may run at once, in place of its share; None for that.
        issuers: names of the accounts that may order it, best first.
        replaces: what the CA calls the certificate that whoever asks wants to be replaced, None for none.
    """

    identifiers: tuple[Identifier, ...]
    validators: Sequence[Validator]
    storage: Storage
    reference: str = "-"
    client: str = "-"
    block: str | None = None
    most_orders: int | None = None
    issuers: tuple[str, ...] = ("",)
    replaces: str | None = None

    @property
    def request(self) -> Self:
        """What is asked for, as a CSR would say it."""
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The texts of the identifiers."""
        return tuple(each.value for each in self.identifiers)

    @property
    def content_digest(self) -> str:
        """What stands for the CSR that there is not: no failure of a CSR says anything about it."""
        return "-"

    @property
    def owner(self) -> tuple[str | None, str]:
        """Whose share of this server it takes: auth block and client."""
        return owner_of(self.block, self.client)

    def known(self, account: str | None) -> dict[str, Any]:
        """Return what is known of it, as fields of an event.

        Args:
            account: the URL of the account that it is ordered with.
        """
        return {
            "reference": self.reference,
            "client": self.client,
            "names": self.names,
            "block": self.block,
            "account": account,
        }


@dataclass(slots=True, eq=False)
class Preparation:
    """A preparation that runs or waits for its turn.

    Args:
        key: what makes others the same.
        request: what it is tried with.
        waiting: who waits for it, and with which request.
        has_begun: False while it waits for its turn.
        ended: set when it ends.
    """

    key: IssuanceKey
    request: PreparationRequest
    waiting: list[tuple[PreparationRequest, Future[None]]] = field(default_factory=list)
    has_begun: bool = False
    ended: Signal = field(default_factory=Signal)

    @property
    def share(self) -> Share:
        """Whose share of the places it takes."""
        return Share(*self.request.owner, self.request.names, self.request.most_orders)
