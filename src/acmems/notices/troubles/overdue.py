"""Renewals that fail, put together by what stands in their way: as pure rules."""

from __future__ import annotations

import bisect
import datetime
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from acmems.exceptions import (
    AccountError,
    CAUnavailable,
    ClocksDiffer,
    DeadlinePassed,
    FateUnknown,
    LimitReached,
    NeedToAgreeToTOS,
    RateLimited,
    StateUnavailable,
    StorageUnavailable,
)
from acmems.issuing.renewal.due import alarms
from acmems.notices.causes import Trouble
from acmems.notices.notice import Severity
from acmems.notices.troubles.reasons import digest_of_pattern, pattern_of
from acmems.notices.wording import count, from_now, listed, moment, rfc3339
from acmems.state.notices.failing import FailingRenewal
from acmems.text import one_line

MOST_CAUSES = 10
"""Reasons that are told apart for one CA; what fails for others is one cause more."""
MOST_NAMED = 10
"""Certificates that one notice names."""

_LAST_PART = 6  # of the time from a renewal's being due to the end; what is left then is critical
_LASTING_TRIES = 2  # after which a limit is no matter of chance
_LONGEST_REASON = 500
# What these errors say differs from try to try, and is about no certificate.
_ALIKE = {
    "the CA does not answer": (CAUnavailable, FateUnknown, DeadlinePassed),
    "the account cannot be used": (AccountError, NeedToAgreeToTOS),
    "clocks differ": (ClocksDiffer,),
    "chains cannot be kept": (StateUnavailable, StorageUnavailable),
}
_SAME = {kind.__name__: words for words, kinds in _ALIKE.items() for kind in kinds}
_LIMITS = frozenset({LimitReached.__name__, RateLimited.__name__})
_OTHERS = "others"

RenewalTrouble = Literal["renewal", "limit"]
_Key = tuple[RenewalTrouble, str, str]  # kind, the CA's directory, what stands for the reason


@dataclass(slots=True)
class _Group:
    """Renewals that fail for one reason."""

    number: int = 0
    stage: int = 0
    is_critical: bool = False
    is_lasting: bool = False
    began: datetime.datetime | None = None
    first: list[FailingRenewal] = field(default_factory=list)  # those that end first, soonest first

    def add(self, renewal: FailingRenewal, now: datetime.datetime) -> None:
        moments = [*alarms(renewal.due, renewal.ends), renewal.ends]
        self.number += 1
        self.stage = max(self.stage, bisect.bisect_right(moments, now))
        self.is_critical |= renewal.ends - now <= (renewal.ends - renewal.due) / _LAST_PART
        self.is_lasting |= renewal.failures >= _LASTING_TRIES or renewal.next_try >= moments[0]
        self.began = renewal.due if self.began is None else min(self.began, renewal.due)
        self._name(renewal)

    def merge(self, other: _Group) -> None:
        self.number += other.number
        self.stage = max(self.stage, other.stage)
        self.is_critical |= other.is_critical
        self.is_lasting |= other.is_lasting
        if other.began is not None:
            self.began = other.began if self.began is None else min(self.began, other.began)
        for each in other.first:
            self._name(each)

    def _name(self, renewal: FailingRenewal) -> None:
        if len(self.first) < MOST_NAMED or renewal.ends < self.first[-1].ends:
            bisect.insort(self.first, renewal, key=lambda each: (each.ends, each.fingerprint))
            del self.first[MOST_NAMED:]


def renewal_troubles(
    failing: Iterable[FailingRenewal], known: Collection[str], now: datetime.datetime
) -> list[Trouble]:
    """Return what is to be told of renewals that fail.

    A renewal is told of after a third of the time from its being due to its certificate's end, and then for
    every certificate that fails for the same reason; a limit as soon as it lasts.

    Args:
        failing: the renewals; looked through once.
        known: the causes that were told and are not over, which keep their own message.
        now: the time (aware).
    """
    groups: dict[_Key, _Group] = {}
    for renewal in failing:
        if renewal.due <= now:
            key = _key(renewal)
            # Reasons that nobody could tell apart must not fill the memory.
            if key not in groups and len(groups) >= 100 * MOST_CAUSES:
                key = (*key[:2], _OTHERS)
            groups.setdefault(key, _Group()).add(renewal, now)
    told = {key: group for key, group in groups.items() if _is_to_be_told(key[0], group)}
    return [_trouble(key, group, now) for key, group in _folded(told, known)]


