"""A planner of renewals on a real state, whose clock, CA and issuance are those of a test."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from acmems.exceptions import AcmeException
from acmems.issuing.renewal.planner import OverdueChain, RenewalPlanner
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.chains.renewals import RenewalQuestion, RenewalRecord, RenewalRecords
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.system.clock import Clock

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)
DAY = 24 * HOUR


@dataclass(frozen=True)
class Answer:
    start: datetime.datetime
    end: datetime.datetime
    explanation: str = ""
    retry_after: float | None = 21_600.0

    @property
    def said(self) -> tuple[int, int, str | None]:
        return int(self.start.timestamp()), int(self.end.timestamp()), self.explanation or None


WINDOW = Answer(START + 55 * DAY, START + 57 * DAY, "https://ca.example/why")
PAST = Answer(START, START + DAY, "https://ca.example/incident")


@dataclass
class House:
    """A planner with a CA and an issuance that do as they are told."""

    folder: Path
    now: datetime.datetime = START
    answer: Answer | AcmeException | None = None
    error: AcmeException | None = None
    asked: list[str] = field(default_factory=list)
    renewed: list[tuple[str, bool]] = field(default_factory=list)
    overdue: list[OverdueChain] = field(default_factory=list)
    held: list[Future[None]] | None = None
    share: float = 0.0
    meanwhile: Callable[[], object] = lambda: None

    def __post_init__(self) -> None:
        self.database = SqliteDatabase.open(self.folder / "state.sqlite")
        self.chains = ChainRecords(self.database)
        self.plans = RenewalRecords(self.database)
        self.make_planner()

    def make_planner(self) -> None:
        """Begin to plan, as after a restart."""
        self.planner = RenewalPlanner(
            self.chains,
            self.plans,
            self.ask,
            self.renew,
            tell=self.overdue.append,
            clock=Clock(now=lambda: self.now),
            identify=lambda chain: chain.fingerprint,
            share=lambda: self.share,
            most_at_once=3,
        )

    def add(self, name: str, issued: datetime.datetime = START, days: float = 90) -> None:
        record = ChainRecord(
            fingerprint=f"{name} {issued}",
            identity=name,
            directory="https://ca.example/directory",
            names=(name,),
            serial="1",
            key_digest="",
            pem=b"",
            not_before=issued,
            not_after=issued + days * DAY,
            issued=issued,
        )
        self.chains.add(record).result(20)

    def ask(
        self, questions: Sequence[RenewalQuestion]
    ) -> Iterable[tuple[RenewalQuestion, Answer | AcmeException | None]]:
        for question in questions:
            self.asked.append(question.fingerprint)
            self.meanwhile()
            yield question, self.answer

    def renew(self, chain: ChainRecord, announced: bool) -> Future[None]:
        self.renewed.append((chain.identity, announced))
        done: Future[None] = Future()
        if self.held is not None:
            self.held.append(done)
        elif self.error is not None:
            done.set_exception(self.error)
        else:
            self.add(chain.identity, self.now)
            done.set_result(None)
        return done

    def run(self, after: datetime.timedelta = HOUR) -> None:
        """Let some time pass, and let the planner run."""
        self.now += after
        self.planner.run()
        self.database.write(lambda _: None).result(20)

    def plan(self) -> RenewalRecord:
        (chain,) = self.chains.all()
        plan = self.plans.of(chain.fingerprint)
        assert plan is not None
        return plan
