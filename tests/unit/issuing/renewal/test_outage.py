"""A CA that is away while hundreds of chains are due: the real planner, issuance, ledger and state."""

from __future__ import annotations

import datetime
import itertools
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from pathlib import Path

import pytest
from tests.auth_blocks import OneOfEach
from tests.chains import make_chain, make_request
from tests.issuing import IDENTITY, Authority, House

from acmems.auth import Block
from acmems.auth.processor import Authenticator
from acmems.challenges import Validator
from acmems.exceptions import CAUnavailable
from acmems.frontends.delivery import SigningPolicy
from acmems.frontends.history import RecordedHistory
from acmems.frontends.renewing import AheadRenewal
from acmems.issuers.acme.orders.placing import OrderTerms
from acmems.issuing.limits.accounting import LimitAccounting
from acmems.issuing.limits.gcra import Rate
from acmems.issuing.limits.limit import Counted, Limit
from acmems.issuing.renewal.planner import RenewalPlanner
from acmems.issuing.renewal.prior import PriorChains
from acmems.issuing.requests import Delivery
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.chains.renewals import RenewalQuestion, RenewalRecords
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.state.limits.buckets import BucketRecords
from acmems.system.clock import Clock, Deadline
from acmems.system.steps import Steps
from acmems.x509.chain import OfferedChain
from acmems.x509.csr import CertificateRequest

DUE = 500
AT_ONCE = 64
TICK = datetime.timedelta(seconds=10)
MINUTE = datetime.timedelta(minutes=1)
HOUR = 60 * MINUTE
WEEK_MS = 7 * 86_400_000
LIMIT = Limit("orders a week", Counted.ORDERS, Rate(DUE, WEEK_MS))
"""Exactly as many as are due: a try that came to nothing must not have cost a place."""


class MovableClock:
    """Real time, moved forward."""

    def __init__(self) -> None:
        self.moved = datetime.timedelta()
        self.clock = Clock(
            monotonic=lambda: time.monotonic() + self.moved.total_seconds(),
            now=lambda: datetime.datetime.now(datetime.UTC) + self.moved,
        )


class CountedAuthority(Authority):
    """A CA that may be away, and an issuer that takes places before it asks."""

    tries: dict[str, list[datetime.datetime]]
    time: MovableClock
    running = 0
    most_running = 0

    def obtain(
        self,
        request: CertificateRequest,
        validators: Sequence[Validator],
        deadline: Deadline,
        identity: str,
        terms: OrderTerms | None,
        *,
        prepared: str | None = None,
    ) -> Steps[OfferedChain]:
        assert terms is not None
        yield from terms.reserve((yield from terms.replaces()))
        self.tries[request.names[0]].append(self.time.clock.now())
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return (yield from super().obtain(request, validators, deadline, identity, terms))
        except CAUnavailable:
            terms.give_back(is_placed=False)
            raise
        finally:
            self.running -= 1


