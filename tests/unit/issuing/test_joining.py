"""Several who ask at once: who joins whose issuance, and how many issuances run."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.chains import make_request
from tests.issuing import House, Memory, wait_for
from tests.peers import wait_until

from acmems.exceptions import CAUnavailable
from acmems.issuing.issuance import Delivery

CURVE = ec.SECP256R1()


@pytest.fixture
def house() -> Iterator[House]:
    """An issuance whose CA works."""
    made = House()
    yield made
    made.close()


class TestTurns:
    """How many issuances run at once."""

    def test_issuances_over_the_limit_wait_for_their_turn(self) -> None:
        """Further issuances wait for their turn, and get it in the order of their arrival."""
        house = House(most_at_once=2)
        house.authority.go.clear()
        requests = [make_request() for _ in range(6)]
        futures = [house.begin(request) for request in requests]
        wait_until(lambda: len(house.authority.orders) == 2, "two orders")
        house.authority.go.set()
        assert [future.result(30).source for future in futures] == ["issued"] * 6
        assert house.authority.orders[:2] == requests[:2]
        assert len(house.authority.orders) == 6
        house.close()

    def test_a_failed_issuance_lets_the_next_one_begin(self) -> None:
        """An issuance that fails, for whatever reason, lets the next one begin."""
        house = House(most_at_once=1)
        for error in (CAUnavailable("down"), KeyError("a bug")):
            house.authority.error = error
            assert isinstance(house.begin(make_request()).exception(30), type(error))
        house.authority.error = None
        assert house.ask(make_request()).source == "issued"
        house.close()


class TestJoining:
    """Who asks for what is being issued gets it, and it is kept where that client's chains are."""

    def test_a_joined_chain_is_stored_in_both_storages(self, house: House) -> None:
        """A chain that two wait for is stored in the storages of both."""
        other, key = Memory("other"), ec.generate_private_key(CURVE)
        house.authority.go.clear()
        first = house.begin(make_request(key=key))
        second = house.begin(make_request(key=key), other)
        house.authority.go.set()
        assert (first.result(30).source, second.result(30).source) == ("issued", "joined")
        assert first.result(0).chain == second.result(0).chain
        assert house.storage.chains == other.chains != {}

    def test_joining_during_storing_stores_in_the_other_storage_too(self, house: House) -> None:
        """Who joins with another storage while the first one is written to has the chain there as well."""
        other, key = Memory("other"), ec.generate_private_key(CURVE)
        house.ask(make_request())  # the storage has been checked
        house.storage.batches.clear()
        house.storage.write.clear()
        first = house.begin(make_request(key=key))
        wait_until(lambda: bool(house.storage.batches), "the chain is being stored")
        second = house.begin(make_request(key=key), other)
        house.storage.write.set()
        assert first.result(30).chain == second.result(30).chain
        assert house.ask(make_request(key=key), other).source == "stored"
        assert len(house.authority.orders) == 2

    def test_every_joiner_has_the_chain_in_its_own_storage(self, house: House) -> None:
        """However many join, one after the other and each with a storage of its own, all are stored."""
        key = ec.generate_private_key(CURVE)
        storages = [Memory(f"storage {number}") for number in range(8)]
        futures: list[Future[Delivery]] = []

        def join_next() -> None:
            if len(futures) < len(storages):
                futures.append(house.begin(make_request(key=key), storages[len(futures)]))

        for storage in storages:
            storage.store_hook = join_next
        join_next()
        wait_until(lambda: len(futures) == 8 and all(future.done() for future in futures), "the end")
        assert len(house.authority.orders) == 1
        assert len({future.result().chain.serial for future in futures}) == 1
        assert all(storage.chains for storage in storages)

    def test_a_request_that_missed_the_stored_chain_gets_the_one_just_issued(self, house: House) -> None:
        """Who has looked in vain, and comes to ask when the same has just been issued, gets that."""
        with self.looking_in_vain(house) as late:
            assert house.ask(late.request).source == "issued"
        assert late.outcome().source == "stored"
        assert len(house.authority.orders) == 1

    def test_no_request_misses_both_an_issuance_and_its_result(self, house: House) -> None:
        """Whoever does not find the issuance any more sees that one has ended, however short after it."""
        with self.looking_in_vain(house) as late:

            class Gate:
                """In the place of the lock: lets the other ask as soon as the issuance is not found."""

                def __init__(self, lock: threading.Lock) -> None:
                    self.lock = lock

                def __enter__(self) -> None:
                    self.lock.acquire()

                def __exit__(self, *_: object) -> None:
                    self.lock.release()
                    if house.storage.chains and not house.issuance._running and not late.go_on.is_set():
                        late.go_on.set()
                        wait_for(late.has_asked)

            house.issuance._lock = Gate(house.issuance._lock)  # type: ignore[assignment]  # as far as it is used
            assert house.ask(late.request).source == "issued"
        assert late.outcome().source == "stored"
        assert len(house.authority.orders) == 1

    @staticmethod
    @contextlib.contextmanager
    def looking_in_vain(house: House) -> Iterator[Late]:
        """Have somebody find nothing stored, and go on to ask at the end of this."""
        late = Late(house)
        late.thread.start()
        wait_for(late.has_looked)
        yield late
        late.go_on.set()
        late.thread.join(30)


class Late:
    """Somebody who is held up between looking for a stored chain and asking for one."""

    def __init__(self, house: House) -> None:
        self.request = make_request()
        self.has_looked, self.go_on, self.has_asked = (threading.Event() for _ in range(3))
        self.thread = threading.Thread(target=self._ask)
        self._house = house
        self._futures: list[Future[Delivery]] = []

    def outcome(self) -> Delivery:
        return self._futures[0].result(30)

    def _ask(self) -> None:
        self._house.storage.find_hook = self._after_looking
        self._futures.append(self._house.begin(self.request))
        self.has_asked.set()

    def _after_looking(self) -> None:
        self._house.storage.find_hook = lambda: None
        self.has_looked.set()
        wait_for(self.go_on)
