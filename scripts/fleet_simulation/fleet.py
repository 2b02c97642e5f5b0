"""The machines, and the server that renews for them, with the real planner and ledger."""

from __future__ import annotations

import datetime
import hashlib
import heapq
import itertools
import random
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from scripts.fleet_simulation.ca import CountingCA, IssuedLeaf, SuggestedWindow, Time
from scripts.fleet_simulation.outcome import Outcome
from scripts.fleet_simulation.plan import DAY, HOUR, LIFETIMES, SECOND, START, Plan
from scripts.fleet_simulation.state import USUAL_CACHE, SteppedDatabase

from acmems.exceptions import AcmeException, CAUnavailable, LimitReached, RateLimited
from acmems.issuing.limits.charges import Renewal
from acmems.issuing.limits.ledger import Ledger, Reservation
from acmems.issuing.renewal.planner import OverdueChain, RenewalPlanner
from acmems.issuing.renewal.prior import PriorChains
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.chains.renewals import RenewalQuestion, RenewalRecords
from acmems.state.limits.buckets import BucketRecords
from acmems.system.clock import Clock
from acmems.x509.identifiers import Identifier

DIRECTORY = "https://ca.example/directory"
STATE = "state.sqlite"
"""The file that it works with."""
RENEWALS_A_SECOND = 6.4
"""As `acmems.app.renewals` lets the planner work: 64 at once, every ten seconds."""

_AT_ONCE = 2000
_QUESTIONS_AT_ONCE = 16
_PAUSE = HOUR  # of a machine that was told that the CA is away
_BY_MARK = {str(number): lifetime for number, lifetime in enumerate(LIFETIMES)}
_USED_SHARE = 0.66  # of a lifetime, over which the first certificates are spread


@dataclass(frozen=True, slots=True)
class _PlacedRenewal:
    """A renewal that waits for its places in the ledger."""

    chain: ChainRecord
    replaces: bool
    place: Future[Reservation | LimitReached]
    done: Future[None]


@dataclass
class Course:
    """How far a simulation has come, beside what is in the state.

    Args:
        time: what time it is.
        random: all chance.
        ca: the CA.
        numbers: of the machines to come.
        newcomers: machines without a certificate, as a heap: when each asks, its number and name, and when
            it has asked first.
        ends: of the current certificate of each machine, by its number, in seconds since 1970; 0: none yet.
        outcome: what has come of it.
    """

    time: Time
    random: random.Random
    ca: CountingCA
    numbers: Iterator[int] = field(default_factory=itertools.count)
    newcomers: list[tuple[datetime.datetime, int, str, datetime.datetime]] = field(default_factory=list)
    ends: array[int] = field(default_factory=lambda: array("q"))
    outcome: Outcome = field(default_factory=Outcome)

    @classmethod
    def new(cls, plan: Plan) -> Course:
        """Return that of a simulation that begins."""
        now = Time()
        return cls(now, random.Random(plan.seed), CountingCA(now, plan))  # noqa: S311 - it must come out the same again


