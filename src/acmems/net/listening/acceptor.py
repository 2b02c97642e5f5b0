"""Taking clients on: within the limits, by address where there are more clients than places."""

from __future__ import annotations

import errno
import functools
import ipaddress
import logging
import math
import select
import socket
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from acmems.net.address import IPNetwork
from acmems.net.listening.balance import AcceptBalance
from acmems.net.listening.connection import Connection, Occupancy
from acmems.net.listening.limits import ListenerLimits, is_spare, rank, spare
from acmems.net.listening.loop import EventLoop
from acmems.net.listening.shares import PROXIES, Places, WaitingRoom, share_of
from acmems.system.clock import Clock

logger = logging.getLogger(__name__)

_BATCH = 4  # connections accepted before others have their turn; it takes little time
_MOST_BATCHES = 1024  # of those who wait at a socket that is left
_COMPLAIN_SECONDS = 10.0  # between two lines that say that nothing can be accepted
_SUM_SECONDS = 60.0  # between two lines that say how many connections were closed for others
_WAY_SECONDS = 0.002  # for which other processes have their chance to accept
_TRIES = 64  # addresses that wait, for which it is tried at once to make room
_DONE = frozenset({Occupancy.SERVED, Occupancy.LEAVING})  # nobody has to be told that these are closed
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class _Client(NamedTuple):
    """Someone who has connected, and has no place yet."""

    sock: socket.socket
    peer: tuple[str, int]


