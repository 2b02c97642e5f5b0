"""The listeners of one configuration after the other: what stays keeps its sockets and its connections."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from acmems.app.plans import PlannedListener
from acmems.challenges import Validator
from acmems.net.address import Address
from acmems.net.listening import Binder, BoundSocket, BoundSockets, Listener, SocketPool
from acmems.system.clock import SYSTEM, Clock, Deadline
from acmems.system.systemd import InheritedSocket

logger = logging.getLogger(__name__)

BoundByName = Mapping[str, Sequence[BoundSocket]]
"""Sockets by the names of their listeners."""
LEAVING_SECONDS = 30.0
"""Within which requests are finished at a listener that no section has any more."""
GRACE_SECONDS = 2.0
"""For which sockets that are not needed any more stay open: who is about to be connected is not reset."""


@dataclass(frozen=True, slots=True)
class PreparedChange:
    """Listeners whose sockets are bound, and which do not serve yet.

    Args:
        planned: what the listeners are to be.
        bound: their sockets, by the names of the listeners.
        binder: has bound those that are new; None where nothing is.
    """

    planned: Sequence[PlannedListener]
    bound: dict[str, BoundSockets]
    binder: Binder | None = None

    def abort(self) -> None:
        """Let go of the new sockets: nothing changes."""
        if self.binder is not None:
            self.binder.abort()


def prepare(
    planned: Iterable[PlannedListener],
    running: BoundByName,
    pool: SocketPool,
    leaving: Sequence[BoundSocket] = (),
) -> PreparedChange:
    """Bind what is to be listened on and is not yet; nothing else changes.

    Args:
        planned: what the listeners are to be.
        running: the sockets of the listeners that there are.
        pool: sockets to take instead of new ones.
        leaving: sockets that no listener has any more, and that are still open.

    Raises:
        OSError: an address cannot be listened on; `filename` names it.
    """
    binder = Binder(pool, [*leaving, *(each for sockets in running.values() for each in sockets)])
    change = PreparedChange([each for each in planned if each.plan.addresses], {}, binder)
    try:
        for each in change.planned:
            plan = each.plan
            change.bound[plan.name] = binder.bind(
                plan.addresses,
                defaults=plan.defaults,
                datagrams=plan.datagrams is not None,
                own=running.get(plan.name, ()),
            )
    except OSError:
        change.abort()
        raise
    return change


@dataclass(slots=True, eq=False)
class _RunningListener:
    """A listener, and what it still does for earlier configurations.

    Args:
        listener: the listener.
        planned: what it is.
        former: the validators of earlier configurations whose proofs may still be asked for.
        leaving: sockets that it has for these only.
        is_leaving: whether no section has it any more.
        until: when these sockets may be closed at the earliest, on the monotonic clock.
    """

    listener: Listener
    planned: PlannedListener
    former: list[Validator] = field(default_factory=list)
    leaving: list[BoundSocket] = field(default_factory=list)
    is_leaving: bool = False
    until: float = 0.0


class Listeners:
    """The listeners of a server. Safe to use from several threads.

    Args:
        clock: for deadlines.
        pool: sockets to take instead of new ones.
    """

    def __init__(self, clock: Clock = SYSTEM, pool: SocketPool | None = None) -> None:
        self.pool = pool or SocketPool()
        self._clock = clock
        self._lock = threading.Lock()  # guards what follows
        self._running: dict[str, _RunningListener] = {}
        self._ending: dict[
            Listener, Deadline
        ] = {}  # those that accept nothing more, and until when they may go on

    @property
    def all(self) -> tuple[Listener, ...]:
        """The listeners, those that clients ask at first."""
        with self._lock:
            return (*(each.listener for each in self._running.values()), *self._ending)

    @property
    def addresses(self) -> list[str]:
        """What is listened on, for a person: `mgmt 127.0.0.1:1313`."""
        return [f"{listener.name} {address}" for listener in self.all for address in listener.addresses]

    def prepare(self, planned: Iterable[PlannedListener]) -> PreparedChange:
        """Bind what is to be listened on and is not yet; nothing else changes.

        Args:
            planned: what the listeners are to be.

        Raises:
            OSError: an address cannot be listened on; `filename` names it.
        """
        with self._lock:
            running = {name: each.listener.bound for name, each in self._running.items()}
        return prepare(planned, running, self.pool)

    def use(self, planned: Iterable[PlannedListener], bound: BoundByName) -> None:
        """Listen at sockets that another process has bound, from `start` on.

        Args:
            planned: what the listeners are to be.
            bound: all their sockets.
        """
        given = {name: BoundSockets(self.pool, list(sockets)) for name, sockets in bound.items()}
        self.commit(PreparedChange([one for one in planned if one.plan.name in given], given), start=False)

    def commit(self, change: PreparedChange, *, start: bool = True) -> None:
        """Make a prepared change.

        What a validator of before may have presented is found where it was until `retire` sees that nothing
        uses it any more, unless its address is another listener's now.

        Args:
            change: what was prepared.
            start: whether new listeners serve at once; otherwise who connects waits for `start`.
        """
        planned = {each.plan.name: each for each in change.planned}
        claimed = {each.socket for bound in change.bound.values() for each in bound.bound}
        with self._lock:
            before, self._running = self._running, {}
            for name, each in planned.items():
                running = before.get(name)
                if running is None:
                    running = _RunningListener(Listener.of(each.plan, self._clock), each)
                    running.listener.adopt(each.plan, change.bound[name])
                    if start:
                        running.listener.start()
                else:
                    self._adopt(running, each, change.bound[name].bound, claimed)
                self._running[name] = running
            for name, running in before.items():
                if name not in planned:
                    self._adopt(running, None, [], claimed)
                    self._running[name] = running

    def _adopt(
        self,
        running: _RunningListener,
        planned: PlannedListener | None,
        bound: Sequence[BoundSocket],
        claimed: Collection[socket.socket],
    ) -> None:
        """Let a listener be what it is planned to be; None: nothing, when nobody needs it any more."""
        former = running.planned.validator
        if former is not None and former not in running.former:
            running.former.append(former)
        if planned is not None:
            running.planned = planned
            running.former = [each for each in running.former if each is not planned.validator]
        running.is_leaving = planned is None
        running.until = self._clock.monotonic() + GRACE_SECONDS
        running.leaving = [each for each in running.listener.bound if each.socket not in claimed]
        running.listener.adopt(running.planned.plan, BoundSockets(self.pool, [*bound, *running.leaving]))

    def start(self) -> None:
        """Serve at all that was committed."""
        for listener in self.all:
            listener.start()

    def retire(self, uses: Callable[[Validator], bool]) -> bool:
        """Let go of what was kept for earlier configurations and is not needed any more.

        Args:
            uses: tells whether a validator may still present something, or have it presented.

        Returns:
            whether there is nothing of that left.
        """
        with self._lock:
            for name, running in tuple(self._running.items()):
                running.former = [each for each in running.former if uses(each)]
                if running.former or self._clock.monotonic() < running.until:
                    continue
                if running.leaving:
                    self._let_go(running)
                if running.is_leaving:
                    del self._running[name]
                    running.listener.stop_accepting()
                    self._ending[running.listener] = self._clock.deadline(LEAVING_SECONDS)
            for listener, until in tuple(self._ending.items()):
                if until.passed or listener.drain(self._clock.deadline(0)):
                    del self._ending[listener]
                    listener.close()
            return not self._ending and not any(
                each.former or each.leaving or each.is_leaving for each in self._running.values()
            )

    def _let_go(self, running: _RunningListener) -> None:
        left = [each.socket for each in running.leaving]
        kept = BoundSockets(self.pool, list(running.listener.bound))
        kept.remove(left)
        running.listener.adopt(running.planned.plan, kept)
        running.leaving = []
        for sock in left:
            self.pool.free(sock)

    def stop_accepting(self) -> None:
        """Accept nobody any more where clients ask; those who are connected are still served."""
        for listener in self._for_clients():
            listener.stop_accepting()

    def drain(self, deadline: Deadline) -> bool:
        """Wait until clients have their answers; tell whether all have.

        Args:
            deadline: when to give up.
        """
        return all(listener.drain(deadline) for listener in self._for_clients())

    def close(self) -> None:
        """Stop serving, and close every connection."""
        for listener in self.all:
            listener.close()

    def _for_clients(self) -> list[Listener]:
        with self._lock:
            running = tuple(self._running.values())
        return [each.listener for each in running if each.planned.is_for_clients]


def tell_unused(unused: Collection[socket.socket], inherited: Iterable[InheritedSocket]) -> None:
    """Tell of sockets that systemd has opened for nothing: who connects there waits in vain.

    Args:
        unused: sockets that no listener has.
        inherited: those that systemd has opened.
    """
    for each in inherited:
        if each.socket in unused:
            logger.warning(
                "systemd has opened the socket %s at %s, where no listener is configured: nobody is answered",
                each.name,
                _place(each.socket),
            )


def _place(sock: socket.socket) -> str:
    name = sock.getsockname()
    if sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return str(name)
    return f"{Address(*name[:2])}{' (UDP)' if sock.type == socket.SOCK_DGRAM else ''}"
