"""What is said of names, kept for as long as that may be."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

import dns.name
from dns.rdatatype import RdataType

from acmems.dns.authority.statement import Authorities, Statement, cname_in, statement
from acmems.dns.client.cnames import LONGEST, plain
from acmems.exceptions import ValidatorUnavailable
from acmems.system.clock import NEVER, SYSTEM, Clock, Deadline
from acmems.system.locks import KeyedLocks

_KEPT = (60.0, 3600.0)  # seconds for which a statement is kept, at least and at most
_FAILURE_KEPT = 30.0  # and that there is none
_MOST = 20_000

_Key = tuple[dns.name.Name, RdataType]


@dataclass(frozen=True, slots=True)
class _Kept:
    until: float
    outcome: Statement | ValidatorUnavailable


class Statements:
    """Looks up what those who have authority for names say of them; each thing once while it is valid.

    Args:
        authorities: whom to ask.
        clock: for how long answers are valid.
    """

    def __init__(self, authorities: Authorities, clock: Clock = SYSTEM) -> None:
        self._authorities = authorities
        self._clock = clock
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._lock = threading.Lock()  # guards what is kept
        self._asking = KeyedLocks()  # of many threads that want to know the same, one asks

    @property
    def is_suspended(self) -> bool:
        """Whether nobody is asked at the moment, because nobody answers."""
        return self._authorities.is_suspended

    def known(self, name: dns.name.Name, kind: RdataType) -> Statement | None:
        """Return what is kept; None where somebody has to be asked.

        Raises:
            ValidatorUnavailable: nobody said anything definite a moment ago.
        """
        found = self._kept.get((name, kind))
        if found is None or self._clock.monotonic() >= found.until:
            return None
        if isinstance(found.outcome, ValidatorUnavailable):
            raise copy.copy(found.outcome)
        return found.outcome

    def look_up(self, name: dns.name.Name, kind: RdataType, deadline: Deadline) -> Statement:
        """Return what is said of the records of a name, at the end of its CNAMEs.

        Args:
            name: the name.
            kind: the type of records.
            deadline: when to give up.

        Raises:
            ValidatorUnavailable: nobody says anything definite, or not in time.
        """
        if (known := self.known(name, kind)) is not None:
            return known
        with self._asking.hold((name, kind), NEVER):
            if (known := self.known(name, kind)) is not None:
                return known
            try:
                found = self._ask(name, kind, deadline)
            except ValidatorUnavailable as error:
                self._keep((name, kind), error, _FAILURE_KEPT)
                raise
            self._keep((name, kind), found, min(max(found.seconds, _KEPT[0]), _KEPT[1]))
            return found

    def forget(self, name: dns.name.Name, kind: RdataType) -> None:
        """Ask anew next time."""
        with self._lock:
            self._kept.pop((name, kind), None)

    def _ask(self, name: dns.name.Name, kind: RdataType, deadline: Deadline) -> Statement:
        seconds = _KEPT[1]
        for _ in range(LONGEST + 1):
            answer = self._authorities.ask(name, kind, deadline)
            target = cname_in(name, kind, answer)
            if target is None:
                found = statement(name, kind, answer)
                return replace(found, seconds=min(seconds, found.seconds))
            seconds = min([seconds, *(float(rrset.ttl) for rrset in answer.message.answer)])
            name = target
        raise ValidatorUnavailable(f"its CNAMEs lead on and on, beyond {plain(name)}; {LONGEST} are followed")

    def _keep(self, key: _Key, outcome: Statement | ValidatorUnavailable, seconds: float) -> None:
        kept = copy.copy(outcome) if isinstance(outcome, ValidatorUnavailable) else outcome
        with self._lock:
            self._kept[key] = _Kept(self._clock.monotonic() + seconds, kept)
            self._kept.move_to_end(key)
            while len(self._kept) > _MOST:
                self._kept.popitem(last=False)
