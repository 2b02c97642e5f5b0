"""Whether this server and the CA agree on the time: a wrong clock must not burn certificates.

What is ordered by a wrong clock is thrown away as soon as it has come, because it is not valid yet or due
for renewal already, and each further request orders anew.
"""

from __future__ import annotations

import datetime
import logging
from dataclasses import dataclass
from datetime import timedelta

from acmems.exceptions import AcmeException, CAUnavailable, ClocksDiffer, DeadlinePassed
from acmems.issuers.acme.session import Session
from acmems.system.clock import Clock, Deadline
from acmems.system.steps import Signal, Steps
from acmems.x509.chain import SKEW

COMPARED_SECONDS = 3600.0
"""For how long a comparison counts, unless this server's clock jumps."""
DOUBTED_SECONDS = 30.0
"""For how long one counts that found a difference, or could not be made."""

_LONGEST = 5.0  # seconds for the question; an order must not wait longer for it
_SHARE = 4  # and no longer than for this part of its time
_JUMP = timedelta(seconds=10)  # an hour of slewing by NTP moves a clock by two seconds at most

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """How far the CA's clock is ahead, None if it did not say, and until when that counts."""

    answered: bool
    ahead: timedelta | None
    until: float  # on the monotonic clock
    started: datetime.datetime  # when the monotonic clock was 0, by the wall clock: it moves where that jumps


class ClockComparison:
    """Compares the clock with that of the CA, by the `Date` of its answers (RFC 9110 section 6.6.1).

    Args:
        session: the way to the CA.
        clock: this server's clocks.
        limit: how far they may be apart.
    """

    def __init__(self, session: Session, clock: Clock, *, limit: timedelta = SKEW) -> None:
        self._session = session
        self._clock = clock
        self._limit = limit
        self._last: _Comparison | None = None
        self._asking: Signal | None = None  # set when the question that is being asked is answered

    @property
    def ahead(self) -> timedelta | None:
        """How far the CA's clock is ahead of this server's, None where that is not known. For any thread."""
        return None if self._last is None else self._last.ahead

    def compare(self, deadline: Deadline) -> Steps[bool]:
        """Ask the CA for the time, whatever is known already, and tell whether it answered anything.

        Args:
            deadline: when to give up asking.
        """
        if self._asking is None:
            yield from self._ask(deadline)
        elif not (yield self._asking.wait(deadline.remaining)):
            return False
        return self._last is not None and self._last.answered

    def check(self, deadline: Deadline) -> Steps[None]:
        """See that the clocks agree; ask the CA if that was not seen within the last hour.

        A CA that cannot be asked, or does not say, is no reason to refuse anything.

        Args:
            deadline: when to give up asking.

        Raises:
            ClocksDiffer: they do not.
        """
        while not self._is_known():
            if self._asking is None:
                yield from self._ask(deadline.within(min(_LONGEST, deadline.remaining / _SHARE)))
            elif not (yield self._asking.wait(deadline.remaining)):
                return
        ahead = self.ahead
        if ahead is not None and abs(ahead) > self._limit:
            now = self._clock.now()
            raise ClocksDiffer(now, now + ahead)

    def _is_known(self) -> bool:
        last = self._last
        if last is None or self._clock.monotonic() >= last.until:
            return False
        return abs(self._started() - last.started) < _JUMP

    def _started(self) -> datetime.datetime:
        return self._clock.now() - timedelta(seconds=self._clock.monotonic())

    def _ask(self, deadline: Deadline) -> Steps[None]:
        asking = self._asking = Signal()
        answered, ahead = False, None
        try:
            response = yield from self._session.get(self._session.directory_url, deadline=deadline)
            answered, date = True, response.date
            ahead = None if date is None else date - self._clock.now()
            agreed = ahead is None or abs(ahead) <= self._limit
        except AcmeException as error:
            logger.info("the CA could not be asked for the time: %s", error)
            answered = not isinstance(error, CAUnavailable | DeadlinePassed)
            agreed = False
        finally:
            self._asking = None
            asking.set()
        until = self._clock.monotonic() + (COMPARED_SECONDS if agreed else DOUBTED_SECONDS)
        self._last = _Comparison(answered, ahead, until, self._started())