class Acceptor:
    """Accepts what connects, and gives it places; for the thread of the loop.

    Everybody is accepted, since only then it is known who it is. Who gets no place waits, connected and
    unread, and the addresses take turns in getting those that become free. For whoever waits, one connection
    is ended that can be spared, and no more: an idle one, or any on which no request is worked on if its
    address holds more places. Where too many wait, the address of which most wait loses one for each that
    comes.

    Args:
        name: what the listener is called in the log.
        loop: tells when someone comes.
        clock: for limits.
        limits: how much is taken on.
        connections: the open ones.
        admit: takes on what was accepted, given the socket, address and port of the client,
            and whose share it counts for.
        end: ends a connection to make room for others.
        park: takes the place of a connection on which nothing has come, and returns its socket.
        trusted_proxies: whose connections count for their clients, and not for themselves.
        balance: tells whether another process is to accept; None where there is none.

    Attributes:
        places: who holds how many.
        shed: connections that were closed for others so far.
    """

    def __init__(
        self,
        name: str,
        loop: EventLoop,
        clock: Clock,
        limits: ListenerLimits,
        *,
        connections: Mapping[int, Connection],
        admit: Callable[[socket.socket, tuple[str, int], str], object],
        end: Callable[[Connection], None],
        park: Callable[[Connection], socket.socket],
        trusted_proxies: Sequence[IPNetwork] = (),
        balance: AcceptBalance | None = None,
    ) -> None:
        self.places = Places(limits.connections)
        self.shed = 0
        self._name = name
        self._loop = loop
        self._clock = clock
        self._limits = limits
        self._connections = connections
        self._admit = admit
        self._end = end
        self._park = park
        self._trusted_proxies = tuple(trusted_proxies)
        self._balance = balance
        self._sockets: deque[socket.socket] = deque()
        self._waiting: WaitingRoom[_Client] = WaitingRoom()
        self._spare: list[tuple[float, Connection]] = []  # since when they were idle as they were found
        self._looked = -math.inf  # when they were found
        self._crowded_since = self._crowded_until = -math.inf
        self._is_exhausted = False  # what accepting needs is lacking: descriptors, most often
        self._is_resuming = False
        self._complained = -math.inf
        self._summed = -math.inf
        self._having_spare: set[str] = set()  # the shares that they are of
        self._hopeless_from = math.inf  # places; who holds so many gets none of a spare one of others
        self._hopeless: set[str] = set()  # shares for which no room could be made since the last tick
        self._losers: Counter[str] = Counter()  # whose connections were closed since the last line about it

    @property
    def waiting(self) -> int:
        """How many clients wait for a place."""
        return len(self._waiting)

    @property
    def is_attentive(self) -> bool:
        """Whether it has something to do at the next tick."""
        return self.is_crowded or bool(self._losers)

    @property
    def is_crowded(self) -> bool:
        """Whether someone waits for a place, or to be accepted."""
        return bool(self._waiting) or self._is_exhausted

    def is_awaited(self, share: str) -> bool:
        """Tell whether someone waits who would get a place that this share gives back."""
        return bool(self._waiting) and (self.places.free <= 0 or self._waiting.count(share) > 0)

    def share(self, host: str) -> str:
        """Return whose share a peer counts for."""
        if self._trusted_proxies and _is_among(host, self._trusted_proxies):
            return PROXIES
        return share_of(host)

    def begin(self) -> None:
        """Let other processes know that this one accepts from now on."""
        self._note_count()

    def listen(self, sockets: Sequence[socket.socket]) -> None:
        """Accept what connects to these listening sockets from now on."""
        self._sockets.extend(sockets)
        for sock in sockets:
            # While descriptors are lacking, those who come to new addresses wait as well.
            events = 0 if self._is_exhausted else select.EPOLLIN
            self._loop.watch(sock.fileno(), events, functools.partial(self._accept, sock))

    def leave(self, sockets: Collection[socket.socket]) -> None:
        """Accept nothing more from some of these sockets; before they are closed or become another's.

        Who is connected already is accepted: closing the socket would reset its connection.
        """
        for sock in sockets:
            if sock in self._sockets:
                for _ in range(_MOST_BATCHES):
                    if self._is_exhausted or not _is_awaited(sock):
                        break
                    self._take(sock)
                self._sockets.remove(sock)
                self._loop.unwatch(sock.fileno())

    def stop(self) -> None:
        """Accept nothing more; before the sockets are closed. Who waits is still served."""
        self.leave(tuple(self._sockets))
        self._is_exhausted = False
        if self._balance is not None:
            self._balance.note(None)
            self._balance = None

    def close(self) -> None:
        """Send away who waits."""
        for share in self._waiting.shares(len(self._waiting)):
            while self._waiting.count(share):
                self._waiting.take_of(share).sock.close()

    def note_free_place(self) -> None:
        """Let someone who waits have the place of a connection that has closed."""
        self._note_count()
        if self._waiting:
            self._resume_soon()

    def adapt(self, limits: ListenerLimits, trusted_proxies: Sequence[IPNetwork]) -> None:
        """Go by other limits from now on; whose share open connections count for does not change."""
        self._limits = limits
        self._trusted_proxies = tuple(trusted_proxies)
        self.places.adapt(limits.connections)
        self._hopeless.clear()
        if self._waiting:
            self._resume_soon()

    def look(self, now: float) -> None:
        """Go on accepting, and making room, if that is possible.

        Args:
            now: the time on the monotonic clock.
        """
        if self.is_crowded:
            self._crowded_until = now
        if self._is_exhausted and any(map(_is_awaited, self._sockets)):
            self._end_spare()
        if self._is_exhausted:
            self._is_exhausted = False
            for sock in self._sockets:
                self._loop.change(sock.fileno(), select.EPOLLIN)
        self._hopeless.clear()
        if self._waiting:
            self._resume_soon()
        self._tell(now)

    def _crowd(self, now: float) -> float:
        """Return since when there is a crowd: now, if there was none for some time.

        A crowd whose members come and go one by one for a while is one crowd.
        """
        if now - self._crowded_until > self._limits.crowd_grace_seconds:
            return now
        return self._crowded_since

    def _accept(self, sock: socket.socket) -> None:
        """Accept some of those who come, as far as they are not rather another process's."""
        for _ in range(_BATCH):
            if self._is_ahead():
                self._give_way()
                break
            if not self._take_one(sock):
                break
            self._note_count()

    def _is_ahead(self) -> bool:
        """Tell whether another process is to accept."""
        count = self.places.taken + len(self._waiting)
        return self._balance is not None and self._balance.is_ahead(count)

    def _give_way(self) -> None:
        """Leave newcomers to other processes; if all of these are busy, they are this one's after all."""
        for each in self._sockets:
            self._loop.change(each.fileno(), 0)
        self._loop.later(_WAY_SECONDS, self._come_back)

    def _come_back(self) -> None:
        """Accept who was left to other processes and still waits."""
        for sock in self._sockets:
            if not self._is_exhausted:
                self._loop.change(sock.fileno(), select.EPOLLIN)
                self._take(sock)

    def _note_count(self) -> None:
        """Let other processes know how many clients this one has."""
        if self._balance is not None:
            self._balance.note(self.places.taken + len(self._waiting))

    def _take(self, sock: socket.socket) -> None:
        """Accept some of those who wait at a socket."""
        for _ in range(_BATCH):
            if not self._take_one(sock):
                break
        self._note_count()

    def _take_one(self, sock: socket.socket) -> bool:
        """Accept whoever has waited longest at a socket; tell whether somebody was there and could be."""
        try:
            connected, peer = sock.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False
        except OSError as error:  # but for these, it is the next client's own
            if error.errno in _EXHAUSTED:
                self._exhaust(error)
            return False
        self._arrive(_Client(connected, (_unmapped(peer[0]), peer[1])))
        return True

    def _arrive(self, client: _Client) -> None:
        """Give a newcomer a place, or let it wait for one, even if only until those before it have theirs."""
        share = self.share(client.peer[0])
        if not self._waiting and self.places.may_enter(share):
            self._admit(client.sock, client.peer, share)
            return
        self._wait(share, client)
        self._resume_soon()

    def _wait(self, share: str, client: _Client) -> None:
        now = self._clock.monotonic()
        self._crowded_since, self._crowded_until = self._crowd(now), now
        self._waiting.add(share, client)
        if len(self._waiting) > self._limits.waiting:
            self._fill()
        while len(self._waiting) > self._limits.waiting and (largest := self._waiting.largest) is not None:
            self._waiting.drop(largest).sock.close()
            self._note_loss(largest)
        self._loop.arm()

    def _fill(self) -> bool:
        """Give those who wait the places that are free; tell whether there were any for them."""
        is_done = False
        while self.places.free > 0 and (client := self._waiting.take(self.places.may_enter)) is not None:
            self._admit(client.sock, client.peer, self.share(client.peer[0]))
            is_done = True
        return is_done

    def _resume_soon(self) -> None:
        if not self._is_resuming:
            self._is_resuming = True
            self._loop.soon(self._resume)

    def _resume(self) -> None:
        """Give those who wait the places that are free, or else make room for one of them.

        One at a time: most are done at once, and leave their place to the next one.
        """
        self._is_resuming = False
        if self._fill() or any(map(self._make_room, self._waiting.shares(_TRIES))):
            self._resume_soon()

    def _make_room(self, share: str) -> bool:
        """Give someone who waits the place of a connection that can be spared; tell whether there was one."""
        if share in self._hopeless or not self._waiting.count(share):
            return False
        if not self._end_spare(share):
            self._hopeless.add(share)
            return False
        if self.places.free > 0 and self._waiting.count(share):
            client = self._waiting.take_of(share)
            self._admit(client.sock, client.peer, share)
        return True

    def _end_spare(self, share: str | None = None) -> bool:
        """End the connection that can best be spared; tell whether there was one.

        Args:
            share: of whoever waits for its place; None: of anyone.
        """
        now = self._clock.monotonic()
        crowded_since = self._crowd(now)
        if now >= self._looked + self._limits.tick_seconds:
            self._looked = now
            found = spare(self._connections.values(), self._limits, now, crowded_since)
            self._spare = [(connection.since, connection) for connection in found]
            self._having_spare = {connection.share for connection in found}
            self._hopeless_from = math.inf
        if share is not None and share not in self._having_spare:
            if self.places.held(share) >= self._hopeless_from:
                return self._end_largest(share)
            self._hopeless_from = self.places.held(share)  # unless one is found
        for position, (since, connection) in enumerate(self._spare):
            if share is not None and not self._may_end(connection.share, share):
                continue
            is_same = not connection.is_closed and connection.since == since
            if is_same and is_spare(connection, self._limits, now, crowded_since):
                self._close(connection)
                if connection.is_closed:
                    del self._spare[position]
                    self._hopeless_from = math.inf
                    return True
        if share is None:
            self._spare.clear()
            return False
        return self._end_largest(share)

    def _may_end(self, theirs: str, ours: str) -> bool:
        """Tell whether a connection of one share may be ended for one of another, that may enter then."""
        if theirs == ours:
            return True
        is_more = theirs == PROXIES or self.places.held(theirs) > self.places.held(ours)
        return is_more and self.places.may_enter(ours, theirs)

    def _end_largest(self, share: str) -> bool:
        """Take a place from the share that holds most, whatever its grace; tell whether that was possible."""
        largest = self.places.largest
        if largest is None or largest == share:
            return False
        if not self.places.is_larger(largest, share):
            return False
        found = [
            one
            for one in self._connections.values()
            if one.share == largest and one.occupancy is not Occupancy.BUSY and not one.is_queued
        ]
        for connection in sorted(found, key=rank)[:_TRIES]:
            if connection.occupancy is not Occupancy.NEW or connection.channel.has_begun:
                self._close(connection)
            elif not connection.is_overlooked():  # it loses only time
                self._wait(largest, _Client(self._park(connection), connection.peer))
            if connection.is_closed:
                return True
        return False

    def _close(self, connection: Connection) -> None:
        """End a connection for others, unless it is this server that is late."""
        if connection.is_overlooked():
            return
        if connection.occupancy not in _DONE:
            self._note_loss(connection.share)
        self._end(connection)

    def _exhaust(self, error: OSError) -> None:
        """Let clients wait in the kernel until there is something to accept them with."""
        now = self._clock.monotonic()
        if now >= self._complained + _COMPLAIN_SECONDS:
            self._complained = now
            logger.warning("%s: no further connection can be accepted: %s", self._name, error.strerror)
        self._crowded_since, self._crowded_until = self._crowd(now), now
        largest = self._waiting.largest
        if largest is not None:
            self._waiting.drop(largest).sock.close()
            self._note_loss(largest)
        self._is_exhausted = True
        for sock in self._sockets:
            self._loop.change(sock.fileno(), 0)
        self._loop.arm()

    def _note_loss(self, share: str) -> None:
        self.shed += 1
        if share in self._losers or len(self._losers) < _TRIES:
            self._losers[share] += 1

    def _tell(self, now: float) -> None:
        """Say from time to time, in one line, whose connections were closed for others."""
        if self._losers and now >= self._summed + _SUM_SECONDS:
            self._summed = now
            ((share, most),) = self._losers.most_common(1)
            logger.warning(
                "%s: %d connections were closed because others waited for their places, %d of them of %s",
                *(self._name, self._losers.total(), most, share or "trusted proxies"),
            )
            self._losers.clear()


def _is_awaited(sock: socket.socket) -> bool:
    """Tell whether someone waits to be accepted."""
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(0))


@functools.lru_cache(maxsize=4096)
def _is_among(host: str, networks: tuple[IPNetwork, ...]) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return any(address in network for network in networks)


def _unmapped(host: str) -> str:
    if not host.startswith("::ffff:"):
        return host
    mapped = ipaddress.IPv6Address(host).ipv4_mapped
    return host if mapped is None else str(mapped)
