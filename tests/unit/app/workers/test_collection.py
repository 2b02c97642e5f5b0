"""How all processes are, when one of them asks."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from acmems.app.workers.collection import WholeCollection
from acmems.app.workers.messages import (
    Message,
    MessageReader,
    MetricsWanted,
    NotStarted,
    Report,
    Whole,
    encoded,
)
from acmems.app.workers.rota import PATIENCE_SECONDS, WorkerState
from acmems.app.workers.worker_process import WorkerProcess
from acmems.frontends.metrics.snapshot import Family

NOW = 1000.0


class Worker(WorkerProcess):
    """A worker process that is only a channel."""

    def __init__(self, position: int, theirs: socket.socket, ours: socket.socket) -> None:
        super().__init__(position + 100, WorkerState(position, 1, is_ready=True), ours, NOW)
        self._theirs = theirs
        self._told = MessageReader()

    def told(self) -> list[Message]:
        """Return what it was told since the last time."""
        try:
            return list(self._told.feed(self._theirs.recv(100_000)))
        except BlockingIOError:
            return []


@pytest.fixture
def workers() -> Iterator[list[Worker]]:
    """Two workers that serve."""
    with contextlib.ExitStack() as stack:
        made = []
        for position in range(2):
            ours, theirs = (stack.enter_context(each) for each in socket.socketpair())
            ours.setblocking(False)
            theirs.setblocking(False)
            made.append(Worker(position, theirs, ours))
        yield made


def orders(count: float, running: float) -> list[Family]:
    return [
        ("acmems_orders", "counter", "Orders.", [("acmems_orders_total", {}, count)]),
        ("acmems_issuances", "gauge", "Issuances.", [("acmems_issuances", {}, running)]),
    ]


def values(whole: Message) -> dict[str, float]:
    assert isinstance(whole, Whole)
    return {sample[0]: sample[2] for family in whole.metrics for sample in family[3]}


def finish(collection: WholeCollection, workers: list[Worker], now: float = NOW) -> None:
    assert collection.is_done(now)
    collection.finish(workers, [], now, is_stopping=False)


def test_all_are_asked_and_added_up(workers: list[Worker]) -> None:
    """One asks, all are asked, and the answer is the sum of what they say."""
    collection = WholeCollection()
    collection.ask(workers[0], workers, NOW)
    assert [each.told() for each in workers] == [[MetricsWanted()]] * 2
    collection.hear(workers[0], Report([], ["the disk"], orders(3, 1)))
    assert not collection.is_done(NOW)
    collection.hear(workers[1], Report([], ["the disk", "the account"], orders(4, 2)))
    finish(collection, workers)
    (whole,) = workers[0].told()
    assert values(whole) == {"acmems_orders_total": 7, "acmems_issuances": 3}
    assert isinstance(whole, Whole)
    assert whole.lacking == ["the disk", "the account"]
    assert workers[1].told() == []


def test_an_answer_is_kept_for_a_moment(workers: list[Worker]) -> None:
    """Whoever asks soon after gets the same answer, and nobody is asked for it."""
    collection = WholeCollection()
    collection.ask(workers[0], workers, NOW)
    for each in workers:
        collection.hear(each, Report(metrics=orders(1, 0)))
        each.told()
    finish(collection, workers)
    collection.ask(workers[1], workers, NOW + 0.9)
    assert workers[1].told() == workers[0].told()
    collection.ask(workers[1], workers, NOW + 1.1)
    assert workers[1].told() == [MetricsWanted()]


def test_who_does_not_answer_is_not_waited_for(workers: list[Worker]) -> None:
    """A process that hangs counts with what it said last."""
    collection = WholeCollection()
    collection.hear(workers[1], Report(metrics=orders(5, 1)))
    collection.ask(workers[0], workers, NOW)
    collection.hear(workers[0], Report(metrics=orders(3, 1)))
    due = collection.due
    assert due is not None
    assert not collection.is_done(due - 0.1)
    finish(collection, workers, due)
    assert values(workers[0].told()[-1])["acmems_orders_total"] == 8


@pytest.mark.parametrize("ends", [False, True], ids=["leaves", "has ended"])
def test_what_was_counted_stays_counted(workers: list[Worker], ends: bool) -> None:
    """What a process that leaves has counted goes on to count, also after its end; its gauges do not."""
    collection = WholeCollection()
    collection.hear(workers[1], Report(metrics=orders(5, 1)))
    left = list(workers)
    if ends:
        left.remove(workers[1])
        collection.forget(workers[1])
    else:
        workers[1].state = replace(workers[1].state, is_leaving=True)
    collection.ask(workers[0], left, NOW)
    for each in left:
        collection.hear(each, Report(metrics=orders(3 if each is workers[0] else 5, 1)))
    finish(collection, left)
    assert values(workers[0].told()[-1]) == {"acmems_orders_total": 8, "acmems_issuances": 1}


def test_an_asker_that_ends_is_forgotten(workers: list[Worker]) -> None:
    """A process that ends while it is waited for, or waits itself, holds up nobody."""
    collection = WholeCollection()
    collection.ask(workers[0], workers, NOW)
    collection.hear(workers[1], Report(metrics=orders(1, 0)))
    collection.forget(workers[0])
    finish(collection, workers[1:])
    workers[0].told()
    assert workers[0].told() == []


def test_a_stop(workers: list[Worker]) -> None:
    """While the server stops it is alive and not ready."""
    collection = WholeCollection()
    collection.ask(workers[0], workers, NOW)
    collection.finish(workers, [], NOW, is_stopping=True)
    whole = workers[0].told()[-1]
    assert isinstance(whole, Whole)
    assert whole.is_stopping
    assert whole.lacking == ["the server is stopping"]


class TestFaults:
    def test_threads(self, workers: list[Worker]) -> None:
        """Threads that hang are told along with their process."""
        workers[1].report = Report(["acmems-mgmt"])
        assert workers[1].faults(NOW) == ["acmems-mgmt of process 2"]

    def test_silence(self, workers: list[Worker]) -> None:
        """A process that has not been heard for long is at fault, until it is heard again."""
        assert workers[0].faults(NOW + PATIENCE_SECONDS) == []
        assert "process 1 has not been heard" in workers[0].faults(NOW + PATIENCE_SECONDS + 1)[0]
        workers[0]._theirs.send(encoded(Report()))
        workers[0].receive(NOW + PATIENCE_SECONDS + 1)
        assert workers[0].faults(NOW + PATIENCE_SECONDS + 1) == []


def test_a_worker_that_hangs_up(workers: list[Worker]) -> None:
    """Whatever a worker has said last is heard, and then that nothing more comes."""
    workers[0]._theirs.send(encoded(NotStarted("last")))
    assert workers[0].receive(NOW) == [NotStarted("last")]
    assert not workers[0].has_hung_up
    workers[0]._theirs.close()
    assert workers[0].receive(NOW) == []
    assert workers[0].has_hung_up


def test_a_worker_that_does_not_read_blocks_nothing(workers: list[Worker]) -> None:
    """What a process does not read waits, and goes out when it reads again."""
    big = Whole(["x" * 1000] * 1000, [], [], is_stopping=False)
    workers[0].send(big)
    assert workers[0].has_unsent
    told: list[Message] = []
    while workers[0].has_unsent or not told:
        told += workers[0].told()
        workers[0].flush()
    assert told == [big]
