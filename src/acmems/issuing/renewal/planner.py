"""Renews chains before their clients ask: plans each, asks its CA about it, and orders it when it is due."""

from __future__ import annotations

import dataclasses
import datetime
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from acmems.exceptions import AcmeException
from acmems.issuing.renewal.due import asking_pause, is_to_be_told
from acmems.issuing.renewal.plan import (
    MOST_AT_ONCE,
    RenewalAnswer,
    after_answer,
    after_failure,
    certificate_of,
    crowded_time,
    first_plan,
    put_off,
    says_the_same,
    window_of,
)
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.chains.renewals import RenewalQuestion, RenewalRecord, RenewalRecords
from acmems.system.clock import Clock

logger = logging.getLogger(__name__)

_REFUSED_PAUSE = datetime.timedelta(days=1)  # where policy or absence stands in the way
_UNKNOWN_PAUSE = 3600.0  # seconds, where the CA could not be asked
_NO_INFORMATION_PAUSE = 86400.0  # seconds, where the CA says nothing about renewal
_LONGEST_PAUSE = datetime.timedelta(days=2)  # what is put off for longer was put off by a wrong clock
_STEP = datetime.timedelta(minutes=1)  # back, from which on a clock was wrong before
_PAGE, _MOST_PAGES = 500, 20
_NEVER = int(datetime.datetime(9999, 1, 1, tzinfo=datetime.UTC).timestamp())


Asking = Callable[
    [Sequence[RenewalQuestion]], Iterable[tuple[RenewalQuestion, RenewalAnswer | AcmeException | None]]
]
"""Asks CAs about chains, and yields what they say; None where a CA says nothing about renewal."""

Renewing = Callable[[ChainRecord, bool], Future[None]]
"""Orders a chain anew; it is told whether the CA's window is open, so that the order names its predecessor.

The future is done when the new chain is kept. It holds a `NotRenewable` where nobody may have it any more,
and another `AcmeException` where that has failed.
"""


class NotRenewable(AcmeException):
    """A chain is not renewed ahead: policy does not grant it any more, or nobody has asked for it lately."""


@dataclass(frozen=True, slots=True)
class OverdueChain:
    """A chain whose renewal fails again and again.

    Args:
        chain: the chain.
        due: when it was to be renewed (aware).
        reason: why the last try has failed.
    """

    chain: ChainRecord
    due: datetime.datetime
    reason: str


