"""How certificates stand: valid, due, expired, and what is being ordered."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from acmems.commands.tables import Cell, cell
from acmems.commands.views.documents import rfc3339
from acmems.config import Configuration
from acmems.exceptions import AcmeException
from acmems.issuing.renewal.due import OVERDUE, effective, overdue_share
from acmems.state.overview import CertificateSummary, UnfinishedOrder
from acmems.system.terminal import Colour
from acmems.x509 import csr
from acmems.x509.chain import renewal_time

CertificateState = Literal[
    "fresh", "due", "failing", "overdue", "expired", "revoked", "superseded", "ordered", "none"
]

_COLOURS: Mapping[CertificateState, Colour] = {
    "fresh": Colour.GREEN,
    "due": Colour.YELLOW,
    "failing": Colour.YELLOW,
    "overdue": Colour.RED,
    "expired": Colour.RED,
    "revoked": Colour.RED,
    "superseded": Colour.DIM,
    "ordered": Colour.YELLOW,
    "none": Colour.RED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateStanding:
    """A certificate and its state, an order for the first one of its kind, or names that have neither.

    Args:
        names: its names.
        state: what has become of it, in a word.
        block: the auth block that granted it, None where that is not known.
        issuer: the URL of the CA's directory.
        due: when it is to be renewed (aware), None where there is none.
        certificate: what else is known of the certificate, None where there is none.
        order_url: the order by which one is being obtained, None where there is none.
    """

    names: tuple[str, ...]
    state: CertificateState
    block: str | None
    issuer: str
    due: datetime.datetime | None = None
    certificate: CertificateSummary | None = None
    order_url: str | None = None

    @classmethod
    def of_certificate(
        cls, certificate: CertificateSummary, config: Configuration, now: datetime.datetime
    ) -> Self:
        """Return how a certificate stands.

        Args:
            certificate: the certificate.
            config: knows when its storage has it renewed.
            now: the time (aware).
        """
        storage, plan = config.storages.get(certificate.storage or ""), certificate.plan
        within = None if storage is None else storage.renew_within
        due = effective(
            renewal_time(certificate.not_before, certificate.not_after, within),
            None if plan is None else plan.due,
            is_told=plan is not None and plan.is_told,
            is_ahead=storage is not None and storage.renews_ahead,
        )
        return cls(
            names=certificate.names,
            state=_state(certificate, due, now),
            block=certificate.block,
            issuer=certificate.directory,
            due=due,
            certificate=certificate,
            order_url=None if certificate.superseded is not None else certificate.order_url,
        )

    @classmethod
    def of_order(cls, order: UnfinishedOrder, config: Configuration) -> Self:
        """Return how something stands of which there is no certificate yet.

        Args:
            order: the order.
            config: has the CAs.
        """
        return cls(
            names=names_of(order, config),
            state="ordered",
            block=order.block,
            issuer=issuer_at(config, order.url),
            order_url=order.url,
        )

    @property
    def state_cell(self) -> Cell:
        """What a table says of the state, and of another certificate that is being ordered."""
        is_renewed = self.order_url is not None and self.state != "ordered"
        return cell(f"{self.state}, ordering" if is_renewed else self.state, _COLOURS[self.state])

    @property
    def renewal_failure(self) -> str | None:
        """Why the last try to renew it ahead has failed, or was not made; None where none was."""
        plan = None if self.certificate is None else self.certificate.plan
        return None if plan is None else plan.reason

    @property
    def issuer_host(self) -> str:
        """The host of the CA; a local one has none, and is called by its own name."""
        return urlsplit(self.issuer).netloc or self.issuer

    def document(self) -> dict[str, Any]:
        """Return the members of a JSON document; docs/operations.md describes each."""
        known = self.certificate
        return {
            "names": list(self.names),
            "state": self.state,
            "block": self.block,
            "issuer": self.issuer,
            "storage": known and known.storage,
            "serial": known and known.serial,
            "fingerprint": known and known.fingerprint,
            "not_before": None if known is None else rfc3339(known.not_before),
            "not_after": None if known is None else rfc3339(known.not_after),
            "renewal_due": rfc3339(self.due),
            "last_asked": None if known is None else rfc3339(known.last_asked),
            "asked_by": known and known.asked_by,
            "superseded": None if known is None else rfc3339(known.superseded),
            "revoked": None if known is None else rfc3339(known.revoked),
            "reason": known and known.reason,
            "order": self.order_url,
            "renewal_failure": self.renewal_failure,
        }


def names_of(order: UnfinishedOrder, config: Configuration) -> tuple[str, ...]:
    """Return the names that an order is for; none where its CSR is not acceptable any more."""
    try:
        return csr.parse(order.csr, config.auth.rules).names
    except AcmeException:
        return ()


def _state(
    certificate: CertificateSummary, due: datetime.datetime, now: datetime.datetime
) -> CertificateState:
    if certificate.reason is not None or certificate.revoked is not None:
        return "revoked"
    if certificate.superseded is not None:
        return "superseded"
    if now > certificate.not_after:
        return "expired"
    if now < due:
        return "fresh"
    if overdue_share(due.timestamp(), certificate.not_after.timestamp(), now.timestamp()) >= OVERDUE:
        return "overdue"
    return "failing" if certificate.plan is not None and certificate.plan.failures else "due"


def issuer_at(config: Configuration, url: str | None) -> str:
    """Return the URL of the directory of the CA that a URL is one of; that of [account] where it is of none.

    Args:
        config: has the accounts.
        url: of an order or an account.
    """
    accounts = config.accounts.values()
    found = (each for each in accounts if url is not None and each.is_of_ca(url))
    local = next(iter(config.local_cas.values()), None)
    if not config.accounts and local is not None:
        return local.directory
    return next(found, config.account).directory_url
