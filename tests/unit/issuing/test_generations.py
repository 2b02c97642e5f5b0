"""Requests that were accepted by different configurations: each keeps what held when it was accepted."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from cryptography import x509
from tests.chains import make_request
from tests.fake_ca import FakeValidator
from tests.issuing import House, Memory
from tests.peers import wait_until
from tests.steps import settle

from acmems.exceptions import CertificateUnusable, DeadlinePassed, StorageUnavailable
from acmems.issuing.requests import AcceptedRequest, Delivery
from acmems.x509.csr import CertificateRequest

ADMINISTRATORS = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Administrators")])


@pytest.fixture
def house() -> Iterator[House]:
    """An issuance whose CA does not decide before it is told to go."""
    made = House()
    made.authority.go.clear()
    yield made
    made.close()


def begin(house: House, request: CertificateRequest, **known: Any) -> Future[Delivery]:
    accepted = {"validators": (), "storage": house.storage, **known}
    return house.issuance.issue(AcceptedRequest(request, **accepted))


class TestStorages:
    """A storage is another one where its section is another, though its name is the same."""

    def test_who_joins_stores_where_its_own_is(self, house: House) -> None:
        """A chain that two ask for, by the storages of before and after a reload, is stored in both."""
        request, after = make_request(), Memory()
        futures = [begin(house, request), begin(house, request, storage=after)]
        house.authority.go.set()
        for future in futures:
            assert future.result(30).source in {"issued", "joined"}
        assert list(house.storage.chains) == list(after.chains) == [request.key_digest]

    def test_what_works_now_says_nothing_about_before(self, house: House) -> None:
        """That the storage of before could be written to does not hold for that of after."""
        house.authority.go.set()
        begin(house, make_request()).result(30)
        broken = Memory(check_error=StorageUnavailable("not there"))
        assert isinstance(begin(house, make_request(), storage=broken).exception(30), StorageUnavailable)

    def test_batches_do_not_mix(self, house: House) -> None:
        """What is stored while the storage of before is busy goes where it belongs."""
        house.authority.go.set()
        after = Memory()
        first, second = make_request(), make_request()
        begin(house, first, validators=()).result(30)
        third = make_request()
        house.time.seconds += 0.5  # for which the check holds, so that nothing but storing waits
        house.storage.write.clear()
        futures = [begin(house, second)]
        wait_until(lambda: len(house.storage.batches) == 2, "the storage is busy")
        futures.append(begin(house, third, storage=after))
        assert futures[1].result(30).source in {"issued", "joined"}
        assert list(after.chains) == [third.key_digest]
        house.storage.write.set()
        assert futures[0].result(30).source in {"issued", "joined"}

    def test_a_kept_chain_goes_to_the_storage_that_is_there_now(self, house: House) -> None:
        """What the storage of before could not keep is kept by that of after, which the request names."""
        house.authority.go.set()
        request, after = make_request(), Memory()
        house.storage.store_error = StorageUnavailable("broken")
        first = begin(house, request).result(30)
        assert begin(house, request, storage=after).result(30).chain == first.chain
        house.issuance.save_kept()
        assert after.chains == {request.key_digest: first.chain}
        assert house.storage.chains == {}


def test_more_may_run_from_now_on(house: House) -> None:
    """Other limits hold at once: what has waited for its turn begins."""
    house.issuance.adapt(1, 100)
    futures = [begin(house, make_request(), client=str(number)) for number in range(3)]
    wait_until(lambda: bool(house.authority.orders), "one has begun")
    settle(house.loop)
    assert len(house.authority.orders) == 1
    house.issuance.adapt(100, 100)
    wait_until(lambda: len(house.authority.orders) == 3, "all have begun")
    house.authority.go.set()
    for future in futures:
        future.result(30)


def test_the_subject_is_that_of_the_request(house: House) -> None:
    """What a subject may hold is what held for the request, whatever holds for the others."""
    house.authority.go.set()
    house.authority.subject = ADMINISTRATORS
    assert begin(house, make_request(), subject="any").result(30).source in {"issued", "joined"}
    assert isinstance(begin(house, make_request()).exception(30), CertificateUnusable)


def test_clients_wait_for_as_long_as_held(house: House) -> None:
    """Whoever joins with less patience than others is told when its own time is over."""
    request = make_request()
    first = begin(house, request, seconds=500.0)
    settle(house.loop)
    second = begin(house, request, seconds=20.0)
    house.pass_time(110)
    error = second.exception(30)
    assert isinstance(error, DeadlinePassed)
    assert "after 20 s" in str(error)
    assert not first.done()
    third = begin(house, request, seconds=20.0)
    house.pass_time(21)
    assert isinstance(third.exception(30), DeadlinePassed)
    assert not first.done()
    house.authority.go.set()
    assert first.result(30).source in {"issued", "joined"}


def test_who_uses_a_validator(house: House) -> None:
    """A validator is in use from the request to the end of the issuance, whether it has begun or not."""
    one, other = FakeValidator(), FakeValidator()
    future = begin(house, make_request(), validators=(other, one))
    assert house.issuance.uses(one)
    assert not house.issuance.uses(FakeValidator())
    house.authority.go.set()
    future.result(30)
    assert not house.issuance.uses(one)