def cause_of(key: _Key) -> str:
    """Return what a cause is called in the state."""
    return " ".join(key)


def _key(renewal: FailingRenewal) -> _Key:
    kind: RenewalTrouble = "limit" if renewal.fault in _LIMITS else "renewal"
    pattern = _SAME.get(renewal.fault or "") or pattern_of(renewal.reason)
    return kind, renewal.directory, digest_of_pattern(pattern)


def _is_to_be_told(kind: RenewalTrouble, group: _Group) -> bool:
    return group.stage > 0 or (kind == "limit" and group.is_lasting)


def _folded(groups: dict[_Key, _Group], known: Collection[str]) -> Iterator[tuple[_Key, _Group]]:
    """Yield the groups, and those that are too many for a CA as one."""
    by_place: dict[tuple[RenewalTrouble, str], list[_Key]] = {}
    # Those that were told stay apart; of the others, the largest do.
    order = sorted(groups, key=lambda key: (cause_of(key) not in known, -groups[key].number, key))
    for key in order:
        by_place.setdefault(key[:2], []).append(key)
    for place, keys in by_place.items():
        apart = [key for key in keys if key[2] != _OTHERS][:MOST_CAUSES]
        others = _Group()
        for key in keys:
            if key in apart:
                yield key, groups[key]
            else:
                others.merge(groups[key])
        if others.number:
            yield (*place, _OTHERS), others


def _trouble(key: _Key, group: _Group, now: datetime.datetime) -> Trouble:
    kind, directory, _ = key
    first = group.first[0]
    severity: Severity = "critical" if group.is_critical else "warning"
    reason = one_line(first.reason, _LONGEST_REASON)
    if key[2] == _OTHERS:
        reason = f"several reasons, such as: {reason}"
    ends = f"{'ends' if first.ends > now else 'has ended'} {from_now(first.ends, now)}"
    if group.number == 1:
        what = f"the certificate for {listed(first.names)}"
        verb = "is not renewed" if kind == "renewal" else "is not renewed because of a limit of the CA"
        subject = f"{what} {verb}, and {ends}"
    else:
        verb = "are not renewed" if kind == "renewal" else "are not renewed because of a limit of the CA"
        subject = f"{count(group.number, 'certificate')} {verb}; the first {ends}"
    return Trouble(
        cause=cause_of(key),
        kind=kind,
        severity=severity,
        reason=reason,
        subject=subject,
        text="\n".join(_lines(group, directory, reason, now)),
        directory=directory,
        began=group.began,
        stage=group.stage,
        number=group.number,
        facts={
            "directory": directory,
            "reason": reason,
            "certificates": group.number,
            "first_end": rfc3339(first.ends),
            "first": [_fact(each) for each in group.first],
        },
    )


def _lines(group: _Group, directory: str, reason: str, now: datetime.datetime) -> Iterator[str]:
    """Yield what a person is told."""
    yield (
        f"{count(group.number, 'certificate')} {'was' if group.number == 1 else 'were'} to be renewed, and "
        f"{'is' if group.number == 1 else 'are'} not."
    )
    yield ""
    yield f"Reason: {reason}"
    yield f"CA:     {directory}"
    yield ""
    yield "Certificates:" if group.number <= MOST_NAMED else "The first of them to end:"
    for each in group.first:
        word = "ends" if each.ends > now else "ended"
        block = "" if each.block is None else f"; auth block {each.block}"
        yield (
            f"- {listed(each.names)}: {word} {moment(each.ends)} ({from_now(each.ends, now)}); due since "
            f"{moment(each.due)}; tried {count(each.failures, 'time')}{block}"
        )
    if group.number > len(group.first):
        yield f"- and {group.number - len(group.first):,} more: 'acmems list' shows all"
    yield ""
    yield (
        "acmems goes on trying. 'acmems show CONFIG NAME' tells more of one certificate, and once the reason "
        "is mended 'acmems renew CONFIG NAME' orders it at once."
    )


def _fact(renewal: FailingRenewal) -> dict[str, Any]:
    return {
        "names": list(renewal.names),
        "not_after": rfc3339(renewal.ends),
        "due": rfc3339(renewal.due),
        "next_try": rfc3339(renewal.next_try),
        "block": renewal.block,
        "fingerprint": renewal.fingerprint,
    }
