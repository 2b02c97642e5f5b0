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
from typing import Protocol

from acmems.exceptions import AcmeException
from acmems.issuers.acme.certificates.renewal_info import certificate_id
from acmems.issuing.renewal.due import Window, by_lifetime, is_to_be_told, moved, next_question
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.chains.renewals import RenewalRecord, RenewalRecords
from acmems.system.clock import Clock

logger = logging.getLogger(__name__)

FIRST_QUESTION = datetime.timedelta(minutes=5)
"""Within this time the CA is asked about a new chain for the first time."""

_FIRST_PAUSE = datetime.timedelta(minutes=5)  # after a failure; twice as long after each further one
_LONGEST_PAUSE = datetime.timedelta(hours=6)
_REFUSED_PAUSE = datetime.timedelta(days=1)  # where policy or absence stands in the way
_UNKNOWN_PAUSE = datetime.timedelta(hours=1)  # where the CA could not be asked
_PAGE, _MOST_PAGES = 500, 20
_NEVER = datetime.datetime(9999, 1, 1, tzinfo=datetime.UTC)


class RenewalAnswer(Protocol):
    """What a CA says about one certificate."""

    @property
    def start(self) -> datetime.datetime:
        """When renewal may begin (aware)."""

    @property
    def end(self) -> datetime.datetime:
        """Until when it should have happened (aware)."""

    @property
    def explanation(self) -> str:
        """The URL of a page that says why, empty where there is none."""

    @property
    def retry_after(self) -> float | None:
        """Seconds after which the CA wants to be asked again, None where it does not say."""


Asking = Callable[
    [Sequence[RenewalRecord]], Iterable[tuple[RenewalRecord, RenewalAnswer | AcmeException | None]]
]
"""Asks CAs about planned chains, and yields what they say; None where a CA says nothing about renewal."""

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


def certificate_of(chain: ChainRecord) -> str | None:
    """Return what the CA calls a chain, None where it has no name for it, or the chain is damaged."""
    try:
        return certificate_id(chain.pem)
    except ValueError:
        return None


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

    def run(self) -> None:
        """Plan what has no plan, ask about what is to be asked about, and renew what is due.

        Raises:
            StateUnavailable: the plans cannot be read.
        """
        self._plan()
        self._ask_about()
        self._renew_due()

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
        now = self._clock.now()
        plans = self._plans.to_ask(now, self._most_questions)
        # No CA is asked about what has expired (RFC 9773 section 4.3.3).
        answered = [dataclasses.replace(each, next_question=_NEVER) for each in plans if each.ends_at <= now]
        explained: Counter[str] = Counter()
        for plan, answer in self._ask([each for each in plans if each.ends_at > now]):
            answered.append(after := after_answer(plan, answer, now, self._share()))
            if after.explanation is not None and after.explanation != plan.explanation:
                explained[after.explanation] += 1
        for explanation, count in explained.items():
            logger.warning(
                "the CA says why it wants %d certificates to be renewed as it now does: %s",
                count,
                explanation,
            )
        if answered:
            self._plans.put(answered, soon=True)

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
        future = self._running[chain.fingerprint] = self._renew(chain, window is not None and window.has(now))
        future.add_done_callback(lambda done: self._note(chain, plan, done))

    def _note(self, chain: ChainRecord, plan: RenewalRecord, done: Future[None]) -> None:
        """Take note of how a renewal has ended."""
        error = done.exception()
        if error is None:
            # Written after the new chain: until then this one still seems to be due.
            self._running[chain.fingerprint] = self._plans.remove(chain.fingerprint)
            return
        now = self._clock.now()
        if isinstance(error, NotRenewable) and chain.not_after <= now:
            self._plans.remove(chain.fingerprint)
            return
        if isinstance(error, NotRenewable):
            later = now + _REFUSED_PAUSE * (1 + self._share() / 10)
            # That is no failure any more, which operators would be told of.
            refused = dataclasses.replace(plan, next_try=later, reason=str(error), failures=0, fault=None)
            self._plans.put([refused])
            return
        failed = after_failure(plan, error, now, self._share())
        if is_to_be_told(plan.due, chain.not_after, plan.told, now):
            failed = dataclasses.replace(failed, told=now)
            self._tell(OverdueChain(chain, plan.due, str(error)))
        self._plans.put([failed])


def first_plan(
    chain: ChainRecord,
    certificate: str | None,
    now: datetime.datetime,
    share: float,
    within: datetime.timedelta | None = None,
) -> RenewalRecord:
    """Return the plan for a chain about which its CA was not asked yet.

    Args:
        chain: the chain.
        certificate: what the CA calls it, None where it has no name for it.
        now: the time (aware).
        share: a number from 0 to 1, uniformly distributed.
        within: how long before its end it is to be renewed at most, None where nobody has chosen.
    """
    due = by_lifetime(chain.not_before, chain.not_after, share, within)
    return RenewalRecord(
        fingerprint=chain.fingerprint,
        directory=chain.directory,
        certificate=certificate,
        ends_at=chain.not_after,
        due=due,
        next_try=due,
        next_question=now + FIRST_QUESTION * share,
    )


def after_answer(
    plan: RenewalRecord, answer: RenewalAnswer | AcmeException | None, now: datetime.datetime, share: float
) -> RenewalRecord:
    """Return a plan after the CA was asked about its chain.

    Args:
        plan: the plan.
        answer: what the CA says, or why it could not be asked; None where it says nothing about renewal.
        now: the time (aware).
        share: a number from 0 to 1, uniformly distributed.
    """
    if answer is None or isinstance(answer, AcmeException):
        pause = datetime.timedelta(days=1) if answer is None else _UNKNOWN_PAUSE
        return dataclasses.replace(plan, next_question=now + pause * (1 + share / 10))
    window = Window(answer.start, answer.end)
    due = moved(window_of(plan), plan.due, window, share)
    return dataclasses.replace(
        plan,
        due=due,
        starts=window.start,
        ends=window.end,
        explanation=answer.explanation or None,
        next_question=next_question(now, answer.retry_after, share),
        # What fails goes on being tried at its own pace, unless the CA has moved the window.
        next_try=plan.next_try if due == plan.due else due,
    )


def after_failure(
    plan: RenewalRecord, error: BaseException, now: datetime.datetime, share: float
) -> RenewalRecord:
    """Return a plan after a renewal has failed.

    The less time is left, the shorter the pause.

    Args:
        plan: the plan.
        error: why; its `retry_after` counts where it is longer than the pause.
        now: the time (aware).
        share: a number from 0 to 1, uniformly distributed.
    """
    pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(plan.failures, 10))
    pause = min(pause, max(_FIRST_PAUSE, (plan.ends_at - now) / 8))
    wanted = getattr(error, "retry_after", None)
    if wanted is not None:
        pause = max(pause, datetime.timedelta(seconds=wanted))
    return dataclasses.replace(
        plan,
        next_try=now + pause * (1 + share / 4),
        failures=plan.failures + 1,
        reason=str(error),
        fault=type(error).__name__,
    )


def window_of(plan: RenewalRecord) -> Window | None:
    """Return the window that the CA has told, None if it has told none."""
    if plan.starts is None or plan.ends is None:
        return None
    return Window(plan.starts, plan.ends)
