"""The connections to PostgreSQL that wait for their next transaction."""

from __future__ import annotations

import threading

import psycopg

from acmems.exceptions import StateUnavailable
from acmems.state.engines.connection import BoundedConnection, Target
from acmems.system.clock import Clock

_IDLE = 4  # connections that are kept
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 15.0  # between attempts to reach it


class ConnectionPool:
    """Connections that are kept for the next transaction; none is made for a while after one could not be.

    Args:
        target: what to connect to.
        clock: for the pause between attempts.
    """

    def __init__(self, target: Target, clock: Clock) -> None:
        self.target = target
        self.clock = clock
        self._lock = threading.Lock()  # guards what follows
        self._idle: list[BoundedConnection] = []
        self._failure: StateUnavailable | None = None
        self._pause = 0.0
        self._next = 0.0  # on the monotonic clock

    def take(self) -> BoundedConnection:
        """Return a connection that nobody else uses.

        Raises:
            StateUnavailable: there is none, or there was none a moment ago.
        """
        with self._lock:
            if self._failure is not None and self.clock.monotonic() < self._next:
                raise self._unreachable(self._failure)
            if self._idle:
                return self._idle.pop()
        try:
            return self.target.connect()
        except StateUnavailable as error:
            raise self._failed(error) from None

    def give_back(self, connection: BoundedConnection) -> None:
        """Take back a connection; one that is in the middle of something is ended."""
        with self._lock:
            if connection.is_usable and len(self._idle) < _IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def failed(self, error: psycopg.Error) -> StateUnavailable:
        """Take note that the database is not usable; return the error to raise."""
        return self._failed(self.target.unavailable("be used", error))

    def reached(self) -> None:
        """Take note that it is usable."""
        with self._lock:
            self._failure, self._pause = None, 0.0

    def close(self) -> None:
        """End those that are idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for each in idle:
            each.close()

    def _failed(self, error: StateUnavailable) -> StateUnavailable:
        with self._lock:
            self._pause = min(max(_FIRST_PAUSE_SECONDS, 2 * self._pause), _LONGEST_PAUSE_SECONDS)
            self._next = self.clock.monotonic() + self._pause
            self._failure = error
            return self._unreachable(error)

    def _unreachable(self, error: StateUnavailable) -> StateUnavailable:
        return StateUnavailable(str(error), retry_after=_LONGEST_PAUSE_SECONDS)
