"""Locks for what has no owner of its own, such as the zones at a DNS provider."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Hashable, Iterator

from acmems.system.clock import Deadline


class KeyedLocks:
    """Locks by key; each exists only while somebody holds it or waits for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards what follows
        self._locks: dict[Hashable, tuple[threading.Lock, int]] = {}  # with the number of its users

    @contextlib.contextmanager
    def hold(self, key: Hashable, deadline: Deadline) -> Iterator[None]:
        """Hold the lock of a key.

        Raises:
            TimeoutError: others held it until the deadline.
        """
        with self._lock:
            lock, users = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = lock, users + 1
        try:
            if not lock.acquire(timeout=min(deadline.remaining, threading.TIMEOUT_MAX)):
                raise TimeoutError
            try:
                yield
            finally:
                lock.release()
        finally:
            with self._lock:
                lock, users = self._locks.pop(key)
                if users > 1:
                    self._locks[key] = lock, users - 1
