"""A workers does one thing to many items at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from acmems.exceptions import CAUnavailable
from acmems.issuers.acme.worker_pool import WorkerPool


@pytest.fixture
def workers() -> Iterator[WorkerPool]:
    """A workers of four."""
    made = WorkerPool(4)
    yield made
    made.close()


class TestEach:
    def test_results_are_in_order(self, workers: WorkerPool) -> None:
        """Results come in the order of their items, however many more there are than threads."""
        assert workers.each(lambda number: number * number, range(100)) == [
            number * number for number in range(100)
        ]
        assert workers.each(str, []) == []

    def test_work_is_done_at_once(self, workers: WorkerPool) -> None:
        """As many items are worked on at once as there are threads."""
        together = threading.Barrier(4, timeout=30)
        workers.each(lambda _: together.wait(), range(4))

    def test_one_item_needs_no_thread(self, workers: WorkerPool) -> None:
        """A single item is done by the caller."""
        assert workers.each(lambda _: threading.current_thread(), [1]) == [threading.current_thread()]

    def test_the_first_items_error(self, workers: WorkerPool) -> None:
        """The error of the first item that failed is raised, and only when nothing runs any more."""
        second_failed = threading.Event()
        ended = []

        def work(number: int) -> None:
            if number == 0:
                assert second_failed.wait(30)
            elif number == 1:
                second_failed.set()
            else:
                ended.append(number)
                return
            raise ValueError(number)

        with pytest.raises(ValueError, match=r"^0$"):
            workers.each(work, range(20))
        assert sorted(ended) == list(range(2, 20))

    def test_a_single_items_error(self, workers: WorkerPool) -> None:
        """The error of a single item is raised, too."""
        with pytest.raises(ValueError, match="invalid literal"):
            workers.each(int, ["x"])


class TestClose:
    def test_what_has_not_begun_is_given_up(self) -> None:
        """Who waits for work that a closed workers will not do is told so, when what runs has ended."""
        workers = WorkerPool(1)
        started, go = threading.Event(), threading.Event()

        def work(_: int) -> None:
            started.set()
            assert go.wait(30)

        with ThreadPoolExecutor(1) as pool:
            caller = pool.submit(workers.each, work, [1, 2, 3])
            assert started.wait(30)
            workers.close()
            go.set()
            assert isinstance(caller.exception(30), CAUnavailable)
        with pytest.raises(CAUnavailable):
            workers.each(work, [1, 2])

    def test_what_runs_ends_by_itself(self) -> None:
        """Closing does not wait for running work, and does not lose its results."""
        workers = WorkerPool(2)
        started, go = threading.Barrier(3, timeout=30), threading.Event()
        results: list[int] = []

        def work(number: int) -> int:
            started.wait()
            assert go.wait(30)
            return number

        caller = threading.Thread(target=lambda: results.extend(workers.each(work, [1, 2])))
        caller.start()
        started.wait()
        workers.close()
        go.set()
        caller.join(30)
        assert results == [1, 2]
