"""What those who watch over issuances learn of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import pytest
from tests.chains import make_request
from tests.issuing import House, Memory
from tests.peers import wait_until

from acmems.events import IssuedEvent, NotIssuedEvent
from acmems.exceptions import (
    AcmeException,
    ChallengeFailed,
    InvalidDomainName,
    NamesPaused,
    PayloadInvalid,
    RateLimited,
    StorageUnavailable,
)
from acmems.issuing import pauses, subjects
from acmems.issuing.contract import Workload
from acmems.issuing.requests import AcceptedRequest
from acmems.system.clock import Clock


@pytest.fixture
def house() -> Iterator[House]:
    """An issuance with room for two orders of one client."""
    made = House(most_at_once=8)
    yield made
    made.close()


def not_issued(house: House) -> list[NotIssuedEvent]:
    return [event for event in house.events if isinstance(event, NotIssuedEvent)]


class TestOrders:
    """Each order ends with an event."""

    @pytest.mark.parametrize(
        "error",
        [RateLimited("enough"), ChallengeFailed("a.example.org", "no", ""), ZeroDivisionError("a bug")],
        ids=lambda error: type(error).__name__,
    )
    def test_an_order_that_fails(self, house: House, error: Exception) -> None:
        """The error is told once, however many wait for the order."""
        house.authority.go.clear()
        house.authority.error = error
        request = make_request()
        waiting = [house.begin(request) for _ in range(3)]
        wait_until(lambda: bool(house.authority.orders), "the order")
        house.time.seconds += 5
        house.authority.go.set()
        assert {type(each.exception(30)) for each in waiting} == {type(error)}
        [event] = not_issued(house)
        assert (event.error, event.seconds, event.names) == (error, 5.0, request.names)
        assert event.directory == "https://ca.example.org/directory"
        assert not any(isinstance(each, IssuedEvent) for each in house.events)

    def test_a_certificate_that_is_not_what_was_asked_for(self, house: House) -> None:
        """What the CA has issued and nobody gets is an order that failed."""
        house.authority.names = ["b.example.org"]
        assert house.begin(make_request("a.example.org")).exception(30) is not None
        [event] = not_issued(house)
        assert type(event.error).__name__ == "CertificateUnusable"

    def test_what_does_not_reach_the_ca(self, house: House) -> None:
        """A request that is refused before, by a pause or a storage, is no order."""
        request = make_request()
        house.storage.check_error = StorageUnavailable("full")
        assert house.begin(request).exception(30) is not None
        house.storage.check_error = None
        house.authority.error = RateLimited("enough", retry_after=60)
        for _ in range(3):
            assert house.begin(request).exception(30) is not None
        assert len(not_issued(house)) == 1

    def test_an_order_that_is_successful(self, house: House) -> None:
        """It is told as before, and nothing failed."""
        house.ask(make_request())
        assert not_issued(house) == []


class TestWork:
    def test_what_runs_and_what_waits(self, house: House) -> None:
        """Beyond the places, issuances wait; those that nobody waits for any more are counted apart."""
        assert house.issuance.workload == Workload(0, 0, 0, 0, 8)
        house.authority.go.clear()
        waiting = [house.begin(make_request(f"{number}.example.org")) for number in range(5)]
        wait_until(lambda: house.issuance.workload == Workload(3, 2, 0, 0, 8), "two run, three wait")
        house.authority.go.set()
        for each in waiting:
            each.result(30)
        wait_until(lambda: house.issuance.workload == Workload(0, 0, 0, 0, 8), "all are done")

    def test_chains_that_are_not_stored(self, house: House) -> None:
        """A chain that its storage does not take is unsaved until it does; one that nobody took is not."""
        house.storage.store_error = StorageUnavailable("full")
        house.ask(make_request())
        house.ask(make_request("b.example.org"), Memory("other"), gone=lambda: True)
        assert house.issuance.workload.unsaved == 1
        house.storage.store_error = None
        house.issuance.save_kept()
        assert house.issuance.workload.unsaved == 0


class TestPauses:
    NONE = dict.fromkeys(
        ("csr", "block", "names", "name", "account", "verification", "domain", "everything"), 0
    )

    @pytest.mark.parametrize(
        ("error", "subject"),
        [
            (PayloadInvalid("no"), "csr"),
            (ChallengeFailed("a.example.org", "no", ""), "block"),
            (RateLimited("enough", identifiers=["a.example.org"]), "names"),
            (InvalidDomainName("a.example.org", "no"), "name"),
            (ChallengeFailed("a.example.org", "no", "", verification="dns"), "verification"),
            (NamesPaused(["a.example.org"], "https://ca.example/unpause"), "account"),
            (RateLimited("enough", identifiers=["example.org"]), "domain"),
            (RateLimited("enough", is_overall=True), "everything"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_by_what_they_stop(self, house: House, error: AcmeException, subject: str) -> None:
        """A pause is counted by what it stops, until it is over."""
        asked = AcceptedRequest(make_request("a.example.org"), (), house.storage)
        made = pauses.Pauses(Clock(monotonic=lambda: house.time.seconds))
        assert made.lasting() == self.NONE
        made.note(asked, error)
        assert made.lasting() == {**self.NONE, subject: 1}
        house.time.seconds += 3601 if subject == "account" else 31
        assert made.lasting() == self.NONE

    def test_every_subject_has_a_word(self) -> None:
        """Whatever may be paused has a word of its own."""
        made = [each for each in vars(subjects).values() if isinstance(each, type)]
        words = [each.kind for each in made if issubclass(each, subjects.Subject) and hasattr(each, "kind")]
        assert sorted(words) == sorted(get_args(subjects.PausedSubject))
