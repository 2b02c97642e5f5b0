"""When transactions are begun: at once, but less often while many issuances go on."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from acmems.exceptions import StateUnavailable
from acmems.state.engines.contract import Change
from acmems.state.engines.group_commit import GroupCommit, probe
from acmems.system.clock import Clock

MANY = 1000


class Stand:
    """Changes that a clock of the test's own makes wait, and how many each transaction had."""

    def __init__(self) -> None:
        self.time = 0.0
        self.batches: list[int] = []
        self.waits: list[float] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.commits = GroupCommit(self.transact, Clock(monotonic=lambda: self.time, wait=self.wait))

    def transact(self, changes: Sequence[Change[Any]]) -> list[Any]:
        self.batches.append(len(changes))
        return [None for _ in changes]

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits.append(seconds)
        self.meanwhile()
        self.time += seconds
        return event.is_set()

    def write(self) -> None:
        self.commits.write(lambda _: None).result(20)


@pytest.fixture
def stand() -> Iterator[Stand]:
    made = Stand()
    yield made
    made.commits.close()


@pytest.mark.parametrize("writers", [0, 1])
def test_a_change_waits_for_nobody_where_one_issuance_goes_on(stand: Stand, writers: int) -> None:
    """A lone certificate is never slowed down."""
    stand.commits.writers = writers
    for _ in range(3):
        stand.write()
    assert (stand.batches, stand.waits) == ([1, 1, 1], [])


def test_changes_that_come_during_a_pause_share_the_next_transaction(stand: Stand) -> None:
    """In a burst, the second transaction has the changes of many."""
    stand.commits.writers = 50
    stand.write()

    def others() -> None:
        for _ in range(20):
            stand.commits.write(lambda _: None)

    stand.meanwhile = others
    stand.write()
    assert stand.batches == [1, 21]


def test_a_transaction_that_is_due_is_not_begun_twice(stand: Stand) -> None:
    """A flush makes no change of its own where one is on its way, and takes along what has time."""
    stand.commits.writers = 50
    stand.write()

    def others() -> None:
        stand.commits.write(lambda _: None, soon=False)
        stand.commits.flush()

    stand.meanwhile = others
    stand.write()
    assert stand.batches == [1, 2]


def test_the_first_change_of_a_burst_is_made_at_once(stand: Stand) -> None:
    """Only a transaction that follows another one closely waits."""
    stand.commits.writers = MANY
    stand.write()
    stand.time += 10
    stand.write()
    assert stand.waits == []


def test_the_longest_pause(stand: Stand) -> None:
    """However many issuances go on, a change waits for some hundredths of a second."""
    for stand.commits.writers in (2, 20, MANY, 10 * MANY):
        stand.write()
    first, second, third = stand.waits  # the first transaction followed no other one
    assert 0 < first < second < 0.05
    assert third == pytest.approx(second)


def test_the_part_of_a_pause_that_is_over(stand: Stand) -> None:
    """The pause begins with the end of the last transaction."""
    stand.commits.writers = MANY
    stand.write()
    stand.write()
    stand.time += 0.01
    stand.write()
    whole, rest = stand.waits
    assert rest == pytest.approx(whole - 0.01)


def test_nobody_waits_for_a_pause_at_the_end(stand: Stand) -> None:
    """Closing ends a pause."""
    stand.commits.writers = MANY
    stand.write()
    begun = threading.Event()
    ended: list[bool] = []

    def wait(event: threading.Event, _: float) -> bool:
        begun.set()
        ended.append(event.wait(20))
        return ended[-1]

    stand.commits._clock = Clock(monotonic=lambda: stand.time, wait=wait)
    written = stand.commits.write(lambda _: None)
    assert begun.wait(20)
    stand.commits.close()
    assert (ended, written.done()) == ([True], True)


def test_a_change_that_writes_nothing() -> None:
    """On a disk that is full it succeeds, which is no sign that others do: the next ones fail."""
    is_full = True
    disk = sqlite3.connect(":memory:", check_same_thread=False)
    disk.execute("CREATE TABLE probes (id INTEGER PRIMARY KEY, at INTEGER)")
    disk.create_function("acmems_now", 0, lambda: 0)

    def transact(changes: Sequence[Change[Any]]) -> list[Any]:
        before = disk.total_changes
        outcomes = [change(disk) for change in changes]
        if is_full and disk.total_changes > before:
            raise StateUnavailable("the disk is full")
        return outcomes

    commits = GroupCommit(transact)
    assert commits.write(lambda _: "nothing").result(20) == "nothing"
    for change in (probe, lambda _: None):
        with pytest.raises(StateUnavailable):
            commits.write(change).result(20)
        assert commits.failure is not None
    is_full = False
    assert commits.write(lambda _: "nothing").result(20) == "nothing"
    assert commits.failure is None
    commits.close()
