"""The accounts that requests are signed by, as far as this process knows them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

from acmems.exceptions import StateUnavailable
from acmems.state.acme.accounts import AcmeAccount, AcmeAccountRecords, Admission
from acmems.state.acme.nonces import NonceUse
from acmems.system.clock import SYSTEM, Clock

T = TypeVar("T")

TRUSTED_SECONDS: Final = 5.0
"""For so long an account is taken to be as it was read, where other processes may change it."""
_MOST = 10_000
_THREADS = 2  # they wait for the database


class KnownAccounts:
    """Finds accounts without waiting, where they were asked for lately; for any thread.

    Where other processes use the state as well, what only reads may go by an account as it was some seconds
    ago. A request that changes something goes by `admit`.

    Args:
        records: where accounts are kept.
        clock: for the time since they were read.
    """

    def __init__(self, records: AcmeAccountRecords, clock: Clock = SYSTEM) -> None:
        self._records = records
        self._clock = clock
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="acmems-acme")
        self._lock = threading.Lock()  # guards what follows
        self._known: OrderedDict[str, tuple[AcmeAccount, float]] = OrderedDict()
        self._changes = 0  # that were learnt

    def get(self, account: str) -> AcmeAccount | None:
        """Return an account that is known, None where it has to be looked for."""
        with self._lock:
            found = self._known.get(account)
            if found is None:
                return None
            known, at = found
            if self._records.is_shared and self._clock.monotonic() - at > TRUSTED_SECONDS:
                return None
            self._known.move_to_end(account)
            return known

    def find(self, account: str) -> Future[AcmeAccount | None]:
        """Look for an account in the state."""
        return self.read(lambda: self._found(lambda: self._records.find(account)))

    def of_key(self, thumbprint: str) -> Future[AcmeAccount | None]:
        """Look for the account that has a key."""
        return self.read(lambda: self._found(lambda: self._records.of_key(thumbprint)))

    def admit(self, account: str, nonce: NonceUse) -> Future[Admission]:
        """Use a nonce for a request of an account, and return how the account is at that moment."""
        return self._records.admit(account, nonce)

    def learn(self, account: AcmeAccount) -> AcmeAccount:
        """Take note of what a change has made of an account, and return it."""
        with self._lock:
            self._changes += 1
            self._keep(account)
        return account

    def read(self, look: Callable[[], T]) -> Future[T]:
        """Have something read from the state, in a thread of its own."""
        try:
            return self._threads.submit(look)
        except RuntimeError:
            failed: Future[T] = Future()
            failed.set_exception(StateUnavailable("this server is stopping"))
            return failed

    def close(self) -> None:
        """Read nothing any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _found(self, look: Callable[[], AcmeAccount | None]) -> AcmeAccount | None:
        """Return an account as it is read; it is kept unless a change was learnt meanwhile, perhaps of it."""
        with self._lock:
            before = self._changes
        account = look()
        with self._lock:
            if account is not None and self._changes == before:
                self._keep(account)
        return account

    def _keep(self, account: AcmeAccount) -> None:
        """Keep an account in memory. The lock is held."""
        self._known[account.id] = (account, self._clock.monotonic())
        self._known.move_to_end(account.id)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