class Site:
    """A server with chains that are all due, and clients that have them."""

    def __init__(self, folder: Path) -> None:
        self.time = MovableClock()
        clock = self.time.clock
        self.database = SqliteDatabase.open(folder / "state.sqlite")
        self.chains = ChainRecords(self.database)
        self.plans = RenewalRecords(self.database)
        self.buckets = BucketRecords(self.database)
        prior = PriorChains(self.chains, self.plans, IDENTITY.directory, clock)
        limits = LimitAccounting(lambda: [LIMIT], lambda: "account", self.buckets, prior, clock)
        history = RecordedHistory(self.chains, IDENTITY, clock)
        self.house = House(clock, history=history, limits=limits)
        self.ca = CountedAuthority(self.house.loop)
        self.ca.tries, self.ca.time = defaultdict(list), self.time
        self.house.issuance.issuer = self.ca
        self.house.storage.renews_ahead = True
        place = OneOfEach()
        place.default_storage = self.house.storage
        block = Block("b", (("all", "yes"), ("domain", "*.example.org")), place)
        policy = SigningPolicy(Authenticator((block,)), 60.0, "dropped")
        self._ahead = AheadRenewal(self.chains, lambda: policy, self.house.issuances, clock)
        self._running: list[Future[None]] = []
        self.planner = RenewalPlanner(
            self.chains,
            self.plans,
            self._ask,
            self._renew,
            tell=lambda _: None,
            clock=clock,
            most_at_once=AT_ONCE,
        )
        self.requests = [make_request(f"host{number}.example.org") for number in range(DUE)]
        self.old = [make_chain(request, days=20) for request in self.requests]
        records = []
        for request, chain in zip(self.requests, self.old, strict=True):
            self.house.storage.chains[request.key_digest] = chain
            records.append(
                ChainRecord.of(
                    chain,
                    identity=self.house.issuance.key(request).digest,
                    directory=IDENTITY.directory,
                    profile=None,
                    issued=chain.not_before,
                    block="b",
                    client="192.0.2.1",
                    csr=request.pem,
                )
            )
        self.chains.adopt(records).result(60)

    def pass_time(self, span: datetime.timedelta) -> None:
        """Let time pass, with the planner at work."""
        until = self.time.moved + span
        while self.time.moved < until:
            self.planner.run()
            while self._running:
                running, self._running = self._running, []
                wait(running, 60)
            self.database.write(lambda _: None).result(60)
            self.time.moved += TICK

    def ask(self, number: int) -> Delivery:
        """Ask as one of the clients does."""
        accepted = self.house.accept(self.requests[number], block="b")
        return self.house.issuance.issue(accepted).result(60)

    def places(self) -> int:
        """Return how many places of the limit are taken, as nearly none become free within hours."""
        self.database.write(lambda _: None).result(60)  # what was given back is written by then
        instants = [each.instant for each in self.buckets.all()]
        now = self.time.clock.now().timestamp() * 1000
        return round(sum(max(0.0, each - now) for each in instants) / LIMIT.rate.interval)

    def _ask(
        self, questions: Sequence[RenewalQuestion]
    ) -> Iterable[tuple[RenewalQuestion, CAUnavailable | None]]:
        error = self.ca.error
        return [(each, error if isinstance(error, CAUnavailable) else None) for each in questions]

    def _renew(self, chain: ChainRecord, announced: bool) -> Future[None]:
        future = self._ahead(chain, announced)
        self._running.append(future)
        return future


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.house.close()
    made.database.close()


def test_the_ca_is_away_for_an_hour(site: Site) -> None:
    """Old chains are delivered, tries become rarer and cost no place, and then all are renewed."""
    site.ca.error = CAUnavailable("the CA is away")
    for _ in range(3):
        site.pass_time(HOUR / 3)
        for number in (0, DUE // 2, DUE - 1):
            delivery = site.ask(number)
            assert (delivery.source, delivery.chain) == ("stale", site.old[number])
    asked = {site.requests[number].names[0] for number in (0, DUE // 2, DUE - 1)}
    tries = {name: moments for name, moments in site.ca.tries.items() if name not in asked}
    assert len(tries) == DUE - 3
    for moments in tries.values():
        pauses = [later - earlier for earlier, later in itertools.pairwise(moments)]
        assert all(pause >= 5 * MINUTE * 2**number for number, pause in enumerate(pauses)), pauses
        assert 3 <= len(moments) <= 4
    assert site.places() == 0

    before = len(site.ca.orders)
    site.ca.error = None
    site.pass_time(HOUR)
    assert len(site.ca.orders) - before == DUE, "each is ordered once"
    assert site.ca.most_running <= AT_ONCE
    assert site.places() >= DUE - 3, "but for what has become free meanwhile"
    new = {site.ask(number).chain.fingerprint for number in range(DUE)}
    assert len(new) == DUE
    assert new.isdisjoint(each.fingerprint for each in site.old)
    assert len(site.ca.orders) - before == DUE, "clients get what was renewed for them"
    assert site.plans.to_try(site.time.clock.now() + HOUR, DUE) == []
