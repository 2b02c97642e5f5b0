"""Finds what a person means by a name, a serial number or a fingerprint, and all that is known of it."""

from __future__ import annotations

import datetime
import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from acmems.commands.views.pauses import PauseView
from acmems.commands.views.standing import CertificateStanding, issuer_at, names_of
from acmems.config import Configuration
from acmems.exceptions import AcmeException
from acmems.state.acme.certificates import AccountCertificates
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.chains.renewals import RenewalRecord, RenewalRecords
from acmems.state.engines.contract import Database
from acmems.state.events import EventFilter, EventRecord, EventRecords
from acmems.state.overview import StateOverview, UnfinishedOrder
from acmems.x509 import csr
from acmems.x509.chain import Chain, parse_once

MOST_EVENTS = 10
"""How many events are shown, the newest ones."""

_LITERAL = str.maketrans({"\\": "\\\\", "%": "\\%", "_": "\\_"})


@dataclass(frozen=True, slots=True)
class ShownCertificate:
    """All that is known of one certificate, or of what was asked for in vain.

    Args:
        standing: how it stands.
        record: the certificate, None where there is none.
        order: the open order, None where there is none.
        history: other certificates of the same identity, newest first.
        pauses: what keeps it from being ordered.
        events: what happened lately, oldest first.
        plan: when the certificate is to be renewed, None where that is not planned.
        acme_accounts: the ids of the ACME clients' accounts that have got it.
    """

    standing: CertificateStanding
    record: ChainRecord | None
    order: UnfinishedOrder | None
    history: Sequence[CertificateStanding]
    pauses: Sequence[PauseView]
    events: Sequence[EventRecord]
    plan: RenewalRecord | None = None
    acme_accounts: Sequence[str] = ()

    @property
    def chain(self) -> Chain | None:
        """The certificate, read; None where there is none, or it is damaged."""
        try:
            return None if self.record is None else parse_once(self.record.pem)
        except ValueError:
            return None


class CertificateFinder:
    """Finds certificates and open orders in a state.

    Args:
        config: knows when certificates are to be renewed.
        database: the state.
        now: the time (aware).
    """

    def __init__(self, config: Configuration, database: Database, now: datetime.datetime) -> None:
        self._config = config
        self._chains = ChainRecords(database)
        self._plans = RenewalRecords(database)
        self._certificates = AccountCertificates(database)
        self._overview = StateOverview(database)
        self._events = EventRecords(database)
        self._now = now

    def find(self, wanted: str) -> Iterator[ShownCertificate]:
        """Yield what a person may mean, one for each set of names and key, newest first.

        Where there is no certificate and no order, but somebody has asked for the name, the last time is
        yielded.

        Args:
            wanted: a name, or a serial number or SHA-256 fingerprint in hex.

        Raises:
            StateUnavailable: the state cannot be read.
        """
        shown: set[str] = set()
        for record in self._chains.find(wanted):
            if record.identity not in shown:
                shown.add(record.identity)
                yield self._certificate(record)
        for order in self._overview.new_orders():
            if wanted.lower() in names_of(order, self._config) and order.identity not in shown:
                shown.add(order.identity)
                yield self._order(order)
        if not shown and (asked := self._last_event(wanted.lower())) is not None:
            yield self._asked_in_vain(asked)

    @functools.cached_property
    def _pauses(self) -> Sequence[PauseView]:
        return [PauseView.of(each) for each in self._overview.pauses(self._now)]

    def _certificate(self, record: ChainRecord) -> ShownCertificate:
        all_of_it = [
            CertificateStanding.of_certificate(each, self._config, self._now)
            for each in self._overview.history(record.identity)
        ]
        found = {each.certificate.fingerprint: each for each in all_of_it if each.certificate is not None}
        standing = found.pop(record.fingerprint)
        order = self._overview.order(record.identity) if record.superseded is None else None
        asked = record.csr if order is None else order.csr
        return ShownCertificate(
            standing,
            record,
            order,
            list(found.values()),
            self._pausing(standing, asked),
            self._latest(standing.names),
            self._plans.of(record.fingerprint),
            self._certificates.accounts_of(record.fingerprint),
        )

    def _order(self, order: UnfinishedOrder) -> ShownCertificate:
        standing = CertificateStanding.of_order(order, self._config)
        return ShownCertificate(
            standing, None, order, [], self._pausing(standing, order.csr), self._latest(standing.names)
        )

    def _asked_in_vain(self, event: EventRecord) -> ShownCertificate:
        standing = CertificateStanding(
            names=event.names, state="none", block=event.block, issuer=issuer_at(self._config, event.account)
        )
        pauses = self._pausing(standing, None)
        return ShownCertificate(standing, None, None, [], pauses, self._latest(event.names))

    def _last_event(self, name: str) -> EventRecord | None:
        about = EventFilter(names=f"%{name.translate(_LITERAL)}%")
        return next((each for each in self._events.search(about) if name in each.names), None)

    def _pausing(self, standing: CertificateStanding, asked: bytes | None) -> list[PauseView]:
        try:
            digest = None if asked is None else csr.parse(asked, self._config.auth.rules).content_digest
        except AcmeException:
            digest = None
        return [
            each for each in self._pauses if each.subject.concerns(standing.names, standing.block, digest)
        ]

    def _latest(self, names: Sequence[str]) -> list[EventRecord]:
        """Return the latest events about exactly these names."""
        if not names:
            return []
        exactly = EventFilter(names="\n".join(names).translate(_LITERAL))
        return [*itertools.islice(self._events.search(exactly), MOST_EVENTS)][::-1]
