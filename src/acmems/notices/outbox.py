"""Delivers notices, and tries again for days where a target does not take them."""

from __future__ import annotations

import datetime
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait

from acmems.exceptions import AcmeException
from acmems.notices.contract import NoticeTarget, NoticeUndelivered
from acmems.notices.counts import NoticeCounts
from acmems.notices.notice import Notice
from acmems.notices.wording import span
from acmems.state.engines.contract import Transaction
from acmems.state.notices.outbox import NoticeRecord, NoticeRecords
from acmems.system.clock import Clock

logger = logging.getLogger(__name__)

FIRST_PAUSE = datetime.timedelta(seconds=30)
"""After a delivery that has failed; twice as long after each further one."""
LONGEST_PAUSE = datetime.timedelta(hours=6)
GIVEN_UP = datetime.timedelta(days=5)
"""How old a notice becomes that nobody takes: as old as mail does."""
PATIENCE_SECONDS = 5.0
"""For which one turn, or the end, waits for a target."""
MOST_AT_ONCE = 100
"""Notices that are delivered in one turn."""

Targets = Callable[[], Mapping[str, NoticeTarget]]


class Outbox:
    """Delivers what waits in the state, each target in a thread of its own, so that none waits for another.

    Only one process delivers at a time. A notice is forgotten after it was taken, so one that was taken just
    before a crash is delivered again, with the same id.

    Args:
        records: what waits.
        targets: returns those of the configuration of today, by name.
        clock: for dates.
        counts: told of how deliveries end.
    """

    def __init__(
        self,
        records: NoticeRecords,
        targets: Targets,
        clock: Clock,
        counts: NoticeCounts,
    ) -> None:
        self._records = records
        self._targets = targets
        self._clock = clock
        self._counts = counts
        self._is_stopped = False
        self._busy: dict[str, threading.Thread] = {}  # what delivers, by target
        self._failures: list[AcmeException] = []
        self._failing: dict[str, str] = {}  # why, by target; logged when it begins and ends

    @staticmethod
    def keep(
        transaction: Transaction, notices: Iterable[tuple[Notice, Sequence[str]]], now: datetime.datetime
    ) -> None:
        """Have notices delivered, in a transaction of `Database.write`.

        Args:
            transaction: the transaction.
            notices: each with the names of the targets that are to get it.
            now: the time (aware).
        """
        NoticeRecords.put(
            transaction,
            [
                NoticeRecord(
                    target=target,
                    cause=notice.cause,
                    id=notice.id,
                    notice=notice.to_json(),
                    made=now,
                    next_try=now,
                )
                for notice, targets in notices
                for target in targets
            ],
        )

    def turn(self) -> None:
        """Deliver what is to be delivered now; a target that takes long is left to itself.

        Raises:
            StateUnavailable: what waits cannot be read, or what was delivered cannot be written down.
        """
        targets = self._targets()
        self._busy = {name: thread for name, thread in self._busy.items() if thread.is_alive()}
        due: dict[str, list[NoticeRecord]] = {}
        for record in self._records.due(self._clock.now(), MOST_AT_ONCE, LONGEST_PAUSE):
            if record.target not in self._busy:
                due.setdefault(record.target, []).append(record)
        # No pool: at its end the interpreter would wait for what a target holds up.
        for name, records in due.items():
            self._busy[name] = threading.Thread(
                target=self._run, args=(targets.get(name), records), name="acmems-notice", daemon=True
            )
            self._busy[name].start()
        for name in due:
            self._busy[name].join(PATIENCE_SECONDS)
        if self._failures:
            raise self._failures.pop()
        self._counts.waiting = self._records.waiting()

    def stop(self) -> None:
        """Begin no further delivery, and wait a moment for those that go on: they would be made twice."""
        self._is_stopped = True
        for thread in self._busy.values():
            thread.join(PATIENCE_SECONDS)

    def hasten(self, targets: Sequence[str]) -> None:
        """Try now what waits for targets that are described anew."""
        if targets:
            self._records.hasten(targets, self._clock.now()).result()

    def _run(self, target: NoticeTarget | None, records: Sequence[NoticeRecord]) -> None:
        try:
            self._deliver_all(target, records)
        except AcmeException as error:
            self._failures.append(error)

    def _deliver_all(self, target: NoticeTarget | None, records: Sequence[NoticeRecord]) -> None:
        """Deliver what waits for one target, oldest first, until that fails."""
        written: list[Future[None]] = []
        for record in records:
            if self._is_stopped:
                break
            if target is None:
                logger.warning(
                    'a notice is not delivered, because there is no [notice "%s"] any more', record.target
                )
                written.append(self._records.remove(record))
            elif not self._deliver(target, record, written):
                break
        wait(written)
        for each in written:
            each.result()

    def _deliver(self, target: NoticeTarget, record: NoticeRecord, written: list[Future[None]]) -> bool:
        """Deliver a notice; tell whether the target may take the next one."""
        try:
            notice = Notice.from_json(record.notice)
        except (ValueError, KeyError, TypeError) as error:
            logger.error("a notice is lost, which cannot be read: %s", type(error).__name__)  # noqa: TRY400 - no bug of this code
            self._counts.count(target.name, "lost")
            written.append(self._records.remove(record))
            return True
        try:
            target.deliver(notice)
        except NoticeUndelivered as error:
            self._note_failure(target, record, str(error), written)
            return False
        except Exception as error:
            logger.exception("notice %s: a bug", target.name)
            self._note_failure(target, record, f"a bug: {type(error).__name__}", written)
            return False
        self._counts.count(target.name, "delivered")
        if self._failing.pop(target.name, None) is not None or record.tries:
            logger.info("notice %s: delivers again, also what has waited", target.name)
        # Forgotten at once: what is delivered after it may take a while.
        self._records.remove(record).result()
        return True

    def _note_failure(
        self, target: NoticeTarget, record: NoticeRecord, reason: str, written: list[Future[None]]
    ) -> None:
        now = self._clock.now()
        self._counts.count(target.name, "failed")
        if now - record.made >= GIVEN_UP:
            logger.error(
                "notice %s: lost after %s, because %s: %s",
                *(target.name, span(now - record.made), reason, Notice.from_json(record.notice).subject),
            )
            self._counts.count(target.name, "lost")
            written.append(self._records.remove(record))
            return
        pause = pause_after(record.tries)
        if target.name not in self._failing:
            logger.warning("notice %s: not delivered, and tried again for days: %s", target.name, reason)
        self._failing[target.name] = reason
        written.append(self._records.postpone(record, reason, now + pause))


def pause_after(tries: int) -> datetime.timedelta:
    """Return after how long a delivery is tried again.

    Args:
        tries: how often it has failed before.
    """
    return min(LONGEST_PAUSE, FIRST_PAUSE * (1 << min(tries, 20)))
