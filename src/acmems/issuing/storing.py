"""What issuances do with storages: one check for all who ask at once, and chains stored in batches."""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from acmems.exceptions import StorageUnavailable
from acmems.storages import IssuerIdentity, Storage
from acmems.system.steps import Signal, StepLoop, Steps, in_thread
from acmems.x509.chain import Chain
from acmems.x509.csr import CertificateRequest

logger = logging.getLogger(__name__)

T = TypeVar("T")

_THREADS = 4  # they wait for the disk most of the time; more would wait for each other
_LOOKING_THREADS = 8  # they wait for a database
_CHECKED_SECONDS = 1.0  # for which a storage that could be written to is not tried again


@dataclass(slots=True)
class _StorageCheck:
    """A trial of a storage, which all who want to know at the same time share."""

    ended: Signal = field(default_factory=Signal)
    error: BaseException | None = None


@dataclass(slots=True)
class _QueuedChain:
    """A chain on its way to a storage, and why it did not get there."""

    request: CertificateRequest
    chain: Chain
    ended: Signal = field(default_factory=Signal)
    error: Exception | None = None


class StorageAccess:
    """How steps use storages: what blocks is done in threads, and as seldom as possible.

    Args:
        loop: runs the steps.
        identity: whose chains these are.
    """

    def __init__(self, loop: StepLoop, identity: IssuerIdentity) -> None:
        self._loop = loop
        self._identity = identity
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="acmems-storing")
        self._looking = ThreadPoolExecutor(_LOOKING_THREADS, thread_name_prefix="acmems-looking")
        # By the storage as an object: after a reload, another one may have its name.
        self._checks: dict[Storage, _StorageCheck] = {}  # those that go on
        self._checked: dict[Storage, float] = {}  # when a storage could last be written to
        self._queues: dict[Storage, list[_QueuedChain]] = {}  # of the storages that are being written to

    def call(self, storage: Storage, function: Callable[[], T]) -> Steps[T]:
        """Call a function that uses a storage, in a thread unless that returns at once."""
        if storage.is_immediate:
            return function()
        return (yield from in_thread(function, self._pool))

    def look_up(self, function: Callable[[], T]) -> Steps[T]:
        """Call a function that looks a chain up, in a thread that waits for nothing else.

        A database that hangs keeps no chain from a storage on this machine, and a disk that hangs none from a
        database.
        """
        return (yield from in_thread(function, self._looking))

    def check(self, storage: Storage) -> Steps[None]:
        """See that a storage can be written to, or could be less than a second ago.

        Raises:
            StorageUnavailable: it cannot.
        """
        if storage.is_immediate:
            storage.check()
            return
        clock = self._loop.clock
        while clock.monotonic() - self._checked.get(storage, -_CHECKED_SECONDS) >= _CHECKED_SECONDS:
            running = self._checks.get(storage)
            if running is None:
                yield from self._try_writing(storage)
                return
            yield running.ended.wait()
            if running.error is not None:
                raise copy.copy(running.error)  # with a traceback of its own

    def _try_writing(self, storage: Storage) -> Steps[None]:
        check = self._checks[storage] = _StorageCheck()
        try:
            yield from in_thread(storage.check, self._pool)
            self._checked[storage] = self._loop.clock.monotonic()
        except BaseException as error:
            check.error = error
            raise
        finally:
            del self._checks[storage]
            check.ended.set()

    def store(self, storage: Storage, request: CertificateRequest, chain: Chain) -> Steps[Exception | None]:
        """Store a chain, together with those that come while the storage is busy.

        Returns:
            None once it is kept, otherwise why it is not.
        """
        if storage.is_immediate:
            return self.store_now(storage, request, chain)
        mine = _QueuedChain(request, chain)
        queue = self._queues.get(storage)
        if queue is None:
            self._queues[storage] = [mine]
            self._loop.submit(self._store_queue(storage))
        else:
            queue.append(mine)
        yield mine.ended.wait()
        return mine.error

    def store_now(self, storage: Storage, request: CertificateRequest, chain: Chain) -> Exception | None:
        """Store a chain, in the calling thread; for any thread.

        Returns:
            None once it is kept, otherwise why it is not.
        """
        try:
            storage.store(request, chain, self._identity)
        except StorageUnavailable as error:
            return error
        except Exception as error:  # what was issued must not be lost by a bug of a storage either
            logger.exception("a bug of storage '%s'", storage.name)
            return error
        return None

    def _store_queue(self, storage: Storage) -> Steps[None]:
        """Store what waits for a storage, and what comes meanwhile, in one batch after the other."""
        queue = self._queues[storage]
        while queue:
            batch = queue.copy()
            queue.clear()
            yield from in_thread(functools.partial(self._store_batch, storage, batch), self._pool)
            for each in batch:
                each.ended.set()
        del self._queues[storage]

    def _store_batch(self, storage: Storage, batch: Sequence[_QueuedChain]) -> None:
        try:
            storage.store_all([(each.request, each.chain) for each in batch], self._identity)
        except Exception:  # noqa: BLE001 - which of them it is about, and what it is, is seen one by one
            for each in batch:
                each.error = self.store_now(storage, each.request, each.chain)
