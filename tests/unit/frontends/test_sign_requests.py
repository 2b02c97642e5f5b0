"""Requests to sign at a listener: what is kept of them while they wait, and whose turn it is."""

from __future__ import annotations

import datetime
from concurrent.futures import Future

import pytest
from tests.auth_blocks import block
from tests.chains import make_chain, make_request
from tests.listening import Bench, Client

from acmems.auth import Authenticator
from acmems.events import Bus, DeliveredEvent, Event
from acmems.exceptions import CAUnavailable
from acmems.frontends.delivery import SigningPolicy
from acmems.frontends.sign import SignFrontEnd
from acmems.issuing.renewal.times import RenewalOutlook, RenewalTimes
from acmems.issuing.requests import AcceptedRequest, Delivery
from acmems.net.http import HttpService
from acmems.net.http.connection import HttpConnection
from acmems.storages import Storage
from acmems.x509.chain import Chain

REQUEST = make_request("www.example.org")
CHAIN = make_chain(REQUEST)
NEIGHBOUR, OTHER = "192.0.2.66", "192.0.2.8"


class Waiting:
    """In the place of an issuance: whoever asks waits until the test has an outcome."""

    def __init__(self) -> None:
        self.futures: list[Future[Delivery]] = []

    def issue(self, _: AcceptedRequest) -> Future[Delivery]:
        self.futures.append(Future())
        return self.futures[-1]

    def identities(self, _: AcceptedRequest) -> dict[str, str]:
        raise NotImplementedError

    def outlook(self, chain: Chain, storage: Storage, now: datetime.datetime) -> RenewalOutlook:
        return RenewalTimes().outlook(chain, storage, now)


class House:
    """A listener for requests to sign, and all that is told of them."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        bus = Bus()
        bus.subscribe(self.events.append)
        self.issuance = Waiting()
        anyone = Authenticator((block(("domain", "**"), ("ip", OTHER), ("ip", NEIGHBOUR)),))
        policy = SigningPolicy(anyone, 100.0, "dropped")
        self.bench = Bench()
        front_end = SignFrontEnd(lambda: policy, self.issuance, bus)
        self.bench.listener._service = HttpService(front_end)

    def ask(self, source: str, body: bytes = REQUEST.pem) -> Client:
        client = self.bench.connect(source)
        client.send(f"POST /sign HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        self.bench.go()
        return client


@pytest.fixture
def house() -> House:
    return House()


@pytest.mark.threat("fair shares", "thousands of connections")
def test_deliveries_take_turns_by_address(house: House) -> None:
    """Of a chain that many clients of one address wait for, others hear in their turn, not at the end."""
    for _ in range(50):
        house.ask(NEIGHBOUR)
    house.ask(OTHER)
    for future in house.issuance.futures:
        future.set_result(Delivery(CHAIN, "issued"))
    assert house.events == []  # nothing was done yet by whoever has the outcome
    house.bench.go()
    delivered = [event.client for event in house.events if isinstance(event, DeliveredEvent)]
    assert len(delivered) == 51
    assert delivered.index(OTHER) <= 1


def test_failures_take_turns_as_well(house: House) -> None:
    """What many are refused is told in turns, too."""
    clients = [house.ask(NEIGHBOUR) for _ in range(10)]
    for future in house.issuance.futures:
        future.set_exception(CAUnavailable("no", retry_after=5))
    assert house.events == []
    house.bench.go()
    assert {client.socket.recv(12) for client in clients} == {b"HTTP/1.1 503"}


@pytest.mark.threat("fair shares", "bodies that nobody has asked for")
def test_no_body_is_kept_while_a_ca_is_waited_for(house: House) -> None:
    """Once a request is read, its body is not kept."""
    house.ask(OTHER)
    open_ones = house.bench.listener.connections
    (connection,) = [one for one in open_ones if isinstance(one, HttpConnection) and one.peer[0] == OTHER]
    assert connection._current is not None
    assert connection._current.body == b""


@pytest.mark.threat("fair shares", "refusals without end")
@pytest.mark.parametrize(
    ("source", "body", "status", "ends"),
    [
        ("192.0.2.99", REQUEST.pem, b"403", True),
        (OTHER, b"nonsense", b"415", False),
    ],
    ids=["a stranger", "no request"],
)
def test_who_is_refused_as_a_stranger_needs_another_connection(
    house: House, source: str, body: bytes, status: bytes, ends: bool
) -> None:
    """After a 403 the connection ends; a client that may ask, and has sent something wrong, keeps its own."""
    client = house.ask(source, body)
    answer = client.socket.recv(65536)
    assert answer[9:12] == status
    assert (b"\r\nConnection: close\r\n" in answer) is ends
    assert client.silent is not ends


@pytest.mark.threat("fair shares", "refusals without end")
@pytest.mark.parametrize(
    ("source", "body"),
    [("192.0.2.99", REQUEST.pem), (OTHER, b"nonsense")],
    ids=["a stranger", "no request"],
)
def test_whatever_is_not_acceptable_counts(house: House, source: str, body: bytes) -> None:
    """Whoever is refused a lot has to wait, also for sending what is no CSR."""
    house.ask(source, body)
    assert house.bench.listener._refusals == {source: 1}
    house.ask(OTHER)
    assert house.bench.listener._refusals == {source: 1}
