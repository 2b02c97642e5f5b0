"""Which issuances run, which wait for their turn, and who waits for which."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from acmems.challenges import Validator
from acmems.issuing.contract import Workload
from acmems.issuing.counts import RequestCounts
from acmems.issuing.requests import IssuanceKey
from acmems.issuing.running import RunningIssuance, WaitingClient, stopping
from acmems.system.clock import Clock
from acmems.system.shares import FairQueue

_LOOK_SECONDS = 1.0  # between two looks at what waits for its turn
_LEAST_SECONDS = 1.0  # that a client must have left for its order to begin
_REFUSED, _GONE = "refused because too many wait", "given up because their clients had hung up"

Answer = Callable[[WaitingClient], Exception | None]
"""What a client is told of a failure, None where that is not about it."""


@dataclass(slots=True)
class Leavers:
    """Clients that wait no longer.

    Args:
        late: their time is over.
        gone: they have hung up.
        refused: there is no room for what they wait for.
        told: the issuance has failed, for the reason that stands with them.
    """

    late: list[WaitingClient] = field(default_factory=list)
    gone: list[WaitingClient] = field(default_factory=list)
    refused: list[WaitingClient] = field(default_factory=list)
    told: list[tuple[WaitingClient, Exception]] = field(default_factory=list)


@dataclass(slots=True)
class Look:
    """What a look at the queue has brought.

    Args:
        leavers: who need not wait any more.
        sums: lines for the log.
        wait: seconds until the next look; None where nothing waits.
    """

    leavers: Leavers
    sums: list[str]
    wait: float | None


class IssuanceTable:
    """The issuances that run or wait for their turn: one at most for the same names and key.

    Its methods are for any thread. They tell nobody anything: that is left to who calls them, because clients
    must not be answered under a lock.

    Args:
        queue: who is next.
        clock: for times.
    """

    def __init__(self, queue: FairQueue[RunningIssuance], clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # guards what follows
        self._queue = queue
        self._counts = RequestCounts(clock)
        self._running: dict[IssuanceKey, RunningIssuance] = {}
        self._ended = 0
        self._is_closed = False
        self._is_looked_at = False

    def __len__(self) -> int:
        """Return how many run or wait for their turn."""
        return len(self._running)

    @property
    def ended(self) -> int:
        """How many have ended: a chain may have been stored since this number was smaller."""
        return self._ended

    def workload(self, unsaved: int) -> Workload:
        """Return how much is to be done, and is being done.

        Args:
            unsaved: how many chains could not be stored yet.
        """
        with self._lock:
            queue = self._queue
            return Workload(len(queue), queue.running, queue.behind, unsaved, queue.most_running)

    @property
    def is_waited_for(self) -> bool:
        """Whether a client that has not hung up waits for any of them."""
        with self._lock:
            waiting = (each for running in self._running.values() for each in running.waiting)
            return any(not each.is_gone for each in waiting)

    def uses(self, validator: Validator) -> bool:
        """Tell whether any of them may prove names by a validator."""
        with self._lock:
            accepted = [running.accepted for running in self._running.values()]
            accepted += [each.accepted for running in self._running.values() for each in running.waiting]
        return any(validator in each.validators for each in accepted)

    def adapt(self, most_running: int, most_waiting: int) -> None:
        """Go by other limits from now on; what runs or waits is left alone.

        Args:
            most_running: how many may run at once.
            most_waiting: how many may wait.
        """
        with self._lock:
            self._queue.most_running, self._queue.most_waiting = most_running, most_waiting

    def has(self, key: IssuanceKey) -> bool:
        """Tell whether one for the same runs or waits for its turn."""
        with self._lock:
            return key in self._running

    def hang(self, seconds: float) -> bool:
        """Tell whether so many run for longer than some seconds that a client may get no place any more."""
        now = self._clock.monotonic()
        with self._lock:
            begun = [running.began for running in self._running.values() if running.began is not None]
        return sum(now - began > seconds for began in begun) >= self._queue.most_of_one

    def enter(self, key: IssuanceKey, client: WaitingClient, ended: int) -> Leavers:
        """Have a client wait: for the issuance of the same that is there, or for a new one.

        Args:
            key: what makes others the same.
            client: the client.
            ended: how many had ended before the storage was asked.

        Raises:
            CAUnavailable: the server is stopping.
        """
        leavers = Leavers()
        with self._lock:
            if self._is_closed:
                raise stopping()
            running = self._running.get(key)
            if running is None:
                self._put(RunningIssuance(key, client.accepted, self._ended != ended, [client]), leavers)
            else:
                leavers.gone = running.join(client)
                self._count_gone(leavers)
        return leavers

    def next(self, new: IssuanceKey | None = None) -> tuple[RunningIssuance | None, Leavers]:
        """Return the issuance to begin now, None while none may; those that nobody waits for are dropped.

        Args:
            new: one that has not waited yet: a client that has only stopped sending gets its certificate
                where there is room.
        """
        leavers = Leavers()
        with self._lock:
            while (running := self._queue.next()) is not None:
                running.began = self._clock.monotonic()
                if running.key == new or any(each.waits(_LEAST_SECONDS) for each in running.waiting):
                    break
                for each in self._end(running):
                    (leavers.gone if each.is_gone else leavers.late).append(each)
            self._count_gone(leavers)
        return running, leavers

    def leave_late(self, running: RunningIssuance) -> list[WaitingClient]:
        """Return the clients of an issuance whose time is over; without clients it takes no place."""
        with self._lock:
            late = running.leave(lambda each: each.is_late)
            if not running.waiting and running.takes_turn:
                running.takes_turn = not self._queue.fall_behind(running.share)
        return late

    def end(self, running: RunningIssuance) -> list[WaitingClient]:
        """Let nobody join an issuance any more, and return who waits for it."""
        with self._lock:
            return self._end(running)

    def end_if(self, running: RunningIssuance, is_over: Callable[[], bool]) -> list[WaitingClient] | None:
        """End an issuance if a function, which nobody can join meanwhile, says so; else return None."""
        with self._lock:
            return self._end(running) if is_over() else None

    def fail(self, running: RunningIssuance, error: Exception, answer: Answer) -> Leavers:
        """End an issuance that has failed, and queue it again for those whom that says nothing about.

        Args:
            running: the issuance.
            error: how it failed.
            answer: what each of its clients is told.
        """
        leavers, others = Leavers(), []
        with self._lock:
            for each in self._end(running):
                told = answer(each)
                if told is None and not self._is_closed:
                    others.append(each)
                else:
                    leavers.told.append((each, told or error))
            if others:
                self._put(running.again(others), leavers)
        return leavers

    def leave_gone(self) -> Leavers:
        """Find all clients that have hung up; what runs for them goes on."""
        leavers = Leavers()
        with self._lock:
            for running in self._running.values():
                leavers.gone += running.leave(lambda each: each.is_gone)
            self._count_gone(leavers)
        return leavers

    def close(self) -> list[WaitingClient]:
        """Let no issuance begin any more, and return who waits for one that has not begun."""
        with self._lock:
            self._is_closed = True
            refused = self._queue.remove(lambda _: True)
            for running in refused:
                del self._running[running.key]
        return [each for running in refused for each in running.waiting]

    def has_to_be_looked_at(self) -> bool:
        """Tell, once, whether something waits and nobody looks at it from time to time."""
        with self._lock:
            if self._is_looked_at or not (len(self._queue) or self._counts.has_more):
                return False
            self._is_looked_at = True
            return True

    def look(self) -> Look:
        """Find what waits for its turn in vain."""
        leavers, wait = Leavers(), _LOOK_SECONDS

        def is_over(running: RunningIssuance) -> bool:
            nonlocal wait
            leavers.late += running.leave(lambda each: each.is_late)
            if all(each.is_gone for each in running.waiting):
                leavers.gone += running.waiting
                return True
            wait = min(wait, running.next_deadline)
            return False

        with self._lock:
            for running in self._queue.remove(is_over):
                del self._running[running.key]
            self._count_gone(leavers)
            sums = self._counts.due()
            self._is_looked_at = bool(len(self._queue) or self._counts.has_more)
            return Look(leavers, sums, max(0.001, wait) if self._is_looked_at else None)

    def _put(self, running: RunningIssuance, leavers: Leavers) -> None:
        """Queue an issuance; somebody's may have to leave the queue for it."""
        queued: RunningIssuance | None = running
        while queued is not None:
            self._running[queued.key] = queued
            shed, queued = self._queue.put(queued), None
            if shed is not None:
                del self._running[shed.key]
                # Who has joined must not lose its place because others of whom it joined have too many.
                others = [each for each in shed.waiting if each.owner != shed.accepted.owner]
                refused = [each for each in shed.waiting if each.owner == shed.accepted.owner]
                queued = shed.again(others) if others else None
                for each in refused:
                    self._counts.count(each.accepted.block, _REFUSED)
                leavers.refused += refused

    def _end(self, running: RunningIssuance) -> list[WaitingClient]:
        # All at once: whoever does not find the issuance any more must see that one has ended.
        del self._running[running.key]
        self._queue.end(running.share, behind=not running.takes_turn)
        self._ended += 1
        return running.waiting

    def _count_gone(self, leavers: Leavers) -> None:
        for each in leavers.gone:
            self._counts.count(each.accepted.block, _GONE)
