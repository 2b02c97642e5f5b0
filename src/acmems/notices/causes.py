"""What is told of what is wrong, and when, as pure rules.

A cause is told when it is found, again when it gets worse or much larger, then more and more rarely, and when
it is over. So a thousand certificates that fail for one reason are one message, and not a thousand.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from acmems.notices.notice import CauseKind, Phase, Severity, is_at_least
from acmems.state.notices.causes import CauseRecord

FIRST_REMINDER = datetime.timedelta(days=1)
"""After which what goes on as it is is told again for the first time; twice as long each further time."""
LAST_REMINDER = datetime.timedelta(days=7)
"""The longest time between two reminders."""
GROWTH_PAUSE = datetime.timedelta(hours=1)
"""Between two notices of a cause that only has become larger."""
CHANGE_PAUSE = datetime.timedelta(days=1)
"""For so long a cause is not over that is gone while others of its kind at the same CA go on.

Reasons change from one try to the next: a CA that sometimes refuses and sometimes does not answer is no news.
"""
NOTED = datetime.timedelta(minutes=10)
"""How old what is kept of a cause that goes on may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something that is wrong, as one look has found it.

    Args:
        cause: what makes it the same cause the next time.
        kind: of what kind it is.
        severity: how bad it is.
        reason: why, in one line.
        subject: what to tell, in one line.
        text: all that there is to tell.
        directory: the URL of the CA's directory; empty where it is about none.
        began: when it began (aware), None where that is not known.
        stage: how bad it is; a larger number is worse.
        number: of what it is about.
        facts: the same for programs.
    """

    cause: str
    kind: CauseKind
    severity: Severity
    reason: str
    subject: str
    text: str
    directory: str = ""
    began: datetime.datetime | None = None
    stage: int = 0
    number: int = 1
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Telling:
    """What is to be told.

    Args:
        phase: whether it is new, or over.
        cause: what is known of the cause from now on; of what is over, what was known.
        trouble: how it is; None of what is over.
    """

    phase: Phase
    cause: CauseRecord
    trouble: Trouble | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What follows from a look.

    Args:
        tellings: what is to be told.
        kept: what is to be kept of causes, those included that are told.
        ended: the causes that are over.
    """

    tellings: Sequence[Telling]
    kept: Sequence[CauseRecord]
    ended: Sequence[str]


def judge(known: Iterable[CauseRecord], troubles: Iterable[Trouble], now: datetime.datetime) -> Judgement:
    """Return what is to be told after a look.

    Args:
        known: what has been told, and was not over.
        troubles: all that is wrong.
        now: the time (aware).
    """
    before = {each.cause: each for each in known}
    wrong = {each.cause: each for each in troubles}
    tellings: list[Telling] = []
    kept: list[CauseRecord] = []
    for trouble in wrong.values():
        former = before.get(trouble.cause)
        phase = _phase(former, trouble, now)
        if phase is not None:
            cause = _told(former, trouble, now)
            tellings.append(Telling(phase, cause, trouble))
            kept.append(cause)
        elif former is not None and _is_other(former, trouble, now):
            # What has become better may become worse again, which is to be told then.
            kept.append(replace(former, seen=now, stage=min(former.stage, trouble.stage)))
    ended = list(_ended(before.values(), wrong, now))
    tellings += [Telling("ended", each, None) for each in ended]
    return Judgement(tellings, kept, [each.cause for each in ended])


def reminder_after(times: int) -> datetime.timedelta:
    """Return after how long a cause is told again that goes on as it is.

    Args:
        times: how often it was told.
    """
    return min(LAST_REMINDER, FIRST_REMINDER * (1 << min(max(times - 1, 0), 10)))


def _phase(former: CauseRecord | None, trouble: Trouble, now: datetime.datetime) -> Phase | None:
    if former is None:
        return "begun"
    since = now - former.told
    is_worse = trouble.stage > former.stage or not is_at_least(former.severity, trouble.severity)
    has_grown = trouble.number >= 2 * former.number and since >= GROWTH_PAUSE
    return "continues" if is_worse or has_grown or since >= reminder_after(former.times) else None


def _told(former: CauseRecord | None, trouble: Trouble, now: datetime.datetime) -> CauseRecord:
    severity = trouble.severity
    if former is not None and is_at_least(former.severity, severity):
        severity_told: str = former.severity
    else:
        severity_told = severity
    return CauseRecord(
        cause=trouble.cause,
        kind=trouble.kind,
        began=former.began if former is not None else trouble.began or now,
        seen=now,
        told=now,
        times=1 if former is None else former.times + 1,
        stage=trouble.stage,
        number=trouble.number,
        severity=severity_told,
        directory=trouble.directory,
        reason=trouble.reason,
    )


def _is_other(former: CauseRecord, trouble: Trouble, now: datetime.datetime) -> bool:
    return trouble.stage < former.stage or now - former.seen >= NOTED


def _ended(
    known: Iterable[CauseRecord], wrong: Mapping[str, Trouble], now: datetime.datetime
) -> Iterator[CauseRecord]:
    places = {(each.kind, each.directory) for each in wrong.values()}
    for cause in known:
        if cause.cause not in wrong:
            is_changed = (cause.kind, cause.directory) in places
            if not is_changed or now - cause.seen >= CHANGE_PAUSE:
                yield cause
