"""Waiting until DNS shows records to the world: asked again and again, never slept for."""

from __future__ import annotations

import functools
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from acmems.dns.client.cnames import LONGEST, plain
from acmems.dns.client.delegations import Delegations
from acmems.dns.client.question import UNREADABLE, ask
from acmems.dns.client.resolver import Resolver
from acmems.exceptions import ValidatorUnavailable
from acmems.net.address import Address
from acmems.system.clock import SYSTEM, Clock, Deadline
from acmems.text import one_line

T = TypeVar("T")

MODES = ("none", "authoritative", "recursive")
_PORT = 53
_PAUSES = (0.02, 2.0, 1.5)  # seconds: the first, the longest; and how fast they grow
_SHORTEST = 0.05
_PATIENCE = 2.0  # seconds for one answer; the next round asks again
_SIDE_BY_SIDE = 16  # servers are asked at the same time, for one order

Check = Callable[[float], str]
"""Asks one server once, so many seconds for each answer; returns what is missing, nothing if nothing is."""


class Propagation:
    """Waits until records are seen.

    Args:
        mode: who must see them: `authoritative`: all name servers of their zones; `recursive`: all resolvers,
            which are asked when all name servers that answer see them; `none`: nobody is asked.
        resolvers: the resolvers that are asked; empty: the system's.
        nameservers: asked instead of the name servers of the zones, also for CNAMEs.
        timeout: how long to wait at most, in seconds.
        clock: where time comes from.
        port: of the name servers of the zones.
    """

    def __init__(
        self,
        mode: str = "none",
        resolvers: Sequence[Address] = (),
        nameservers: Sequence[Address] = (),
        timeout: float = 60.0,
        *,
        clock: Clock = SYSTEM,
        port: int = _PORT,
    ) -> None:
        self.mode = mode
        self.resolvers = tuple(resolvers)
        self.nameservers = tuple(nameservers)
        self.timeout = timeout
        self.clock = clock
        self.delegations = Delegations(
            Resolver(self.resolvers), nameservers=self.nameservers, clock=clock, port=port
        )

    def wait(
        self,
        records: Sequence[tuple[dns.name.Name, str]],
        deadline: Deadline,
        stopping: threading.Event,
        places: Mapping[dns.name.Name, dns.name.Name] | None = None,
    ) -> None:
        """Return as soon as every server that counts shows every record.

        Args:
            records: names and values of TXT records, as the CA asks for them.
            deadline: when to give up, if not earlier.
            stopping: ends the waiting.
            places: where records were put, as far as that is known: name servers are asked for these names,
                and no CNAME is followed.

        Raises:
            ValidatorUnavailable: not in time, or the server stops.
        """
        if self.mode == "none" or not records:
            return
        deadline = deadline.within(self.timeout)
        wanted: dict[dns.name.Name, set[str]] = {}
        for name, value in records:
            wanted.setdefault(name, set()).add(value)
        with ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="acmems-propagation") as pool:
            silent: set[Address] = set()
            watch = _Watch(wanted, functools.partial(self._checks, places or {}, silent), silent, pool)
            self._watch(watch, deadline, stopping)

    def _watch(self, watch: _Watch, deadline: Deadline, stopping: threading.Event) -> None:
        began = self.clock.monotonic()
        pause, longest, growth = _PAUSES
        while watch.look(deadline, stopping):
            if deadline.passed:
                waited = self.clock.monotonic() - began
                raise ValidatorUnavailable(
                    f"{watch.missing or 'the TXT records were not seen'}, waited {round(waited, 1):g} s; "
                    f"the record is removed, ask again to have it added anew",
                    advice="see that the name servers follow the primary (NOTIFY, AXFR); else raise "
                    "`propagation-timeout`, or name the servers to ask as `nameserver`",
                )
            if self.clock.wait(stopping, min(pause, deadline.remaining)):
                raise ValidatorUnavailable("acmems stops before the TXT records were seen", retry_after=1)
            pause = min(longest, pause * growth)

    def _checks(
        self,
        places: Mapping[dns.name.Name, dns.name.Name],
        silent: set[Address],
        name: dns.name.Name,
        values: frozenset[str],
    ) -> list[Check]:
        if self.mode == "recursive":
            resolved: list[Check] = [
                functools.partial(
                    _resolved, Resolver([server], _PATIENCE), f"resolver {server}", name, values
                )
                for server in self.resolvers
            ] or [
                functools.partial(_resolved, self.delegations.resolver, "the system's resolver", name, values)
            ]
            try:
                served = self._served(places, silent, name, values, forgiving=True)
            except ValidatorUnavailable:
                served = []  # behind a firewall, the resolvers are all that there is
            return [_InTurn([*served, *resolved])]
        return self._served(places, silent, name, values)

    def _served(
        self,
        places: Mapping[dns.name.Name, dns.name.Name],
        silent: set[Address],
        name: dns.name.Name,
        values: frozenset[str],
        *,
        forgiving: bool = False,
    ) -> list[Check]:
        if self.nameservers:
            return [
                functools.partial(
                    _served,
                    str(each),
                    _numeric(each),
                    places.get(name, name),
                    values,
                    silent=silent,
                    forgiving=forgiving,
                )
                for each in self.nameservers
            ]
        end, zone = self.delegations.end(places.get(name, name), follow=name not in places)
        servers = self.delegations.servers(zone)
        if not servers:
            raise ValidatorUnavailable(f"the zone {plain(zone)} has no name servers")
        checks: list[Check] = []
        for server in servers:
            if not server.addresses:
                raise ValidatorUnavailable(f"name server {plain(server.host)} has no address")
            checks.append(
                functools.partial(
                    _served,
                    plain(server.host),
                    server.addresses,
                    end,
                    values,
                    silent=silent,
                    forgiving=forgiving,
                )
            )
        return checks


