"""What issuances share at a storage: one check for all who ask at once, chains stored in batches."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest
from tests.chains import make_request
from tests.issuing import House, Memory
from tests.peers import wait_until

from acmems.events import FailedEvent
from acmems.exceptions import StorageUnavailable
from acmems.issuing.requests import Delivery


@pytest.fixture
def house() -> Iterator[House]:
    """An issuance whose CA works."""
    made = House()
    yield made
    made.close()


def sources(futures: list[Future[Delivery]]) -> set[str]:
    return {future.result(30).source for future in futures}


class TestCheck:
    """A certificate that could not be kept is not ordered; finding that out is shared."""

    def test_requests_at_once_share_one_check(self, house: House) -> None:
        """While a storage is being tried, further orders wait for the outcome of that."""
        house.storage.write.clear()
        futures = [house.begin(make_request(f"{number}.example.org")) for number in range(20)]
        wait_until(lambda: house.storage.checks == 1, "the storage is being tried")
        assert house.authority.orders == []
        house.storage.write.set()
        assert sources(futures) == {"issued"}
        assert house.storage.checks == 1

    def test_a_check_of_a_storage_holds_for_a_second(self, house: House) -> None:
        """A storage that could be written to is tried again only a second later."""
        checks = []
        for seconds in (0, 0.9, 0.2, 0, 5):
            house.time.seconds += seconds
            house.ask(make_request())
            checks.append(house.storage.checks)
        assert checks == [1, 1, 2, 2, 3]

    def test_each_storage_is_checked_separately(self, house: House) -> None:
        """That one storage works says nothing about another."""
        broken = Memory("broken", check_error=StorageUnavailable("not writable"))
        house.ask(make_request())
        with pytest.raises(StorageUnavailable):
            house.ask(make_request(), broken)
        assert (house.storage.checks, broken.checks) == (1, 1)

    @pytest.mark.parametrize("error", [StorageUnavailable("full"), KeyError("a bug")], ids=["full", "bug"])
    def test_a_failed_check_fails_all_who_share_it(self, house: House, error: Exception) -> None:
        """All who waited for one trial hear why it failed, each by its own error; nothing is ordered."""
        house.storage.check_error = error
        house.storage.write.clear()
        futures = [house.begin(make_request(f"{number}.example.org")) for number in range(20)]
        wait_until(lambda: house.storage.checks == 1, "the storage is being tried")
        house.storage.write.set()
        errors = [future.exception(30) for future in futures]
        assert {type(each) for each in errors} == {type(error)}
        assert len(set(map(id, errors))) == 20
        assert (house.storage.checks, house.authority.orders) == (1, [])

    def test_a_failed_check_is_not_remembered(self, house: House) -> None:
        """The first order after a failure tries the storage again."""
        house.storage.check_error = StorageUnavailable("full")
        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                house.ask(make_request())
        house.storage.check_error = None
        assert house.ask(make_request()).source == "issued"
        assert house.storage.checks == 3

    def test_a_hanging_storage_holds_up_nobody_else(self, house: House) -> None:
        """Requests whose chains are kept elsewhere go on while one storage does not answer."""
        house.storage.write.clear()
        stuck = house.begin(make_request())
        wait_until(lambda: house.storage.checks == 1, "the storage is being tried")
        assert house.ask(make_request(), Memory("other")).source == "issued"
        assert not stuck.done()


class TestBatches:
    """Chains that come while a storage is busy are stored together."""

    def storing(self, house: House, number: int = 1) -> list[Future[Delivery]]:
        """Have the storage write so many batches of one, and wait in the last of them."""
        house.ask(make_request())
        house.storage.batches.clear()
        house.storage.write.clear()
        futures = [house.begin(make_request())]
        wait_until(lambda: len(house.storage.batches) == number, "a chain is being stored")
        return futures

    def all_issued(self, house: House, number: int) -> bool:
        """Tell whether so many certificates are there, and on their way to the storage."""
        return sum(map(len, house.issuance._storages._queues.values())) == number

    def test_chains_that_come_during_storing_are_stored_in_one_batch(self, house: House) -> None:
        """One chain is stored alone; the ten that come while that goes on are stored at once."""
        futures = self.storing(house)
        futures += [house.begin(make_request(f"{number}.example.org")) for number in range(10)]
        wait_until(lambda: self.all_issued(house, 10), "ten more wait")
        house.storage.write.set()
        assert sources(futures) == {"issued"}
        assert house.storage.batches == [1, 10]
        assert len(house.storage.chains) == 12

    def test_a_stored_chain_does_not_wait_for_later_batches(self, house: House) -> None:
        """Whose chain is stored is answered, though further chains are being stored already."""
        second_batch = Memory().write
        second_batch.clear()

        def hold_the_second() -> None:
            if len(house.storage.batches) == 2:
                second_batch.wait(30)

        futures = self.storing(house)
        house.storage.store_hook = hold_the_second
        futures.append(house.begin(make_request()))
        wait_until(lambda: self.all_issued(house, 1), "the second waits")
        house.storage.write.set()
        assert futures[0].result(30).source == "issued"
        assert not futures[1].done()
        second_batch.set()
        assert futures[1].result(30).source == "issued"

    def test_a_chain_that_fails_does_not_fail_its_batch(self, house: House) -> None:
        """Where a batch fails each chain is tried alone, and only the bad one is kept in memory."""
        futures = self.storing(house)
        good, bad = make_request(), make_request()
        house.storage.refused = bad.key_digest
        futures += [house.begin(request) for request in (good, bad)]
        wait_until(lambda: self.all_issued(house, 2), "two more wait")
        house.storage.write.set()
        assert sources(futures) == {"issued"}
        assert house.storage.batches == [1, 2, 1, 1]
        assert good.key_digest in house.storage.chains
        assert bad.key_digest not in house.storage.chains
        (failed,) = (event for event in house.events if isinstance(event, FailedEvent))
        assert (failed.stage, failed.names) == ("store", bad.names)
        assert house.ask(bad).source == "stored"

    def test_a_bug_of_a_storage_holds_up_nobody(self, house: House, caplog: pytest.LogCaptureFixture) -> None:
        """Whatever a storage raises for a batch, all who wait get their chains, and so do later ones."""
        futures = self.storing(house)
        house.storage.store_error = KeyError("a bug")
        futures += [house.begin(make_request(f"{number}.example.org")) for number in range(2)]
        wait_until(lambda: self.all_issued(house, 2), "two more wait")
        house.storage.write.set()
        assert sources(futures) == {"issued"}
        assert house.ask(make_request()).source == "issued"
        assert "KeyError" in caplog.text

    def test_two_storages_do_not_wait_for_each_other(self, house: House) -> None:
        """A storage that hangs while it writes holds up only those whose chains go there."""
        futures = self.storing(house)
        assert house.ask(make_request(), Memory("other")).source == "issued"
        assert not futures[0].done()


def test_a_storage_without_io_needs_no_thread(house: House) -> None:
    """A storage without I/O is used in the loop's own thread, for trying, looking and storing."""
    storage = Memory("at once", is_immediate=True)
    threads = set[str]()
    storage.store_hook = lambda: threads.add(threading.current_thread().name)
    assert house.ask(make_request(), storage).source == "issued"
    assert threads == {"acmems-steps"}
    assert (storage.checks, storage.batches) == (1, [1])
