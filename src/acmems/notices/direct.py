"""What is told past the state, because it is the state that fails: from memory, by each server for itself."""

from __future__ import annotations

import datetime
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from acmems.notices.causes import reminder_after
from acmems.notices.contract import NoticeTarget, NoticeUndelivered
from acmems.notices.counts import NoticeCounts
from acmems.notices.notice import Notice, Phase
from acmems.notices.outbox import pause_after
from acmems.notices.wording import moment, rfc3339, span
from acmems.system.clock import Clock
from acmems.text import one_line

logger = logging.getLogger(__name__)

PATIENCE = datetime.timedelta(minutes=2)
"""For so long the state may fail before that is told: databases are restarted."""
_LONGEST_REASON = 500


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A notice for one target, in memory only."""

    notice: Notice
    tries: int
    next_try: datetime.datetime


class StateAlarm:
    """Tells that the state cannot be written, and that it can again.

    Args:
        targets: returns those of the configuration of today, by name.
        clock: for dates.
        counts: told of how deliveries end.
        server: the name of this machine.
    """

    def __init__(
        self,
        targets: Callable[[], Mapping[str, NoticeTarget]],
        clock: Clock,
        counts: NoticeCounts,
        *,
        server: str,
    ) -> None:
        self._targets = targets
        self._clock = clock
        self._counts = counts
        self._server = server
        self._began: datetime.datetime | None = None
        self._told: datetime.datetime | None = None
        self._times = 0
        self._reason = ""
        self._waiting: dict[str, _Waiting] = {}

    def look(self, failure: Exception | None) -> None:
        """Take note of how the state is.

        Args:
            failure: why it cannot be written, None where it can.
        """
        now = self._clock.now()
        if failure is None:
            if self._told is not None:
                self._tell("ended", now)
            self._began = self._told = None
            self._times = 0
            return
        self._reason = one_line(failure, _LONGEST_REASON)
        if self._began is None:
            self._began = now
        if self._told is None:
            if now - self._began >= PATIENCE:
                self._tell("begun", now)
        elif now - self._told >= reminder_after(self._times):
            self._tell("continues", now)

    def deliver(self) -> None:
        """Deliver what is to be delivered now."""
        targets = self._targets()
        for name, waiting in list(self._waiting.items()):
            target = targets.get(name)
            if target is None:
                del self._waiting[name]
            elif waiting.next_try <= self._clock.now():
                self._deliver(target, waiting)

    def _deliver(self, target: NoticeTarget, waiting: _Waiting) -> None:
        try:
            target.deliver(waiting.notice)
        except NoticeUndelivered as error:
            self._counts.count(target.name, "failed")
            if not waiting.tries:
                logger.warning("notice %s: not delivered, and tried again: %s", target.name, error)
            later = self._clock.now() + pause_after(waiting.tries)
            self._waiting[target.name] = _Waiting(waiting.notice, waiting.tries + 1, later)
        else:
            self._counts.count(target.name, "delivered")
            del self._waiting[target.name]

    def _tell(self, phase: Phase, now: datetime.datetime) -> None:
        began = self._began or now
        self._told, self._times = now, self._times + 1
        notice = self._notice(phase, began, now)
        for name, target in self._targets().items():
            if target.route.takes("state", "critical"):
                self._waiting[name] = _Waiting(notice, 0, now)

    def _notice(self, phase: Phase, began: datetime.datetime, now: datetime.datetime) -> Notice:
        if phase == "ended":
            subject = "the state can be written again"
            text = f"It could not be since {moment(began)}, for {span(now - began)}."
        else:
            subject = "the state cannot be written: nothing is ordered"
            text = (
                f"It cannot be written since {moment(began)}. Stored certificates are delivered as far as "
                f"they are known, but none is ordered or renewed until this is mended."
            )
        return Notice(
            id=secrets.token_hex(16),
            cause=f"state {self._server} {int(began.timestamp())}",
            kind="state",
            phase=phase,
            severity="critical",
            at=now,
            server=self._server,
            subject=subject,
            text=f"{text}\n\nReason: {self._reason}",
            facts={"reason": self._reason, "since": rfc3339(began)},
        )
