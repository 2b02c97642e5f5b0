"""Simulate a year of a fleet of certificates: with the real planner, ledger and state, and a CA that counts.

That CA counts by the rules that Let's Encrypt publishes, and not by the code of acmems, so that an order is
seen that the ledger should not have let pass.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from acmems.exceptions import AcmeException, CAUnavailable, LimitReached
from acmems.issuing.limits.charges import Renewal
from acmems.issuing.limits.gcra import Rate
from acmems.issuing.limits.ledger import Ledger
from acmems.issuing.limits.limit import LETSENCRYPT, Counted, Limit
from acmems.issuing.renewal.planner import OverdueChain, RenewalPlanner
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.chains.renewals import RenewalRecord, RenewalRecords
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.state.limits.buckets import BucketRecords
from acmems.system.clock import Clock
from acmems.x509.identifiers import Identifier

DIRECTORY = "https://ca.example/directory"
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)
DAY = 24 * HOUR
WEEK_MS, HOUR_MS = 7 * 86_400_000, 3_600_000
LIFETIMES = ((0.60, 90 * DAY), (0.35, 45 * DAY), (0.05, 160 * HOUR))
OVERRIDES = (
    Limit("new orders per account", Counted.ORDERS, Rate(3000, 3 * HOUR_MS), exempts_renewals=True),
    Limit("certificates per registered domain", Counted.DOMAIN, Rate(2000, WEEK_MS), exempts_renewals=True),
    *(each for each in LETSENCRYPT if each.counts in {Counted.NAMES, Counted.FAILURES}),
)
"""The limits of an account that Let's Encrypt lets have more orders, and more certificates for a domain."""


@dataclass
class Time:
    """The simulated time."""

    now: datetime.datetime = START


@dataclass(frozen=True)
class Window:
    """What the CA says about a certificate."""

    start: datetime.datetime
    end: datetime.datetime
    explanation: str = ""
    retry_after: float | None = 86_400.0


@dataclass
class CountingCA:
    """A CA that counts as it says, and knows when it has to revoke.

    Args:
        time: what time it is.
        outage: when it is away: from, until.
        revocation: when it has to revoke a tenth of what is valid.
    """

    time: Time
    outage: tuple[datetime.datetime, datetime.datetime]
    revocation: datetime.datetime
    levels: dict[tuple[str, str], tuple[float, datetime.datetime]] = field(default_factory=dict)
    replaced: set[str] = field(default_factory=set)
    broken: Counter[str] = field(default_factory=Counter)
    orders: Counter[int] = field(default_factory=Counter)
    counted: Counter[int] = field(default_factory=Counter)
    questions: int = 0

    @property
    def is_away(self) -> bool:
        """Whether it does not answer."""
        return self.outage[0] <= self.time.now < self.outage[1]

    def window(self, fingerprint: str, issued: datetime.datetime, ends: datetime.datetime) -> Window:
        """Return when to renew: about two thirds of the lifetime, or half of a short one."""
        if self.is_revoked(fingerprint, issued):
            return Window(self.revocation - HOUR, self.revocation + DAY, "https://ca.example/incident")
        lifetime = ends - issued
        ideal = ends - lifetime / (2 if lifetime < 10 * DAY else 3)
        return Window(ideal - lifetime / 100, ideal + lifetime / 100)

    def is_revoked(self, fingerprint: str, issued: datetime.datetime) -> bool:
        """Tell whether it is one of those that the CA has to revoke."""
        return issued < self.revocation <= self.time.now and int(fingerprint[:4], 16) % 10 == 0

    def order(self, name: str, old: ChainRecord | None, *, replaces: bool) -> None:
        """Take an order, or refuse it and remember that a limit was broken."""
        day = (self.time.now - START) // DAY
        self.orders[day] += 1
        if old is not None and replaces and old.fingerprint not in self.replaced:
            window = self.window(old.fingerprint, old.not_before, old.not_after)
            if window.start <= self.time.now <= window.end:
                self.replaced.add(old.fingerprint)
                return
        self.counted[day] += 1
        domain = name.partition(".")[2]
        self._spend("names", name, 5, 7 * DAY)
        if old is None:
            self._spend("orders", "", 3000, 3 * HOUR)
            self._spend("domain", domain, 2000, 7 * DAY)

    def _spend(self, kind: str, subject: str, count: int, period: datetime.timedelta) -> None:
        level, at = self.levels.get((kind, subject), (0.0, self.time.now))
        level = max(0.0, level - (self.time.now - at) / period * count) + 1
        if level > count + 1e-6:
            self.broken[kind] += 1
            raise AssertionError(f"{kind} {subject}: the CA would have refused")
        self.levels[kind, subject] = (level, self.time.now)


