"""Limits that nobody has configured, and that a CA has told of where it refused an order."""

from __future__ import annotations

import dataclasses
import datetime
import logging
from collections.abc import Callable, Iterable, Sequence

from acmems.exceptions import StateUnavailable
from acmems.issuers.acme.orders.statements import StatedLimit
from acmems.issuing.limits.gcra import Rate
from acmems.issuing.limits.limit import NAMES, Counted, Limit
from acmems.state.limits.learnt import LearntRecord, LearntRecords
from acmems.system.clock import Clock

logger = logging.getLogger(__name__)

_MILLISECOND = datetime.timedelta(milliseconds=1)


class LearntLimits:
    """The limits that CAs have told of; for any thread.

    What one of several servers has learnt the others know with their next `refresh`.

    Args:
        records: where they are kept.
        clock: for dates.
        is_wanted: tells whether limits are learnt: not where the configuration names some.

    Raises:
        StateUnavailable: they cannot be read.
    """

    def __init__(
        self, records: LearntRecords, clock: Clock, is_wanted: Callable[[], bool] = lambda: True
    ) -> None:
        self._records = records
        self._clock = clock
        self._is_wanted = is_wanted
        self._known: dict[tuple[str, str], LearntRecord] = {}
        self._take(records.load())

    def refresh(self) -> None:
        """See what other servers have learnt; called from time to time.

        Raises:
            StateUnavailable: it cannot be read.
        """
        self._take(self._records.load())

    def beside(self, limits: Sequence[Limit], account: str) -> tuple[Limit, ...]:
        """Return limits, and what was learnt for an account: that counts before what its CA publishes.

        Args:
            limits: those that are known otherwise.
            account: names the account among all.
        """
        if not self._is_wanted():
            return tuple(limits)
        now = self._clock.now()
        learnt = [each for each in self._of(account) if each.ends > now]
        return merged(limits, learnt)

    def learn(self, account: str, stated: StatedLimit, limits: Iterable[Limit]) -> bool:
        """Take note of a limit that an order was refused for; tell whether it is new, or another than before.

        Args:
            account: names the account among all.
            stated: what the CA said.
            limits: those that are known otherwise.
        """
        if not self._is_wanted():
            return False
        now, before = self._clock.now(), self._known.get((account, stated.counts))
        rate = _rate(stated)
        if rate is None:
            if before is not None:
                self._put(dataclasses.replace(before, confirmed=now))
            return False
        if before is None and any(
            each.counts is Counted(stated.counts) and each.rate == rate for each in limits
        ):
            return False
        is_same = before is not None and (before.count, before.period) == (rate.count, rate.period)
        if before is not None and is_same and before.ends > now:
            self._put(dataclasses.replace(before, confirmed=now))
            return False
        self._put(
            LearntRecord(
                *(account, stated.counts, rate.count, rate.period, stated.exempts_renewals),
                *(now, now, stated.words),
            )
        )
        logger.info(
            "%s has told of a limit, which is counted from now on: %d %s in %s; if that is wrong, say which "
            "limits there are by 'limits' in its [account]",
            *(account.partition(" ")[0], rate.count, NAMES[Counted(stated.counts)], _in_words(rate.period)),
        )
        return True

    def _of(self, account: str) -> list[LearntRecord]:
        return [each for each in tuple(self._known.values()) if each.account == account]

    def _put(self, record: LearntRecord) -> None:
        self._known = {**self._known, (record.account, record.counts): record}
        written = self._records.put(record)
        written.add_done_callback(lambda done: _note_failure(done.exception()))

    def _take(self, records: Iterable[LearntRecord]) -> None:
        self._known = {(each.account, each.counts): each for each in records}


def merged(limits: Iterable[Limit], learnt: Sequence[LearntRecord]) -> tuple[Limit, ...]:
    """Return limits, and those that were learnt, each in the place of what is published of the same.

    Args:
        limits: those that are known otherwise.
        learnt: what was learnt for the account.
    """
    found = [limit_of(each) for each in learnt]
    counted = {each.counts for each in found}
    kept = [each for each in limits if not (each.source == "published" and each.counts in counted)]
    return (*kept, *found)


def limit_of(record: LearntRecord) -> Limit:
    """Return the limit that a CA has told of."""
    counts = Counted(record.counts)
    rate = Rate(record.count, record.period)
    return Limit(NAMES[counts], counts, rate, record.exempts_renewals, "learnt")


def _rate(stated: StatedLimit) -> Rate | None:
    if stated.count is None or stated.period is None:
        return None
    try:
        return Rate(stated.count, stated.period // _MILLISECOND)
    except ValueError:
        return None


def _in_words(milliseconds: int) -> str:
    """Return a period as a configuration would have it."""
    seconds = milliseconds // 1000
    unit, letter = next(
        ((unit, letter) for unit, letter in ((86_400, "d"), (3600, "h"), (60, "m")) if seconds % unit == 0),
        (1, "s"),
    )
    return f"{seconds // unit}{letter}"


def _note_failure(error: BaseException | None) -> None:
    if isinstance(error, StateUnavailable):
        logger.debug("a limit that was learnt is known until this server ends only: %s", error)
