"""Opening the account once, however many orders wait for it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

from acmems.exceptions import DeadlinePassed
from acmems.system.clock import Deadline
from acmems.system.steps import Signal, Steps


@dataclass(slots=True)
class _Opening:
    """An opening of the account that goes on, and how it ended."""

    ended: Signal = field(default_factory=Signal)
    error: BaseException | None = None


class SharedOpening:
    """Lets all who need the account wait for the one who opens it. For the loop's thread.

    Args:
        is_open: tells whether the account is open.
        open_account: opens it.
    """

    def __init__(self, is_open: Callable[[], bool], open_account: Callable[[Deadline], Steps[None]]) -> None:
        self._is_open = is_open
        self._open_account = open_account
        self._running: _Opening | None = None

    def wait(self, deadline: Deadline) -> Steps[None]:
        """Return once the account is open; open it if nobody does.

        Raises:
            DeadlinePassed: it was not open in time.
            AcmeException: what the one who opens it got.
        """
        while not self._is_open():
            opening = self._running
            if opening is None:
                yield from self._open(deadline)
                continue
            if not (yield opening.ended.wait(deadline.remaining)):
                raise DeadlinePassed("the account could not be opened at the CA in time")
            if opening.error is not None and not isinstance(opening.error, DeadlinePassed):
                raise copy.copy(opening.error)  # each who waits gets one with a traceback of its own
            # Where only the time of somebody else was over, it is tried again.

    def _open(self, deadline: Deadline) -> Steps[None]:
        opening = self._running = _Opening()
        try:
            yield from self._open_account(deadline)
        except BaseException as error:
            opening.error = error
            raise
        finally:
            self._running = None
            opening.ended.set()
