"""Looking chains up in a storage that others may have to be waited for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest
from tests.chains import make_request
from tests.issuing import House, Memory, wait_for

from acmems.exceptions import CAUnavailable, StorageUnavailable
from acmems.issuing.requests import Delivery

REQUEST = make_request("a.example.org")


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    house.storage.is_local = False
    yield house
    house.close()


def test_an_order_and_a_delivery(house: House) -> None:
    """What is asked for first is ordered, and found afterwards."""
    assert house.ask(REQUEST).source == "issued"
    assert house.ask(REQUEST).source == "stored"


def test_a_storage_that_hangs(house: House) -> None:
    """It holds up neither who asks nor those with another storage, whose chains are looked up and ordered."""
    answer = threading.Event()
    house.storage.find_hook = lambda: wait_for(answer)
    asked: list[Future[Delivery]] = [house.begin(REQUEST) for _ in range(20)]
    other = Memory("other")
    assert [house.ask(REQUEST, other).source for _ in range(2)] == ["issued", "stored"]
    assert not any(each.done() for each in asked)
    answer.set()
    assert {each.result(30).source for each in asked} <= {"issued", "joined", "stored"}
    assert len(house.authority.orders) == 2


def test_stored_chains_while_the_ca_hangs(house: House) -> None:
    """However many orders go on, a stored chain is delivered at once."""
    house.ask(REQUEST)
    house.authority.go.clear()
    house.issuance.adapt(1, 1)
    running = [house.begin(make_request(f"{number}.example.org")) for number in range(3)]
    assert house.ask(REQUEST).source == "stored"
    house.authority.go.set()
    for each in running:
        each.exception(30)


def test_a_storage_that_cannot_tell(house: House) -> None:
    """Whoever asks hears of it, and nothing is ordered."""

    def fail() -> None:
        raise StorageUnavailable("away")

    house.storage.find_hook = fail
    with pytest.raises(StorageUnavailable):
        house.ask(REQUEST)
    assert house.authority.orders == []


def test_a_server_that_stops(house: House) -> None:
    """Whoever asks is told so."""
    house.close()
    with pytest.raises(CAUnavailable, match="stopping"):
        house.ask(REQUEST)