class RenewalPlanner:
    """Keeps the plans of all current chains, and carries them out; `run` is called from time to time.

    Args:
        chains: the chains.
        plans: the plans.
        ask: asks CAs about chains.
        renew: orders a chain anew.
        tell: told of chains whose renewal fails, before it hurts.
        clock: for dates.
        identify: returns what CAs call a chain (RFC 9773 section 4.1), None where they have no name for it.
        within: returns how long before its end a chain is to be renewed at most, where somebody has chosen.
        share: returns a number from 0 to 1, uniformly distributed.
        most_questions: how many chains are asked about in one run.
        most_at_once: how many are ordered anew at once.
    """

    def __init__(
        self,
        chains: ChainRecords,
        plans: RenewalRecords,
        ask: Asking,
        renew: Renewing,
        *,
        tell: Callable[[OverdueChain], None],
        clock: Clock,
        identify: Callable[[ChainRecord], str | None] = certificate_of,
        within: Callable[[ChainRecord], datetime.timedelta | None] = lambda _: None,
        share: Callable[[], float] = random.random,
        most_questions: int = 500,
        most_at_once: int = 32,
    ) -> None:
        self._chains = chains
        self._plans = plans
        self._ask = ask
        self._renew = renew
        self._tell = tell
        self._clock = clock
        self._identify = identify
        self._within = within
        self._share = share
        self._most_questions = most_questions
        self._most_at_once = most_at_once
        self._running: dict[str, Future[None]] = {}
        self._last_run: datetime.datetime | None = None

    def run(self) -> None:
        """Plan what has no plan, ask about what is to be asked about, and renew what is due.

        Raises:
            StateUnavailable: the plans cannot be read.
        """
        self._check_clock()
        self._plan()
        self._ask_about()
        self._renew_due()

    def _check_clock(self) -> None:
        """Go on as if nothing had been after the clock was set back, perhaps before this process began."""
        now, last = self._clock.now(), self._last_run
        if last is None or now < last - _STEP:
            number = self._plans.correct(now, _LONGEST_PAUSE)
            if number and last is not None:
                logger.warning(
                    "the clock was set back from %s: the renewal of %d certificates is planned anew",
                    *(f"{last:%Y-%m-%d %H:%M:%S} UTC", number),
                )
        self._last_run = now

    def _plan(self) -> None:
        """Make plans for chains that have none yet."""
        now = self._clock.now()
        for _ in range(_MOST_PAGES):
            fingerprints = self._plans.unplanned(_PAGE)
            if not fingerprints:
                return
            current = [chain for chain in self._chains.of(fingerprints) if chain.is_current]
            plans = [
                first_plan(each, self._identify(each), now, self._share(), self._within(each))
                for each in current
            ]
            self._plans.begin(fingerprints, plans).result()

    def _ask_about(self) -> None:
        """Ask CAs; an answer that says nothing new, as nearly all do, costs next to nothing."""
        now = self._clock.now()
        questions = self._plans.to_ask(now, self._most_questions)
        moment = now.timestamp()
        second = int(moment)
        # No CA is asked about what has expired (RFC 9773 section 4.3.3).
        postponed = [(_NEVER, each.fingerprint) for each in questions if each.ends_at <= second]
        if postponed:
            questions = [each for each in questions if each.ends_at > second]
        changed: dict[str, tuple[RenewalAnswer, float]] = {}
        for question, answer in self._ask(questions):
            share = self._share()
            if answer is None or isinstance(answer, AcmeException):
                pause = _NO_INFORMATION_PAUSE if answer is None else _UNKNOWN_PAUSE
                postponed.append((int(moment + pause * (1 + share / 10)), question.fingerprint))
            elif says_the_same(question, answer):
                again = int(moment + asking_pause(answer.retry_after, share))
                postponed.append((again, question.fingerprint))
            else:
                changed[question.fingerprint] = answer, share
        if postponed:
            self._plans.postpone(postponed)
        self._move(changed, now)

    def _move(self, changed: dict[str, tuple[RenewalAnswer, float]], now: datetime.datetime) -> None:
        """Change the plans of chains about which their CA says something new."""
        explained: Counter[str] = Counter()
        fingerprints = list(changed)
        for start in range(0, len(fingerprints), _PAGE):
            plans = self._plans.those(fingerprints[start : start + _PAGE])
            moved_plans = self._slowed_down(
                [after_answer(plan, *changed[plan.fingerprint], now) for plan in plans]
            )
            self._plans.answered(moved_plans)
            for before, after in zip(plans, moved_plans, strict=True):
                if after.explanation is not None and after.explanation != before.explanation:
                    explained[after.explanation] += 1
        for explanation, count in explained.items():
            logger.warning(
                "the CA says why it wants %s to be renewed as it now does: %s",
                "a certificate" if count == 1 else f"{count} certificates",
                explanation,
            )

    def _slowed_down(self, plans: list[RenewalRecord]) -> list[RenewalRecord]:
        """Put off the renewal of chains that a CA wants renewed whenever it has just issued them."""
        now = self._clock.now()
        closed = [each.fingerprint for each in plans if each.ends is not None and each.ends <= now]
        chains = {each.fingerprint: each for each in self._chains.of(closed)}
        for position, plan in enumerate(plans):
            chain = chains.get(plan.fingerprint)
            if chain is None or plan.ends is None or plan.ends > chain.issued:
                continue
            number = self._chains.issued_since(chain.identity, chain.issued - crowded_time(chain))
            if number >= MOST_AT_ONCE:
                plans[position] = put_off(plan, chain)
                logger.warning(
                    "the CA wants the certificate of %s to be renewed, of which it has issued %d lately: it "
                    "is next renewed at %s; ask the CA why (%s)",
                    *(chain.names[0], number, f"{plans[position].due:%Y-%m-%d %H:%M:%S} UTC"),
                    plan.explanation or "it names no page that says so",
                )
        return plans

    def _renew_due(self) -> None:
        now = self._clock.now()
        self._running = {name: each for name, each in self._running.items() if not each.done()}
        due = self._plans.to_try(now, self._most_at_once + len(self._running))
        room = self._most_at_once - len(self._running)
        plans = {each.fingerprint: each for each in due if each.fingerprint not in self._running}
        wanted = list(plans)[:room]
        chains = {each.fingerprint: each for each in self._chains.of(wanted)}
        for fingerprint in wanted:
            chain = chains.get(fingerprint)
            if chain is not None and chain.is_current:
                self._begin(chain, plans[fingerprint], now)
            else:  # it is revoked
                self._plans.remove(fingerprint)

    def _begin(self, chain: ChainRecord, plan: RenewalRecord, now: datetime.datetime) -> None:
        window = window_of(plan)
        noted: Future[None] = Future()
        self._running[chain.fingerprint] = noted

        def note(done: Future[None]) -> None:
            removed: Future[None] | None = None
            try:
                removed = self._note(chain, plan, done)
            finally:
                if removed is None:
                    noted.set_result(None)
                else:  # written after the new chain: until then this one still seems to be due
                    removed.add_done_callback(lambda _: noted.set_result(None))

        self._renew(chain, window is not None and window.has(now)).add_done_callback(note)

    def _note(self, chain: ChainRecord, plan: RenewalRecord, done: Future[None]) -> Future[None] | None:
        """Take note of how a renewal has ended; return what to wait for before it is over."""
        error = done.exception()
        if error is None:
            return self._plans.remove(chain.fingerprint)
        now = self._clock.now()
        if isinstance(error, NotRenewable) and chain.not_after <= now:
            self._plans.remove(chain.fingerprint)
            return None
        if isinstance(error, NotRenewable):
            later = now + _REFUSED_PAUSE * (1 + self._share() / 10)
            # That is no failure any more, which operators would be told of.
            refused = dataclasses.replace(plan, next_try=later, reason=str(error), failures=0, fault=None)
            self._plans.tried(refused)
            return None
        failed = after_failure(plan, error, now, self._share())
        if is_to_be_told(plan.due, chain.not_after, plan.told, now):
            failed = dataclasses.replace(failed, told=now)
            self._tell(OverdueChain(chain, plan.due, str(error)))
        self._plans.tried(failed)
        return None
