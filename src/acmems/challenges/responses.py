"""The table that http-01 listeners answer from."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Response:
    """One answer, by whoever is told when it is fetched."""

    value: str
    on_request: Callable[[], None]


class ChallengeResponses(dict[str, dict[str, str]]):
    """Answers by host and path: `responses[host][path] = answer`.

    Safe to use from several threads through `put`, `remove` and `fetch`. Orders that prove a name by the
    same authorization put the same answer, which stays until all of them have removed theirs. Of different
    answers for one path the newest is given, and once it is removed the one before it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._put: dict[tuple[str, str], list[_Response]] = {}  # the newest last

    def put(self, host: str, path: str, value: str, on_request: Callable[[], None]) -> None:
        """Add an answer; one that is there already becomes the newest.

        Args:
            host: the host that will be asked, lower case and without port.
            path: the exact path.
            value: the answer.
            on_request: called, from any thread, each time the answer is fetched.
        """
        with self._lock:
            others = self._without(host, path, on_request)
            self._put[host, path] = [*others, _Response(value, on_request)]
            self.setdefault(host, {})[path] = value

    def remove(self, host: str, path: str, on_request: Callable[[], None] | None = None) -> None:
        """Take an answer away; one that is not there is none to take away.

        Args:
            host: as it was put.
            path: as it was put.
            on_request: as it was put; None takes the answer away whoever has put it.
        """
        with self._lock:
            others = [] if on_request is None else self._without(host, path, on_request)
            if on_request is not None and len(others) == len(self._put.get((host, path), ())):
                return  # it was not put; what is there may be written by a script
            if others:
                self._put[host, path] = others
                self.setdefault(host, {})[path] = others[-1].value
                return
            self._put.pop((host, path), None)
            paths = self.get(host, {})
            paths.pop(path, None)
            if not paths:
                self.pop(host, None)

    def fetch(self, host: str, path: str) -> str | None:
        """Return the answer for exactly this host and path, and tell who put it; None if there is none."""
        with self._lock:
            value = self.get(host, {}).get(path)
            watchers = [each.on_request for each in self._put.get((host, path), ()) if each.value == value]
        for on_request in watchers:
            on_request()
        return value

    def _without(self, host: str, path: str, on_request: Callable[[], None]) -> list[_Response]:
        return [each for each in self._put.get((host, path), ()) if each.on_request != on_request]
