"""The upkeep of notices: every process takes note of what fails, and one of them tells operators."""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping, Sequence
from typing import Protocol

from acmems.app.memory import StateMemory
from acmems.config import Configuration
from acmems.events import Bus
from acmems.exceptions import AcmeException, StateUnavailable
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.notices.contract import NoticeTarget
from acmems.notices.counts import NoticeCounts
from acmems.notices.direct import StateAlarm
from acmems.notices.outbox import Outbox
from acmems.notices.troubles.sightings import Sightings
from acmems.notices.watch import NoticeWatch
from acmems.state.notices.outbox import NoticeRecords
from acmems.state.notices.sightings import SightingRecords
from acmems.system.clock import Clock
from acmems.system.threads import PeriodicThread
from acmems.x509.chain import SKEW

logger = logging.getLogger(__name__)

TURN_SECONDS = 10.0
"""Between two looks for what is to be delivered."""
FIRST_SECONDS = 5.0
"""Until the first of them: a start has other things to do."""
LOOK_SECONDS = 60.0
"""Between two looks for what is wrong, if they take little time."""
ASK_SECONDS = 300.0
"""Between two questions to a CA that does not answer, or does not know the account."""

_SHARE = 100  # a look takes at most one part in so many of the time until the next
_STATE_SECONDS = 30.0  # in which the state has to answer
_ANSWER_SECONDS = 20.0  # in which a CA has to


class NotifyingServer(Protocol):
    """A running server, as far as operators are told of it."""

    @property
    def config(self) -> Configuration:
        """What it goes by."""

    @property
    def clock(self) -> Clock:
        """Time."""

    @property
    def bus(self) -> Bus:
        """Tells what happens."""

    @property
    def issuers(self) -> Sequence[AcmeIssuer]:
        """What speaks to CAs, one for each account."""


class NoticeUpkeep:
    """Looks from time to time for what operators are to be told, and delivers it.

    Nothing is done where no section says where to.

    Args:
        server: the server.
        memory: its state, None where another server uses it: then nothing is told.
        position: which of several processes of one server this is; the first one tells of the state.

    Attributes:
        counts: what monitoring systems see of it.
        threads: those that are to be started.
    """

    def __init__(self, server: NotifyingServer, memory: StateMemory | None, position: int = 0) -> None:
        self._server = server
        self._clock = server.clock
        self.counts = NoticeCounts()
        self.threads: tuple[PeriodicThread, ...] = ()
        if memory is None:
            if server.config.notices:
                logger.warning("no notices are sent, because this server has no state: give it a [state]")
            return
        self._memory = memory
        self._is_first = position == 0
        host = socket.gethostname()
        database = memory.database
        self._sighting_records = SightingRecords(database)
        self._sightings = Sightings(self._sighting_records, self._clock)
        self._alarm = StateAlarm(self._targets, self._clock, self.counts, server=host)
        self._watch = NoticeWatch(
            database, self._targets, lambda: server.config.limits, self._clock, server=host
        )
        self._known: Mapping[str, NoticeTarget] | None = None
        self._next_check = self._next_look = self._next_question = self._clock.monotonic()
        server.bus.subscribe(self._sightings)
        self._thread = PeriodicThread(
            "acmems-notices",
            self.run,
            TURN_SECONDS,
            longest_pause=TURN_SECONDS,
            delay=FIRST_SECONDS,
            clock=self._clock,
        )
        self.threads = (self._thread,)
        self._outbox = Outbox(NoticeRecords(database), self._targets, self._clock, self.counts)

    def stop(self) -> None:
        """Begin nothing more, and wait a moment for what is being delivered."""
        if self.threads:
            self._thread.close()
            self._outbox.stop()

    def run(self) -> None:
        """Take note of what fails, and tell it unless another process does.

        Raises:
            StateUnavailable: the state cannot be read or written.
        """
        if not self._targets():
            return
        failure = self._failure()
        if self._is_first:
            self._alarm.look(failure)
            self._alarm.deliver()
        if failure is not None:
            return
        for issuer in self._server.issuers:
            if issuer.is_account_known:
                self._sightings.note_account(issuer.options.directory_url, issuer.account_url)
        self._sightings.publish()
        if not self._memory.may_tell():
            self.counts.waiting = {}
            return
        self._hasten()
        self._ask_cas()
        self._look()
        self._outbox.turn()

    def _targets(self) -> Mapping[str, NoticeTarget]:
        return self._server.config.notices

    def _failure(self) -> StateUnavailable | None:
        """Return why the state cannot be written, None where it can."""
        database = self._memory.database
        now = self._clock.monotonic()
        if database.failure is None and now < self._next_check:
            return None
        self._next_check = now + LOOK_SECONDS
        try:
            database.check().result(_STATE_SECONDS)
        except StateUnavailable as error:
            return error
        except TimeoutError:
            return StateUnavailable(f"it has not answered for {_STATE_SECONDS:.0f} seconds")
        return None

    def _hasten(self) -> None:
        """Try at once what waits for a target whose section has changed."""
        before, now = self._known, self._targets()
        if before is now:
            return
        self._known = now
        if before is not None:
            self._sightings.begin_anew()
            self._outbox.hasten([name for name, each in now.items() if before.get(name) != each])

    def _ask_cas(self) -> None:
        """Ask CAs that have failed, so that the end of that is seen although nobody orders."""
        if self._clock.monotonic() < self._next_question:
            return
        sightings = self._sighting_records.all()
        asked: set[str] = set()
        for issuer in self._server.issuers:
            directory = issuer.options.directory_url
            known = [each for each in sightings if each.directory == directory]
            is_doubtful = directory not in asked and any(each.kind in {"ca", "clock"} for each in known)
            if issuer.is_account_known:
                self._sightings.forget_former(known, directory, issuer.account_url)
            if is_doubtful or not issuer.is_account_known:
                self._next_question = self._clock.monotonic() + ASK_SECONDS
                asked.add(directory)
                self._ask(issuer, is_doubtful=is_doubtful)

    def _ask(self, issuer: AcmeIssuer, *, is_doubtful: bool) -> None:
        directory = issuer.options.directory_url
        if not issuer.is_account_known:
            try:
                issuer.ensure_opened()
            except AcmeException as error:
                self._sightings.fails(directory, issuer.account_url, error)
                return
        if is_doubtful and issuer.probe(_ANSWER_SECONDS):
            self._sightings.works(directory, "ca")
            ahead = issuer.clock_ahead
            if ahead is not None and abs(ahead) <= SKEW:
                self._sightings.works(directory, "clock")

    def _look(self) -> None:
        began = self._clock.monotonic()
        if began < self._next_look:
            return
        self._watch.look()
        self._watch.summarize()
        now = self._clock.monotonic()
        self._next_look = now + max(LOOK_SECONDS, _SHARE * (now - began))