class _InTurn:
    """Several checks as one, each of which is made when those before it miss nothing.

    A resolver keeps "no such name" for minutes: it must not be asked before the name servers have it.
    """

    def __init__(self, checks: Sequence[Check]) -> None:
        self._left = list(checks)

    def __call__(self, patience: float) -> str:
        while self._left:
            if reason := self._left[0](patience):
                return reason
            del self._left[0]
        return ""


class _Watch:
    """What is not seen yet.

    Args:
        wanted: the values of each name.
        checks: returns the checks for one name; ValidatorUnavailable: not known yet.
        silent: addresses that did not answer, which are asked for no other name before the next look.
        pool: what asks many at the same time.
    """

    def __init__(
        self,
        wanted: Mapping[dns.name.Name, set[str]],
        checks: Callable[[dns.name.Name, frozenset[str]], list[Check]],
        silent: set[Address],
        pool: Executor,
    ) -> None:
        self.missing = ""
        self._unlocated = {name: frozenset(values) for name, values in wanted.items()}
        self._checks = checks
        self._silent = silent
        self._pool = pool
        self._pending: list[Check] = []

    def look(self, deadline: Deadline, stopping: threading.Event) -> bool:
        """Ask all that have not shown everything yet; tell whether some are left."""
        self._silent.clear()
        names = list(self._unlocated)

        def locate(number: int) -> list[Check] | str:
            if self._is_over(number, deadline, stopping):
                return ""
            try:
                return self._checks(names[number], self._unlocated[names[number]])
            except ValidatorUnavailable as error:
                return f"TXT record {plain(names[number])}: {one_line(error)}"

        located = self._each(locate, len(names))
        reasons = [found for found in located if isinstance(found, str)]
        for name, found in zip(names, located, strict=True):
            if not isinstance(found, str):
                self._pending += found
                del self._unlocated[name]
        pending = self._pending

        def ask(number: int) -> str | None:
            if self._is_over(number, deadline, stopping):
                return ""
            # The time for an answer is its own, however many wait for one beside it.
            return pending[number](max(_SHORTEST, min(_PATIENCE, deadline.remaining))) or None

        asked = self._each(ask, len(pending))
        self._pending = [check for check, reason in zip(pending, asked, strict=True) if reason is not None]
        reasons += [reason for reason in asked if reason is not None]
        self.missing = next(filter(None, reasons), "")
        return bool(self._pending or self._unlocated)

    def _each(self, do: Callable[[int], T], count: int) -> list[T]:
        return list(self._pool.map(do, range(count))) if count > 1 else [do(each) for each in range(count)]

    @staticmethod
    def _is_over(number: int, deadline: Deadline, stopping: threading.Event) -> bool:
        # At the deadline one is asked nevertheless, so that there is something to tell.
        return stopping.is_set() or (number > 0 and deadline.passed)


