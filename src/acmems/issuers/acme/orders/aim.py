"""What an order is wanted for: a request for a certificate, or the preparation of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from acmems.challenges import Validator
from acmems.issuers.acme.orders.placing import OrderTerms
from acmems.system.clock import Deadline
from acmems.x509.identifiers import Identifier


@dataclass(frozen=True, slots=True)
class OrderAim:
    """What an order is wanted for.

    Args:
        identifiers: what is asked for.
        validators: what can prove it, best first.
        deadline: when to give up.
        identity: what makes two requests the same.
        terms: those of an order that has to be placed, None for none.
        prepared: what an order that may be taken is prepared for, None for nothing.
        is_preparation: whether there is no CSR yet.
    """

    identifiers: Sequence[Identifier]
    validators: Sequence[Validator]
    deadline: Deadline
    identity: str
    terms: OrderTerms | None
    prepared: str | None = None
    is_preparation: bool = False

    @property
    def names(self) -> list[str]:
        """The texts of the identifiers."""
        return [each.value for each in self.identifiers]