@dataclass
class Fleet:
    """A fleet and its server.

    Args:
        folder: for the state.
        size: how many certificates it begins with.
        growth: how many new ones are asked for each day, for each thousand.
        seed: of all that is random.
    """

    folder: Path
    size: int
    growth: float
    seed: int

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # noqa: S311 - it must come out the same again
        self.time = Time()
        self.ca = CountingCA(self.time, (START + 120 * DAY, START + 121 * DAY), START + 240 * DAY)
        self.database = SqliteDatabase.open(self.folder / "state.sqlite")
        self.chains = ChainRecords(self.database)
        self.plans = RenewalRecords(self.database)
        clock = Clock(now=lambda: self.time.now)
        self.ledger = Ledger(OVERRIDES, "account", BucketRecords(self.database), clock)
        self.planner = RenewalPlanner(
            self.chains,
            self.plans,
            self.ask,
            self.renew,
            tell=self.overdue.append,
            clock=clock,
            identify=_certificate,
            share=self.random.random,
            most_questions=100_000,
            most_at_once=1000,
        )
        self.renewals = 0
        self.failures: Counter[str] = Counter()
        self.late: list[float] = []
        self.asked_anew = 0
        self.refused = 0
        self._numbers = iter(range(10**9))

    overdue: list[OverdueChain] = field(default_factory=list)

    def begin(self) -> None:
        """Issue what the fleet has at the start, some time in the last two thirds of a lifetime ago."""
        domains = max(1, self.size // 500)
        for _ in range(self.size):
            name = f"host{next(self._numbers)}.d{self.random.randrange(domains)}.example"
            lifetime = self._lifetime()
            self._add(name, START - lifetime * 0.66 * self.random.random(), lifetime)
        self.database.write(lambda _: None).result()

    def _lifetime(self) -> datetime.timedelta:
        number = self.random.random()
        for share, lifetime in LIFETIMES:
            number -= share
            if number < 0:
                return lifetime
        return LIFETIMES[0][1]

    def _add(self, name: str, issued: datetime.datetime, lifetime: datetime.timedelta) -> Future[None]:
        fingerprint = hashlib.sha256(f"{name} {issued}".encode()).hexdigest()
        record = ChainRecord(
            fingerprint=fingerprint,
            identity=name,
            directory=DIRECTORY,
            names=(name,),
            serial=fingerprint[:32],
            key_digest="",
            pem=b"",
            not_before=issued,
            not_after=issued + lifetime,
            issued=issued,
        )
        return self.chains.add(record, soon=False)

    def ask(self, plans: Sequence[RenewalRecord]) -> Iterator[tuple[RenewalRecord, Window | AcmeException]]:
        """Ask the CA about certificates."""
        away = CAUnavailable("away") if self.ca.is_away else None
        for plan in plans:
            self.ca.questions += 1
            lifetime = LIFETIMES[int((plan.certificate or "0")[0])][1]
            yield plan, away or self.ca.window(plan.fingerprint, plan.ends_at - lifetime, plan.ends_at)

    def renew(self, chain: ChainRecord, announced: bool) -> Future[None]:
        """Order a certificate anew."""
        done: Future[None] = Future()
        if self.ca.is_away:
            self.failures["the CA is away"] += 1
            done.set_exception(CAUnavailable("away"))
            return done
        renewal = Renewal(is_announced=announced, is_known=True)
        place = self.ledger.reserve([Identifier.dns(chain.names[0])], renewal, None)
        self.database.flush()
        outcome = place.result()
        if isinstance(outcome, LimitReached):
            self.failures[outcome.limit] += 1
            done.set_exception(outcome)
            return done
        self.ca.order(chain.names[0], chain, replaces=announced)
        self.renewals += 1
        self.late.append((self.time.now - chain.not_before) / (chain.not_after - chain.not_before))
        self._add(chain.names[0], self.time.now, chain.not_after - chain.not_before)
        done.set_result(None)
        return done

    def grow(self) -> None:
        """Ask for new certificates, as machines do that are new."""
        for _ in range(int(self.size / 1000 * self.growth)):
            if self.ca.is_away:
                return
            name = f"host{next(self._numbers)}.d{self.random.randrange(max(1, self.size // 500))}.example"
            place = self.ledger.reserve([Identifier.dns(name)], Renewal(), "web")
            self.database.flush()
            if isinstance(place.result(), LimitReached):
                self.refused += 1
                continue
            self.ca.order(name, None, replaces=False)
            self.asked_anew += 1
            self._add(name, self.time.now, self._lifetime())

    def run(self, days: int, step: datetime.timedelta, on_day: Callable[[int], None]) -> None:
        """Let time pass."""
        for day in range(days):
            until = self.time.now + DAY
            self.grow()
            while self.time.now < until:
                before = -1
                while before != self.renewals:
                    before = self.renewals
                    self.planner.run()
                    self.database.write(lambda _: None).result()
                self.time.now += step
            on_day(day)

    def expired(self) -> int:
        """Return how many current certificates are no longer valid."""
        now = int(self.time.now.timestamp())
        found: int = self.database.read(
            lambda each: each.execute(
                "SELECT count(*) FROM chains WHERE superseded IS NULL AND not_after < ?", (now,)
            ).fetchone()[0]
        )
        return found


def _certificate(chain: ChainRecord) -> str:
    lifetime = chain.not_after - chain.not_before
    index = next(index for index, (_, each) in enumerate(LIFETIMES) if each == lifetime)
    return f"{index}.{chain.fingerprint}"


def plot(counts: Iterable[int], width: int = 73, height: int = 10) -> Iterator[str]:
    """Yield a plot of one number a day."""
    values = list(counts)
    size = -(-len(values) // width)
    bars = [max(values[start : start + size]) for start in range(0, len(values), size)]
    top = max(bars) or 1
    for row in range(height, 0, -1):
        label = f"{top * row // height:>9}" if row in {height, height // 2, 1} else " " * 9
        yield f"{label} |" + "".join("#" if bar * height >= top * (row - 0.5) else " " for bar in bars)
    yield " " * 10 + "+" + "-" * len(bars)


def main() -> int:
    """Simulate what the command line says, and return whether anything has expired or a limit was broken."""
    parser = argparse.ArgumentParser(prog="scripts/fleet", description=__doc__)
    parser.add_argument("--certificates", type=int, default=20_000, metavar="N")
    parser.add_argument("--days", type=int, default=365, metavar="N")
    parser.add_argument("--growth", type=float, default=1.0, help="new ones a day for each thousand")
    parser.add_argument("--step", type=float, default=30.0, help="minutes between two looks at what is due")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        fleet = Fleet(Path(folder), options.certificates, options.growth, options.seed)
        began = time.monotonic()
        fleet.begin()
        expired = 0

        def tell(day: int) -> None:
            nonlocal expired
            expired = max(expired, fleet.expired())
            if day % 30 == 0:
                print(f"day {day}: {fleet.renewals} renewals, {time.monotonic() - began:.0f} s", flush=True)

        fleet.run(options.days, datetime.timedelta(minutes=options.step), tell)
        began = time.monotonic()
        due = fleet.plans.count(fleet.time.now + HOUR)
        planned = time.monotonic() - began
        fleet.database.close()
    days = range(options.days)
    rows = {
        "renewals": fleet.renewals,
        "new certificates": fleet.asked_anew,
        "new ones that the ledger refused": fleet.refused,
        "expired, at the worst moment": expired,
        "limits broken at the CA": sum(fleet.ca.broken.values()),
        "renewals that the CA counted": sum(fleet.ca.counted.values()) - fleet.asked_anew,
        "tries that failed": dict(fleet.failures),
        "renewed after this much of the lifetime, at most": f"{max(fleet.late):.3f}",
        "questions about renewal": fleet.ca.questions,
        "overdue ones that were told": len(fleet.overdue),
        "due in the next hour": f"{due}, found in {planned:.3f} s",
        "memory": f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB",
    }
    for name, value in rows.items():
        print(f"{name:50} {value}")
    print("orders a day:")
    print("\n".join(plot(fleet.ca.orders[day] for day in days)))
    return 1 if expired or fleet.ca.broken else 0


if __name__ == "__main__":
    sys.exit(main())
