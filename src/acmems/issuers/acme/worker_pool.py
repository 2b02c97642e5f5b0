"""A workers of threads that makes several requests to a CA at once on behalf of one order."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import TypeVar

from acmems.exceptions import CAUnavailable

Item = TypeVar("Item")
Result = TypeVar("Result")


class WorkerPool:
    """Runs one function on many items, in parallel.

    Its jobs must not use the workers themselves: they would wait for threads that they occupy.

    Args:
        size: most threads; idle ones are not started.
    """

    def __init__(self, size: int = 16) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="acmems-workers")
        self._lock = threading.Lock()
        self._closed = False

    def each(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Return the function's results, in order, when all of them are there.

        Args:
            function: what to do; must be safe to call from several threads.
            items: what to do it with. A single one is done in the calling thread.

        Raises:
            Exception: what the function raised for the first item that failed; only after every
                other call has ended, so that nothing goes on behind the caller's back.
            CAUnavailable: the workers was let go before all was done.
        """
        if len(items) == 1:
            return [function(items[0])]
        with self._lock:
            if self._closed:
                raise _closed()
            futures = [self._pool.submit(function, item) for item in items]
        for future in futures:  # not `concurrent.futures.wait`: cancelled ones it would wait for for ever
            with contextlib.suppress(CancelledError):
                future.exception()
        try:
            return [future.result() for future in futures]
        except CancelledError:
            raise _closed() from None

    def close(self) -> None:
        """Let the threads go; running jobs end by themselves."""
        with self._lock:
            self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)


def _closed() -> CAUnavailable:
    return CAUnavailable("this server is stopping; ask again")
