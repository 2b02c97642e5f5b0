"""Locks by key: held by one at a time, and gone when nobody needs them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from acmems.system.clock import SYSTEM
from acmems.system.locks import KeyedLocks


def test_a_key_is_held_by_one_thread_at_a_time() -> None:
    """Of many who want one key only one has it, and other keys are free meanwhile."""
    locks, busy = KeyedLocks(), threading.Lock()

    def work(_: int) -> None:
        with locks.hold("key", SYSTEM.deadline(30)):
            assert busy.acquire(blocking=False)
            with locks.hold("other", SYSTEM.deadline(30)):
                SYSTEM.sleep(0.001)
            busy.release()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(50)))
    assert locks._locks == {}


def test_a_lock_that_is_not_free_in_time_is_told() -> None:
    """Whoever does not get a lock in time hears so, and leaves it to those who have it."""
    locks = KeyedLocks()
    with locks.hold("key", SYSTEM.deadline(30)):
        with pytest.raises(TimeoutError), locks.hold("key", SYSTEM.deadline(0)):
            pytest.fail("it is held already")
        assert list(locks._locks) == ["key"]
        with pytest.raises(TimeoutError), locks.hold("key", SYSTEM.deadline(0.01)):
            pytest.fail("it is held still")
    assert locks._locks == {}


def test_released_keys_are_forgotten() -> None:
    """However many keys are used, and however the work with them ends, none is remembered."""
    locks = KeyedLocks()
    for number in range(1000):
        with pytest.raises(ZeroDivisionError), locks.hold(number, SYSTEM.deadline(30)):
            raise ZeroDivisionError
    assert locks._locks == {}
