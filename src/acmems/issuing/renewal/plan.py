"""The plan for one chain, as pure rules: the first one, and what answers and failures make of it."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Protocol

from acmems.issuers.acme.certificates.renewal_info import certificate_id
from acmems.issuing.renewal.due import Window, by_lifetime, moved, next_question
from acmems.state.chains import ChainRecord
from acmems.state.chains.renewals import RenewalQuestion, RenewalRecord

FIRST_QUESTION = datetime.timedelta(minutes=5)
"""Within this time the CA is asked about a new chain for the first time."""

FIRST_PAUSE = datetime.timedelta(minutes=5)
"""After a failure; twice as long after each further one."""
_LONGEST_PAUSE = datetime.timedelta(hours=6)

MOST_AT_ONCE = 3
"""So many chains of one identity may be issued within a thirtieth of their lifetime by a CA's word alone."""


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

    @property
    def said(self) -> tuple[int, int, str | None]:
        """What the state keeps of it: the window in seconds since 1970, and the URL, if there is one."""


def certificate_of(chain: ChainRecord) -> str | None:
    """Return what the CA calls a chain, None where it has no name for it, or the chain is damaged."""
    try:
        return certificate_id(chain.pem)
    except ValueError:
        return None


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


def says_the_same(question: RenewalQuestion, answer: RenewalAnswer) -> bool:
    """Tell whether a CA says of a chain what it has said before."""
    return question.said == answer.said


def after_answer(
    plan: RenewalRecord, answer: RenewalAnswer, share: float, now: datetime.datetime
) -> RenewalRecord:
    """Return a plan after the CA has said something new about its chain.

    Args:
        plan: the plan.
        answer: what the CA says.
        share: a number from 0 to 1, uniformly distributed.
        now: the time (aware).
    """
    window = Window(answer.start, answer.end).rounded
    due = moved(window_of(plan), plan.due, window, share, plan.ends_at)
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


def crowded_time(chain: ChainRecord) -> datetime.timedelta:
    """Return the time in which `MOST_AT_ONCE` counts: three days for a certificate of ninety."""
    return (chain.not_after - chain.not_before) / 30


def put_off(plan: RenewalRecord, chain: ChainRecord) -> RenewalRecord:
    """Return a plan for a chain that its CA wants to be renewed as all those that were issued before it.

    A window that was over when the chain was issued may tell of a revocation (RFC 9773 section 4.2). Where
    each new chain gets such a window, acmems would order without end.

    Args:
        plan: the plan.
        chain: the chain.
    """
    due = max(plan.due, chain.issued + crowded_time(chain))
    return dataclasses.replace(plan, due=due, next_try=max(plan.next_try, due))


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
    pause = min(_LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(plan.failures, 10))
    pause = min(pause, max(FIRST_PAUSE, (plan.ends_at - now) / 8))
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
