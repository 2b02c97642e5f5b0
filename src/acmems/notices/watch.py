"""Looks for what operators are to be told, and has it told."""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

from acmems.issuing.limits.gcra import fill
from acmems.issuing.limits.limit import Limit
from acmems.notices.causes import Judgement, Telling, judge
from acmems.notices.contract import NoticeTarget
from acmems.notices.notice import CauseKind, Notice, Severity
from acmems.notices.outbox import Outbox
from acmems.notices.troubles.overdue import renewal_troubles
from acmems.notices.troubles.sightings import sighted_troubles
from acmems.notices.troubles.week import MOST_LISTED, NEARLY_FULL, LimitUse, WeekSummary
from acmems.notices.wording import count, moment, rfc3339, span
from acmems.state.engines.contract import Database, Transaction
from acmems.state.limits.buckets import BucketRecord, BucketRecords
from acmems.state.notices.causes import CauseRecord, CauseRecords
from acmems.state.notices.failing import failing_renewals
from acmems.state.notices.sightings import SightingRecords
from acmems.state.notices.week import WeekRecords
from acmems.system.clock import Clock

WEEK = datetime.timedelta(days=7)


class NoticeWatch:
    """Looks at the state, and puts what is to be told into the outbox.

    What was told is written down in the same transaction, so that a crash neither loses a notice nor lets it
    be told again.

    Args:
        database: the state.
        targets: returns those of the configuration of today, by name.
        limits: returns the limits that are counted.
        clock: for dates.
        server: the name of this machine.
        new_id: returns an id that no other notice has.
    """

    def __init__(
        self,
        database: Database,
        targets: Callable[[], Mapping[str, NoticeTarget]],
        limits: Callable[[], Sequence[Limit]],
        clock: Clock,
        *,
        server: str,
        new_id: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self._database = database
        self._targets = targets
        self._limits = limits
        self._clock = clock
        self._server = server
        self._new_id = new_id
        self._causes = CauseRecords(database)
        self._sightings = SightingRecords(database)
        self._weeks = WeekRecords(database)

    def look(self) -> None:
        """Look for what is wrong, and for what is not any more.

        Raises:
            StateUnavailable: the state cannot be read or written.
        """
        now = self._clock.now()
        known = self._causes.all()
        troubles = [
            *sighted_troubles(self._sightings.all(), now),
            *renewal_troubles(failing_renewals(self._database), {each.cause for each in known}, now),
        ]
        judgement = judge(known, troubles, now)
        if judgement.kept or judgement.ended:
            self._write(judgement, now)

    def summarize(self) -> None:
        """Make the summaries that are due.

        Raises:
            StateUnavailable: the state cannot be read or written.
        """
        weekly = {
            name: each.route.weekly for name, each in self._targets().items() if each.route.weekly is not None
        }
        if not weekly:
            return
        now, made = self._clock.now(), self._weeks.made()
        # A target that is new gets its first one at its first moment from now on; so does one that a clock
        # which was ahead has given one.
        new = [name for name in weekly if name not in made or made[name] > now]
        due = [name for name, at in weekly.items() if name in made and made[name] < at.last(now)]
        if not new and not due:
            return
        notices = [(self._summary(now), due)] if due else []

        def change(transaction: Transaction) -> None:
            WeekRecords.note(transaction, [*new, *due], now)
            Outbox.keep(transaction, notices, now)

        self._database.write(change).result()

    def _write(self, judgement: Judgement, now: datetime.datetime) -> None:
        notices = [
            (notice_of(each, self._new_id(), self._server, now), self._takers(each))
            for each in judgement.tellings
        ]

        def change(transaction: Transaction) -> None:
            CauseRecords.put(transaction, judgement.kept)
            CauseRecords.remove(transaction, judgement.ended)
            Outbox.keep(transaction, notices, now)

        self._database.write(change).result()

    def _takers(self, telling: Telling) -> list[str]:
        """Return the targets that get a notice.

        Whoever was told of a cause is told that it is over, however bad it was at the end.
        """
        cause = telling.cause
        severity = cause.severity if telling.trouble is None else telling.trouble.severity
        return [name for name, each in self._targets().items() if each.route.takes(cause.kind, severity)]

    def _summary(self, now: datetime.datetime) -> Notice:
        since = now - WEEK
        summary = WeekSummary(
            since,
            now,
            self._weeks.look(since, now, MOST_LISTED),
            nearly_full(self._limits(), BucketRecords(self._database).all(), now),
            [f"{each.kind}, since {moment(each.began)}: {each.reason}" for each in self._causes.all()],
        )
        return Notice(
            id=self._new_id(),
            cause="summary",
            kind="summary",
            phase="once",
            severity="info",
            at=now,
            server=self._server,
            subject=summary.subject,
            text=summary.text,
            facts=summary.facts,
        )


def notice_of(telling: Telling, identity: str, server: str, now: datetime.datetime) -> Notice:
    """Return what is told.

    Args:
        telling: what is to be told.
        identity: the id of the notice.
        server: the name of this machine.
        now: the time (aware).
    """
    cause, trouble = telling.cause, telling.trouble
    if trouble is None:
        return _ending(cause, identity, server, now)
    text = trouble.text
    if telling.phase == "continues":
        text = f"{text}\n\nIt began at {moment(cause.began)}. This is message {cause.times} about it."
    return Notice(
        id=identity,
        cause=_occurrence(cause),
        kind=trouble.kind,
        phase=telling.phase,
        severity=trouble.severity,
        at=now,
        server=server,
        subject=trouble.subject,
        text=text,
        facts=trouble.facts,
    )


def _ending(cause: CauseRecord, identity: str, server: str, now: datetime.datetime) -> Notice:
    kind = cast("CauseKind", cause.kind)
    subject = _ENDINGS["clock" if cause.cause.startswith("clock ") else kind]
    text = (
        f"{subject[:1].upper()}{subject[1:]}.\n\nIt had begun at {moment(cause.began)}, "
        f"{span(now - cause.began)} ago, and was told {count(cause.times, 'time')}.\n\n"
        f"Reason: {cause.reason}"
    )
    return Notice(
        id=identity,
        cause=_occurrence(cause),
        kind=kind,
        phase="ended",
        severity=cast("Severity", cause.severity),
        at=now,
        server=server,
        subject=subject,
        text=f"{text}\nCA:     {cause.directory}" if cause.directory else text,
        facts={
            "directory": cause.directory or None,
            "reason": cause.reason,
            "since": rfc3339(cause.began),
            "times": cause.times,
        },
    )


_ENDINGS: Mapping[str, str] = {
    "renewal": "no renewal fails for this reason any more",
    "limit": "no renewal waits for this limit of the CA any more",
    "account": "the CA takes the account again",
    "ca": "the CA answers again",
    "clock": "the clocks of this server and the CA agree again",
    "state": "the state can be written again",
}


def _occurrence(cause: CauseRecord) -> str:
    """Return what names a cause from its beginning to its end, and not the next time that it comes."""
    return f"{cause.cause} {int(cause.began.timestamp())}"


def nearly_full(
    limits: Sequence[Limit], buckets: Iterable[BucketRecord], now: datetime.datetime
) -> list[LimitUse]:
    """Return the limits that are nearly full, the fullest first.

    Args:
        limits: those that are counted.
        buckets: how far they are used.
        now: the time (aware).
    """
    by_name, at = {each.name: each for each in limits}, int(now.timestamp() * 1000)
    uses = []
    for bucket in buckets:
        if (limit := by_name.get(bucket.limited)) is not None:
            used = fill(limit.rate, bucket.instant, at).used
            if used >= NEARLY_FULL * limit.rate.count:
                uses.append(LimitUse(limit.name, bucket.subject, used, limit.rate.count))
    return sorted(uses, key=lambda each: (-each.used / each.most, each.limit, each.subject))[:MOST_LISTED]
