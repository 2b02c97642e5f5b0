"""The table that http-01 listeners answer from."""

from __future__ import annotations

import threading
from collections.abc import Callable


class ChallengeResponses(dict[str, dict[str, str]]):
    """Answers by host and path: `responses[host][path] = answer`.

    Safe to use from several threads through `put`, `remove` and `fetch`. Two orders that prove a name
    by the same authorization may put the same answer: it stays until both have removed theirs.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._watchers: dict[tuple[str, str], list[Callable[[], None]]] = {}

    def put(self, host: str, path: str, value: str, on_request: Callable[[], None]) -> None:
        """Add an answer.

        Args:
            host: the host that will be asked, lower case and without port.
            path: the exact path.
            value: the answer.
            on_request: called, from any thread, each time the answer is fetched.
        """
        with self._lock:
            self.setdefault(host, {})[path] = value
            self._watchers.setdefault((host, path), []).append(on_request)

    def remove(self, host: str, path: str, on_request: Callable[[], None] | None = None) -> None:
        """Take an answer away; one that is not there is none to take away.

        Args:
            host: as it was put.
            path: as it was put.
            on_request: as it was put; None takes the answer away whoever has put it.
        """
        with self._lock:
            watchers = self._watchers.get((host, path), [])
            if on_request is None:
                watchers.clear()
            elif on_request in watchers:
                watchers.remove(on_request)
            if watchers:
                return
            self._watchers.pop((host, path), None)
            paths = self.get(host, {})
            paths.pop(path, None)
            if not paths:
                self.pop(host, None)

    def fetch(self, host: str, path: str) -> str | None:
        """Return the answer for exactly this host and path, and tell who put it; None if there is none."""
        with self._lock:
            value = self.get(host, {}).get(path)
            watchers = tuple(self._watchers.get((host, path), ()))
        for on_request in watchers:
            on_request()
        return value