class Fleet:
    """A fleet and its server.

    Args:
        folder: where its state is, or comes to be.
        plan: what is simulated.
        course: how far it has come.
        cache: bytes of the state that are kept in memory.
    """

    def __init__(self, folder: Path, plan: Plan, course: Course, cache: int = USUAL_CACHE) -> None:
        self._plan = plan
        self.course = course
        self.ca = course.ca
        self.outcome = course.outcome
        self._time = course.time
        self._random = course.random
        self._newcomers = course.newcomers
        self._ends = course.ends
        self._database = SteppedDatabase(folder / STATE, lambda: int(self._time.now.timestamp()), cache)
        self._chains = ChainRecords(self._database)
        self._plans = RenewalRecords(self._database)
        clock = Clock(now=lambda: self._time.now)
        buckets = BucketRecords(self._database)
        self._buckets = buckets
        self._ledger = Ledger(plan.overrides.limits, "account", buckets, clock)
        self._prior = PriorChains(self._chains, self._plans, DIRECTORY, clock)
        self._planner = RenewalPlanner(
            self._chains,
            self._plans,
            self._ask,
            self._renew,
            tell=self._tell,
            clock=clock,
            identify=self._identify,
            share=self._random.random,
            most_questions=2000,
            most_at_once=_AT_ONCE,
        )
        self._placed: list[_PlacedRenewal] = []
        self._done = 0  # grows with all that is done

    def begin(self) -> None:
        """Issue what the fleet has at the start, some time in the first two thirds of a lifetime ago."""
        for _ in range(self._plan.certificates):
            lifetime = self._lifetime()
            age = lifetime * _USED_SHARE * self._random.random()
            self._add(self._name(), START - age // self._plan.step * self._plan.step, lifetime)

    def run(self, on_day: Callable[[int], bool]) -> None:
        """Let time pass, and tell of each day that is over; what is told returns whether to go on."""
        for day in range(self.outcome.days, self._plan.days):
            self._welcome(day)
            until = self._time.now + DAY
            while self._time.now < until:
                self._issue_new()
                self._look()
                self._time.now += self._plan.step
                if self._plan.keep_chains is not None:
                    self._chains.forget(self._time.now - self._plan.keep_chains)
            self.ca.forget()
            self._buckets.forget(int(self._time.now.timestamp() * 1000))
            if day % 30 == 0:
                self.time_plan()
            self.outcome.days = day + 1
            if not on_day(day):
                return

    def commit(self) -> None:
        """Commit the state, so that it can be kept."""
        self._database.commit()

    def finish(self) -> Outcome:
        """Look once more at everything, close the state, and return what has come of it."""
        now = int(self._time.now.timestamp())
        self.outcome.expired += sum(1 for each in self._ends if each and each < now)
        self.time_plan()
        self.outcome.certificates = sum(1 for each in self._ends if each)
        self.outcome.waiting = len(self._newcomers)
        self.outcome.take(self.ca)
        self._database.close()
        return self.outcome

    def time_plan(self) -> None:
        """List what is to be renewed within an hour, and take note of how long that takes."""
        began = time.perf_counter()
        found = self._plans.to_try(self._time.now + HOUR, self._plan.certificates)
        self.outcome.plan_seconds = max(self.outcome.plan_seconds, time.perf_counter() - began)
        self.outcome.planned = len(found)

    def _look(self) -> None:
        """Let the planner work until nothing is left to do, or a step is over."""
        most = RENEWALS_A_SECOND * (self._plan.step / SECOND)
        tries, before = self.outcome.tries, -1
        while before != self._done and self.outcome.tries - tries < most:
            before = self._done
            self._planner.run()
            self._settle()

    def _name(self) -> str:
        """Return the name of a machine; the first domains have many more of them than the last."""
        share = self._random.random() ** 2
        return f"host{next(self.course.numbers)}.d{int(self._plan.domains * share)}.example"

    def _lifetime(self) -> datetime.timedelta:
        return self._random.choices(LIFETIMES, self._plan.shares)[0]

    def _add(self, name: str, issued: datetime.datetime, lifetime: datetime.timedelta) -> Future[None]:
        fingerprint = hashlib.sha256(f"{name} {issued}".encode()).hexdigest()
        record = ChainRecord(
            fingerprint=fingerprint,
            identity=name,
            directory=DIRECTORY,
            names=(name,),
            serial=fingerprint[:32],
            key_digest=fingerprint[32:],
            pem=b"",
            not_before=issued,
            not_after=issued + lifetime,
            issued=issued,
        )
        number = _number(name)
        self._ends.extend([0] * (number + 1 - len(self._ends)))
        self._ends[number] = int(record.not_after.timestamp())
        return self._chains.add(record, soon=False)

    def _identify(self, chain: ChainRecord) -> str:
        self._done += 1
        return f"{LIFETIMES.index(chain.not_after - chain.not_before)}.{chain.fingerprint}"

    def _ask(
        self, questions: Sequence[RenewalQuestion]
    ) -> Iterator[tuple[RenewalQuestion, SuggestedWindow | AcmeException]]:
        if self.ca.is_away:  # nobody goes on asking
            self.ca.questions += len(questions[:_QUESTIONS_AT_ONCE])
            yield from ((question, CAUnavailable("away")) for question in questions[:_QUESTIONS_AT_ONCE])
            return
        self.ca.questions += len(questions)
        self._done += len(questions)
        window_of = self.ca.window_of
        for each in questions:
            yield each, window_of(each.fingerprint, _BY_MARK[(each.certificate or "0")[0]], each.ends_at)

    def _renew(self, chain: ChainRecord, _announced: bool) -> Future[None]:
        """Take places for an order; it is placed by `_settle`, together with others."""
        done: Future[None] = Future()
        self._done += 1
        self.outcome.tries += 1
        if self.ca.is_away:
            self._fail(done, "the CA is away", CAUnavailable("away"))
            return done
        identifiers = [Identifier.dns(chain.names[0])]
        prior = self._prior.of(chain.identity, identifiers)
        renewal = Renewal(is_announced=prior.is_wanted, is_known=prior.is_known)
        place = self._ledger.reserve(identifiers, renewal, None)
        self._placed.append(_PlacedRenewal(chain, prior.is_wanted, place, done))
        return done

    def _settle(self) -> None:
        """Place the orders that have their places."""
        placed, self._placed = self._placed, []
        for each in placed:
            outcome = each.place.result()
            if isinstance(outcome, LimitReached):
                self._fail(each.done, f"own ledger: {outcome.limit}", outcome)
            elif self._order(each):
                lifetime = each.chain.not_after - each.chain.not_before
                self._add(each.chain.names[0], self._time.now, lifetime)
                each.done.set_result(None)
            else:
                self._fail(each.done, "the CA refused", RateLimited("refused", retry_after=3600))

    def _order(self, placed: _PlacedRenewal) -> bool:
        chain, now = placed.chain, self._time.now
        lifetime = chain.not_after - chain.not_before
        leaf = IssuedLeaf(chain.fingerprint, lifetime, int(chain.not_after.timestamp()))
        if not self.ca.order(chain.names[0], leaf, replaces=placed.replaces):
            return False
        if chain.not_after < now:
            self.outcome.expired += 1
        self.outcome.renewals += 1
        self.outcome.latest = max(self.outcome.latest, (now - chain.not_before) / lifetime)
        return True

    def _fail(self, done: Future[None], why: str, error: AcmeException) -> None:
        self.outcome.failed[why] += 1
        done.set_exception(error)

    def _tell(self, _overdue: OverdueChain) -> None:
        self.outcome.told += 1

    def _welcome(self, day: int) -> None:
        """Let the new machines of a day come, at any time of it; those of the burst at once."""
        size = self._plan.certificates
        moments = [DAY * self._random.random() for _ in range(int(size / 1000 * self._plan.growth))]
        if day == self._plan.burst:
            moments += [9 * HOUR] * int(size * self._plan.burst_share)
        for after in moments:
            asked = self._time.now + after
            name = self._name()
            heapq.heappush(self._newcomers, (asked, _number(name), name, asked))

    def _issue_new(self) -> None:
        """Issue for new machines; one that gets no certificate asks again when it was told to."""
        now, asking = self._time.now, []
        while self._newcomers and self._newcomers[0][0] <= now:
            asking.append(heapq.heappop(self._newcomers))
        if self.ca.is_away:
            for _, number, name, first in asking:
                heapq.heappush(self._newcomers, (now + _PAUSE, number, name, first))
            return
        for _, number, name, first in asking:
            outcome = self._ledger.reserve([Identifier.dns(name)], Renewal(), "web").result()
            if isinstance(outcome, LimitReached):
                self.outcome.refused += 1
                until = now + datetime.timedelta(seconds=outcome.retry_after or 0)
                heapq.heappush(self._newcomers, (until, number, name, first))
            elif self.ca.order(name, None, replaces=False):
                self.outcome.new += 1
                self.outcome.longest_wait = max(self.outcome.longest_wait, (now - first) / HOUR)
                self._add(name, now, self._lifetime())


def _number(name: str) -> int:
    return int(name.partition(".")[0].removeprefix("host"))