def _numeric(server: Address) -> list[Address]:
    """Return all addresses of a name server that the configuration may name by its host."""
    try:
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise ValidatorUnavailable(
            f"name server {server} is not found: {one_line(error.strerror or error)}"
        ) from None
    return [Address(str(each[4][0]), server.port) for each in found]


def _resolved(
    resolver: Resolver, title: str, name: dns.name.Name, values: frozenset[str], patience: float
) -> str:
    del patience  # it has its own
    try:
        shown = resolver.texts(name)
    except ValidatorUnavailable as error:
        return f"TXT record {plain(name)}: {one_line(error)}"
    return "" if values <= shown else f"TXT record {plain(name)}: {title} does not show it yet"


def _served(
    title: str,
    addresses: Sequence[Address],
    name: dns.name.Name,
    values: frozenset[str],
    patience: float,
    *,
    silent: set[Address],
    forgiving: bool,
) -> str:
    """Ask one name server at all its addresses; one that is dead is forgiven where another answers.

    If it is `forgiving`, so is a name server of which no address answers. What is `silent` counts as dead.
    """
    dead = ""
    answered = False
    for server in addresses:
        reason = "does not answer"
        problem: str | None = None
        if server not in silent:
            try:
                problem = _ask(server, name, values, patience)
            except dns.exception.Timeout:
                silent.add(server)
            except OSError:
                reason = "cannot be reached"
        if problem is None:
            dead = f"TXT record {plain(name)}: name server {title} ({server}) {reason}"
            continue
        if problem:
            return f"TXT record {plain(name)}: name server {title} ({server}) {problem}"
        answered = True
    return "" if answered or forgiving else dead


def _ask(server: Address, name: dns.name.Name, values: frozenset[str], patience: float) -> str:
    shown: set[str] = set()
    for _ in range(LONGEST + 1):
        try:
            answer = ask(server, name, dns.rdatatype.TXT, patience)
        except (dns.exception.Timeout, OSError):
            raise
        except UNREADABLE as error:
            return f"gave an answer that cannot be read: {type(error).__name__}"
        if reason := _useless(answer):
            return reason
        texts, target = _read(answer)
        shown |= texts
        if values <= shown:
            return ""
        if target is None:
            break
        name = target
    return "does not show it yet"


def _useless(answer: dns.message.Message) -> str:
    if answer.rcode() not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
        return f"answers {dns.rcode.to_text(answer.rcode())}"
    return "" if answer.flags & dns.flags.AA else "is not authoritative for it"


def _read(answer: dns.message.Message) -> tuple[set[str], dns.name.Name | None]:
    """Return the texts of an answer, and where it leads."""
    texts: set[str] = set()
    target = None
    for rrset in answer.answer:
        if rrset.rdtype == dns.rdatatype.TXT:
            texts |= {b"".join(record.strings).decode("utf-8", "replace") for record in rrset}
        elif rrset.rdtype == dns.rdatatype.CNAME:
            target = rrset[0].target
    return texts, target
