"""Requests whose answer is fetched later, with a state and a CA that does as it is told."""

from __future__ import annotations

import dataclasses
from concurrent.futures import Future
from typing import Any

from tests.chains import make_request
from tests.issuing import IDENTITY, House

from acmems.frontends.deferral.deferrals import Deferrals, FoundRequest, RunningDeferral
from acmems.frontends.history import RecordedHistory
from acmems.issuing.failover.issuances import Issuances
from acmems.issuing.requests import AcceptedRequest
from acmems.state.chains import ChainRecords
from acmems.state.deferred import DeferredRequests
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.system.clock import SYSTEM
from acmems.x509.csr import CertificateRequest

SECONDS = 110.0  # that a client waits, by default


class Desk:
    """Deferrals of a house whose CA decides when it is told to.

    Args:
        database: their state.
        options: those of the issuance.
    """

    def __init__(self, database: SqliteDatabase, **options: Any) -> None:
        self.database = database
        self.chains = ChainRecords(database)
        history = RecordedHistory(self.chains, IDENTITY, SYSTEM)
        self.house = House(history=history, **options)
        self.house.authority.go.clear()
        self.records = DeferredRequests(database)
        self.is_stopping = False
        self.deferrals = Deferrals(
            self.records,
            self.chains,
            Issuances({"": self.house.issuance}, self.house.clock),
            self.house.issuance.bus,
            is_stopping=lambda: self.is_stopping,
            clock=self.house.clock,
        )

    def accepted(
        self, request: CertificateRequest | None = None, client: str = "192.0.2.1"
    ) -> AcceptedRequest:
        return dataclasses.replace(
            self.house.accept(request or make_request()), block="b", client=client, seconds=SECONDS
        )

    def begin(self, accepted: AcceptedRequest | None = None) -> tuple[RunningDeferral, str]:
        """Have a request begun, and its client told where the answer will be."""
        running = self.deferrals.join(accepted or self.accepted())
        return running, self.deferrals.defer(running).result(20)

    def find(self, name: str) -> FoundRequest:
        found: Future[FoundRequest | Exception] = Future()
        self.deferrals.find(name, (None, "192.0.2.1"), found.set_result)
        outcome = found.result(20)
        assert isinstance(outcome, FoundRequest)
        return outcome

    def has_outcome(self, name: str) -> bool:
        request = self.find(name).request
        return request is not None and request.outcome is not None

    def pass_time(self, seconds: float) -> None:
        self.house.pass_time(seconds)

    @property
    def orders(self) -> int:
        return len(self.house.authority.orders)

    @property
    def waiting(self) -> int:
        return sum(len(each.waiting) for each in self.house.issuance._table._running.values())
