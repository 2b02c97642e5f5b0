"""Machines that ask one server without a pause."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.peers import wait_until

RESTED = 0.5
"""Seconds without a request after which a server may have ended a connection that was kept, unheard."""


class Clients:
    """Machines that ask without a pause, half of them on connections that they keep.

    Attributes:
        statuses: what they were answered.
        errors: what went wrong with their connections.
    """

    def __init__(self, port: int, csr: Path) -> None:
        self.statuses: list[int] = []
        self.errors: list[Exception] = []
        self._port, self._csr = port, csr.read_bytes()
        self._stop = threading.Event()

    @contextmanager
    def asking(self, kept: int, new: int) -> Iterator[None]:
        """Have so many of them ask while the context lasts."""
        with ThreadPoolExecutor(kept + new) as pool:
            futures = [pool.submit(self._keep_asking) for _ in range(kept)]
            futures += [pool.submit(self._ask_anew) for _ in range(new)]
            try:
                yield
            finally:
                self._stop.set()
            for future in futures:
                future.result()

    def answered(self, more: int) -> None:
        """Wait until so many more have been answered, or failed."""
        goal = len(self.statuses) + more
        wait_until(lambda: len(self.statuses) >= goal or bool(self.errors), "they are answered")

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)

    def _ask(self, connection: http.client.HTTPConnection, rested: float = 0.0) -> None:
        try:
            connection.request("POST", "/sign", self._csr)
            answer = connection.getresponse()
            answer.read()
            self.statuses.append(answer.status)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            if rested < RESTED:
                self.errors.append(error)
            else:  # as every HTTP client does where a machine has held it up, and the server has not
                self._ask(connection)

    def _keep_asking(self) -> None:
        connection, last = self._connect(), time.monotonic()
        while not self._stop.is_set():
            self._ask(connection, time.monotonic() - last)
            last = time.monotonic()
        connection.close()

    def _ask_anew(self) -> None:
        while not self._stop.is_set():
            connection = self._connect()
            self._ask(connection)
            connection.close()
