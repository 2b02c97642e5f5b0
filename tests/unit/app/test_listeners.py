"""The listeners of one configuration after the other, over real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from tests.fake_ca import FakeValidator
from tests.listening import Application, Client, Time, later, post, reply
from tests.peers import free_port, wait_until

from acmems.app.listeners import GRACE_SECONDS, LEAVING_SECONDS, Listeners
from acmems.app.plans import PlannedListener
from acmems.challenges import Validator
from acmems.net.address import Address
from acmems.net.http import HttpService
from acmems.net.listening import ListenerPlan
from acmems.system.clock import SYSTEM

LOOPBACK = "127.0.0.1"


class House:
    """Listeners, the validators that are in use, and time."""

    def __init__(self) -> None:
        self.time = Time()
        self.listeners = Listeners(self.time.clock)
        self.application = Application()
        self.used: list[Validator] = []

    def planned(self, name: str, *ports: int, validator: Validator | None = None) -> PlannedListener:
        addresses = tuple(Address(LOOPBACK, port) for port in ports)
        plan = ListenerPlan(name, addresses, HttpService(self.application))
        return PlannedListener(plan, validator, is_for_clients=name == "mgmt")

    def become(self, *planned: PlannedListener) -> None:
        self.listeners.commit(self.listeners.prepare(planned))

    def retire(self) -> bool:
        """Let go of what is not needed any more, some time after a change."""
        self.time.now += GRACE_SECONDS
        return self.listeners.retire(lambda validator: validator in self.used)

    @property
    def names(self) -> list[str]:
        return [listener.name for listener in self.listeners.all]


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.listeners.close()


@pytest.fixture
def port() -> int:
    return free_port()


def connect(port: int) -> Client:
    return Client(socket.create_connection((LOOPBACK, port), 10))


def is_open(port: int) -> bool:
    try:
        connect(port).socket.close()
    except ConnectionRefusedError:
        return False
    return True


def test_nothing_serves_before_the_start(house: House, port: int) -> None:
    """Addresses are taken at once; who connects is answered after the start."""
    house.listeners.commit(house.listeners.prepare([house.planned("mgmt", port)]), start=False)
    client = connect(port)
    client.send(post())
    assert client.silent
    house.listeners.start()
    assert client.answer()[0] == "200"


def test_what_stays_keeps_its_connections(house: House, port: int) -> None:
    """The same section is the same listener, with its thread and its connections."""
    house.become(house.planned("mgmt", port))
    (listener,) = house.listeners.all
    client = connect(port)
    assert client.ask(post())[0] == "200"
    house.become(house.planned("mgmt", port), house.planned("web", free_port(), validator=FakeValidator()))
    assert house.names == ["mgmt", "web"]
    assert house.listeners.all[0] is listener
    assert client.ask(post())[0] == "200"
    assert house.listeners.addresses[0] == f"mgmt {LOOPBACK}:{port}"


def test_clients_get_their_answers_at_the_end(house: House, port: int) -> None:
    """Only those who ask for certificates are waited for, and the CA is answered meanwhile."""
    web = free_port()
    house.become(house.planned("mgmt", port), house.planned("web", web, validator=FakeValidator()))
    asked_already, ca = connect(port), connect(web)
    assert [each.ask(post())[0] for each in (asked_already, ca)] == ["200", "200"]
    assert not house.listeners.drain(house.time.clock.deadline(0))
    house.listeners.stop_accepting()
    asked_already.socket.close()
    assert house.listeners.drain(SYSTEM.deadline(30))
    assert ca.ask(post())[0] == connect(web).ask(post())[0] == "200"


def test_an_address_is_left_after_a_grace(house: House, port: int) -> None:
    """An address that clients asked at is closed a moment later."""
    second = free_port()
    house.become(house.planned("mgmt", port))
    house.become(house.planned("mgmt", second))
    assert not house.listeners.retire(lambda _: False)
    assert is_open(port)
    assert house.retire()
    assert not is_open(port)
    assert is_open(second)


def test_a_validator_in_use_keeps_its_address(house: House, port: int) -> None:
    """As long as an order may present something by a validator, the CA finds it where it was."""
    old, new, second = FakeValidator(), FakeValidator(), free_port()
    house.used.append(old)
    house.become(house.planned("web", port, validator=old))
    house.become(house.planned("web", second, validator=new))
    assert not house.retire()
    house.become(house.planned("web", second, validator=new))
    assert not house.retire()
    assert is_open(port)
    house.used.clear()
    assert house.retire()
    assert not is_open(port)
    assert is_open(second)


def test_a_section_that_is_gone(house: House, port: int) -> None:
    """Its listener ends when no validator of it is in use, and its requests are answered."""
    house.application.on_run = later
    validator = FakeValidator()
    house.used.append(validator)
    house.become(house.planned("web", port, validator=validator))
    house.become()
    assert not house.retire()
    client = connect(port)
    client.send(post("/last"))
    exchange = house.application.wait_for(1)
    house.used.clear()
    assert not house.retire()
    assert not is_open(port)
    assert house.names == ["web"]
    reply(exchange)
    assert client.answer()[0] == "200"
    client.socket.close()
    wait_until(house.retire, "it has ended")
    assert house.names == []


def test_a_request_that_never_ends(house: House, port: int) -> None:
    """A listener that no section has ends in any case after some time."""
    house.application.on_run = later
    house.become(house.planned("mgmt", port))
    client = connect(port)
    client.send(post())
    house.application.wait_for(1)
    house.become()
    assert not house.retire()
    house.time.now += LEAVING_SECONDS
    assert house.retire()
    assert house.names == []


def test_a_section_that_comes_back(house: House, port: int) -> None:
    """A section that is there again while its last listener ends has a new one."""
    house.application.on_run = later
    house.become(house.planned("mgmt", port))
    client = connect(port)
    client.send(post())
    house.application.wait_for(1)
    house.become()
    house.retire()
    house.become(house.planned("mgmt", port))
    assert house.names == ["mgmt", "mgmt"]
    assert is_open(port)


def test_a_section_that_comes_back_at_once(house: House, port: int) -> None:
    """A section that is there again before its listener has ended goes on with it."""
    house.become(house.planned("mgmt", port))
    (listener,) = house.listeners.all
    house.become()
    house.become(house.planned("mgmt", port))
    house.retire()
    assert house.listeners.all == (listener,)
    assert is_open(port)


def test_addresses_change_hands(house: House, port: int) -> None:
    """An address goes to another section with its socket, so that nobody is refused meanwhile."""
    second, validator = free_port(), FakeValidator()
    house.become(house.planned("mgmt", port), house.planned("web", second, validator=validator))
    house.used.append(validator)
    bound = [each.socket for listener in house.listeners.all for each in listener.bound]
    house.become(house.planned("mgmt", second), house.planned("web", port, validator=validator))
    assert [each.socket for listener in house.listeners.all for each in listener.bound] == bound[::-1]
    house.retire()
    assert is_open(port)
    assert is_open(second)


def test_what_cannot_be_bound_changes_nothing(house: House, port: int) -> None:
    """Where one address cannot be had, those before it are let go, and all is as it was."""
    free = free_port()
    house.become(house.planned("mgmt", port))
    with socket.create_server((LOOPBACK, 0)) as taken:
        wanted = house.planned("mgmt", free), house.planned("web", taken.getsockname()[1])
        with pytest.raises(OSError, match="cannot listen"):
            house.listeners.prepare(wanted)
    assert not is_open(free)
    assert is_open(port)
    assert house.names == ["mgmt"]
