"""The summary of a week, in words."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from acmems.notices.wording import count, from_now, listed, moment, rfc3339
from acmems.state.notices.week import WeekRecord
from acmems.text import one_line

MOST_LISTED = 5
"""Ends, clients and limits that a summary names."""
NEARLY_FULL = 0.8
"""The part of a limit from which on it is named."""


@dataclass(frozen=True, slots=True)
class LimitUse:
    """How far a limit is used.

    Args:
        limit: its name.
        subject: what it counts; empty for the account.
        used: how many places are taken.
        most: how many there are.
    """

    limit: str
    subject: str
    used: int
    most: int


@dataclass(frozen=True, slots=True)
class WeekSummary:
    """What there is to say of a week.

    Args:
        since: when it began (aware).
        now: when it ends (aware).
        week: what has happened.
        limits: those that are nearly full.
        open: what has been told and is not over.
    """

    since: datetime.datetime
    now: datetime.datetime
    week: WeekRecord
    limits: Sequence[LimitUse]
    open: Sequence[str]

    @property
    def subject(self) -> str:
        """One line."""
        week = self.week
        kept = count(week.fresh + week.due, "certificate")
        words = f"{kept}, {week.renewed:,} renewed this week"
        counts = ((week.failing, "failing"), (week.expired, "expired"))
        bad = [f"{number:,} {word}" for number, word in counts if number]
        return f"{words}, {' and '.join(bad)}" if bad else words

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join(self._lines())

    @property
    def facts(self) -> dict[str, Any]:
        """The same for programs."""
        week = self.week
        return {
            "since": rfc3339(self.since),
            "certificates": {
                "fresh": week.fresh,
                "due": week.due,
                "failing": week.failing,
                "expired": week.expired,
            },
            "issued": week.issued,
            "renewed": week.renewed,
            "failed_orders": week.failed,
            "ends": [{"names": list(names), "not_after": rfc3339(end)} for names, end in week.ends],
            "refused": [{"client": client, "count": number} for client, number in week.refused],
            "limits": [
                {"limit": each.limit, "subject": each.subject or None, "used": each.used, "most": each.most}
                for each in self.limits
            ],
            "open": list(self.open),
        }

    def _lines(self) -> Iterator[str]:
        week = self.week
        yield f"From {moment(self.since)} to {moment(self.now)}."
        yield ""
        yield "Certificates"
        yield f"- fresh:   {week.fresh:,}"
        yield f"- due:     {week.due:,}, of which the renewal of {week.failing:,} fails"
        yield f"- expired: {week.expired:,} in the last 30 days that nobody has renewed"
        yield f"- issued:  {week.issued:,}, of which {week.renewed:,} in place of others"
        yield f"- orders that failed: {week.failed:,}"
        yield from _section("What is wrong", [one_line(each) for each in self.open])
        yield from _section(
            "Next to end",
            [f"{listed(names)}: {moment(end)} ({from_now(end, self.now)})" for names, end in week.ends],
        )
        yield from _section(
            "Refused most",
            [f"{one_line(client)}: {count(number, 'time')}" for client, number in week.refused],
        )
        yield from _section(
            "Limits that are nearly full",
            [
                f"{each.limit} for {each.subject or 'the account'}: {each.used} of {each.most}"
                for each in self.limits
            ],
        )


def _section(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield ""
        yield title
        yield from (f"- {line}" for line in lines)
