"""Requests that wait for their turn: who is dropped, who is refused, who is late, and what the log says."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from itertools import count
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.chains import make_chain, make_request
from tests.issuing import House
from tests.steps import settle, wait_for

from acmems.exceptions import ClientGone, DeadlinePassed, QueueFull
from acmems.issuing.requests import AcceptedRequest, Delivery
from acmems.system.steps import Steps, pause

SECONDS = 110.0  # that a client waits, by default
_numbers = count()


@pytest.fixture
def house() -> Iterator[House]:
    """An issuance with one place and room for four, whose CA does not decide before it is told to go."""
    made = House(most_at_once=1, most_waiting=4)
    made.authority.go.clear()
    yield made
    made.close()


def asking(house: House, block: str = "A", client: str = "192.0.2.1", **fields: Any) -> AcceptedRequest:
    """Return a request for a name that no other has."""
    request = fields.pop("request", None) or make_request(f"{next(_numbers)}.example.org")
    return house.accept(request, block=block, client=client, **fields)


def begin(house: House, *asked: AcceptedRequest) -> list[Future[Delivery]]:
    return [house.issuance.issue(each) for each in asked]


def begin_together(house: House, *asked: AcceptedRequest) -> None:
    """Ask for all of them before anybody looks at the queue, which is done by the same thread."""

    def steps() -> Steps[None]:
        begin(house, *asked)
        yield pause(0)

    house.loop.run(steps())


def occupy(house: House, *blocks: str) -> None:
    """Have an order of each block run."""
    begin(house, *(asking(house, block) for block in blocks or ("A",)))
    wait_for(lambda: len(house.authority.orders) == len(blocks or ("A",)))


class TestGone:
    """What nobody waits for, and has not begun, is dropped."""

    def test_before_their_turn(self, house: House) -> None:
        """Whose clients hang up while they wait are given up soon, and no order is placed for them."""
        occupy(house)
        gone = False
        futures = begin(house, *(asking(house, gone=lambda: gone) for _ in range(3)))
        house.pass_time(1)
        assert not any(future.done() for future in futures)
        gone = True
        house.pass_time(1)
        assert all(isinstance(future.exception(30), ClientGone) for future in futures)
        house.authority.go.set()
        wait_for(lambda: not house.issuance._table)
        assert len(house.authority.orders) == 1

    def test_when_their_turn_comes(self, house: House) -> None:
        """Whose client has hung up a moment ago is passed over."""
        occupy(house)
        gone = False
        dropped, served = begin(house, asking(house, gone=lambda: gone), asking(house))
        settle(house.loop)
        gone = True
        house.authority.go.set()
        assert isinstance(dropped.exception(30), ClientGone)
        assert served.result(30).source == "issued"
        assert len(house.authority.orders) == 2

    def test_a_client_that_only_stops_sending(self, house: House) -> None:
        """It looks as if it had hung up, and gets its certificate where there is a free place."""
        house.authority.go.set()
        (future,) = begin(house, asking(house, gone=lambda: True))
        assert future.result(30).source == "issued"

    def test_one_of_several(self, house: House) -> None:
        """What somebody waits for still is begun, and all who wait get it."""
        occupy(house)
        key = ec.generate_private_key(ec.SECP256R1())
        same = [
            asking(house, request=make_request(key=key), gone=lambda gone=gone: gone)
            for gone in (True, False)
        ]
        futures = begin(house, *same)
        house.pass_time(1)
        house.authority.go.set()
        assert [future.result(30).source for future in futures] == ["issued", "joined"]

    def test_very_many_who_have_joined(self, house: House) -> None:
        """Of thousands who ask for what runs already, and hang up, hundreds at most are remembered."""
        key = ec.generate_private_key(ec.SECP256R1())
        request = make_request(key=key)
        (waiting,) = begin(house, asking(house, request=request))
        wait_for(lambda: len(house.authority.orders) == 1)
        gone = begin(house, *(asking(house, request=request, gone=lambda: True) for _ in range(2000)))
        (running,) = house.issuance._table._running.values()
        assert len(running.waiting) <= 300
        assert sum(future.done() for future in gone) > 1700
        house.authority.go.set()
        assert waiting.result(30).source == "issued"

    def test_they_are_answered_at_a_stop(self, house: House) -> None:
        """Whose order runs is answered at once then, and finds the certificate in the storage later."""
        asked = asking(house, gone=lambda: True)
        gone, waiting = begin(house, asked, asking(house, "B"))
        wait_for(lambda: len(house.authority.orders) == 2)
        house.issuance.let_go()
        assert isinstance(gone.exception(30), ClientGone)
        assert not waiting.done()
        house.authority.go.set()
        assert waiting.result(30).source == "issued"
        wait_for(lambda: asked.request.key_digest in house.storage.chains)

    def test_a_stop_does_not_wait_for_them(self, house: House) -> None:
        """To drain is to wait for those that have not hung up."""
        begin(house, asking(house, gone=lambda: True))
        wait_for(lambda: len(house.authority.orders) == 1)
        house.issuance.drain(house.time.clock().deadline(30))


class TestLate:
    """The time of a client counts from the arrival of its request, and goes on while it waits."""

    def test_since_its_arrival(self, house: House) -> None:
        """What passed before the request was complete counts."""
        occupy(house)
        house.pass_time(50)
        (future,) = begin(house, asking(house, arrived=house.time.seconds - 60))
        house.pass_time(SECONDS - 61)
        assert not future.done()
        house.pass_time(1)
        error = future.exception(30)
        assert isinstance(error, DeadlinePassed)
        assert error.retry_after
        assert "its turn has not come" in str(error)
        assert len(house.authority.orders) == 1

    def test_many_at_the_same_moment(self, house: House) -> None:
        """When the time of all is over at once, the end of one lets none of the others begin."""
        futures = begin(house, *(asking(house) for _ in range(5)))
        wait_for(lambda: len(house.authority.orders) == 1)
        house.pass_time(SECONDS - 0.001)
        house.pass_time(0.001)
        assert all(isinstance(future.exception(30), DeadlinePassed) for future in futures)
        settle(house.loop)
        assert len(house.authority.orders) == 1

    def test_a_stored_chain(self, house: House) -> None:
        """Who has a valid chain gets that."""
        occupy(house)
        request = make_request()
        house.storage.chains[request.key_digest] = make_chain(request, days=3)
        (future,) = begin(house, asking(house, request=request, arrived=house.time.seconds - 60))
        house.pass_time(SECONDS - 60)
        assert future.result(30).source == "stale"


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("-", "None", False),
    ],
)
def test_whose_share(house: House, one: str, other: str, is_same: bool) -> None:
    """An IPv6 network is one client: a machine has more addresses of it than there are places."""
    owners = {asking(house, client=client).owner for client in (one, other)}
    assert (len(owners) == 1) is is_same


class TestFull:
    """A queue is bounded, and who has the most in it makes room."""

    def test_who_comes_too_much(self, house: House) -> None:
        """The client that has filled the queue is refused, with the time to ask again; others are not."""
        occupy(house, "A", "B")
        flood = begin(house, *(asking(house) for _ in range(10)))
        assert [future.done() for future in flood[:4]] == [False] * 4
        error = flood[-1].exception(30)
        assert isinstance(error, QueueFull)
        assert error.retry_after
        (other,) = begin(house, asking(house, "B"))
        assert isinstance(flood[3].exception(30), QueueFull)
        assert not other.done()
        house.authority.go.set()
        assert other.result(30).source == "issued"

    @pytest.mark.threat("issuing", "requests that hang and are abandoned")
    def test_memory_is_bounded(self, house: House) -> None:
        """Of thousands that ask and hang up, no more are remembered than may wait."""
        key = ec.generate_private_key(ec.SECP256R1())
        futures = begin(
            house,
            *(
                asking(house, request=make_request(f"{number}.example.org", key=key), gone=lambda: True)
                for number in range(2000)
            ),
        )
        assert len(house.issuance._table) <= 5
        assert sum(not future.done() for future in futures) <= 5
        house.pass_time(1)
        assert len(house.issuance._table) == 1

    def test_a_stored_chain(self, house: House) -> None:
        """Who is refused gets its stored chain, if that is valid."""
        occupy(house)
        begin(house, *(asking(house) for _ in range(4)))
        request = make_request()
        house.storage.chains[request.key_digest] = make_chain(request, days=3)
        (future,) = begin(house, asking(house, request=request))
        assert future.result(30).source == "stale"

    def test_who_has_joined(self, house: House) -> None:
        """Another block's client that waits for the same keeps its place when that one is refused."""
        occupy(house, "A", "B")
        begin(house, *(asking(house) for _ in range(3)))
        key = ec.generate_private_key(ec.SECP256R1())
        mine, joined = begin(house, *(asking(house, block, request=make_request(key=key)) for block in "AB"))
        begin(house, asking(house, "C"), asking(house, "C"))  # the first has a place of its own
        assert isinstance(mine.exception(30), QueueFull)
        house.authority.go.set()
        assert joined.result(30).source == "issued"

    def test_after_a_stop(self, house: House) -> None:
        """A closed loop refuses as well, and nobody is left waiting."""
        occupy(house)
        futures = begin(house, *(asking(house) for _ in range(4)))
        house.loop.close()
        futures += begin(house, *(asking(house) for _ in range(4)))
        assert all(future.exception(30) for future in futures)


class TestLog:
    """What comes in thousands is told in sums."""

    def test_sums(self, house: House, caplog: pytest.LogCaptureFixture) -> None:
        """One line a block, and a minute until the next."""
        occupy(house)
        begin_together(house, *(asking(house, gone=lambda: True) for _ in range(10)))
        house.pass_time(1)
        refused, given_up = "6 refused because too many wait", "4 given up because their clients had hung up"
        assert caplog.messages == [f"requests of auth block 'A': {refused}, {given_up}"]
        begin(house, *(asking(house, gone=lambda: True) for _ in range(3)))
        house.pass_time(30)
        assert len(caplog.messages) == 1
        house.pass_time(31)
        assert caplog.messages[1:] == [
            "requests of auth block 'A': 3 given up because their clients had hung up"
        ]

    def test_nobody_looks_at_an_empty_queue(self, house: House) -> None:
        """Where nothing waits and all is told, nothing happens any more."""
        occupy(house)
        begin(house, asking(house, gone=lambda: True))
        house.pass_time(1)
        house.pass_time(61)
        assert not house.issuance._table._is_looked_at
