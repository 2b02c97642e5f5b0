"""Waiting for records, with name servers that a test makes up; time is made up too."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping

import dns.exception
import dns.name
import pytest

from acmems.dns.client import propagation
from acmems.dns.client.delegations import ZoneServer
from acmems.dns.client.propagation import Propagation
from acmems.exceptions import ValidatorUnavailable
from acmems.net.address import Address
from acmems.system.clock import Clock, Deadline

RECORD = dns.name.from_text("_acme-challenge.www.example.org")
ZONE = dns.name.from_text("example.org")


class Time:
    """A clock that jumps ahead whenever somebody waits; what was waited for is kept."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []
        self.clock = Clock(monotonic=lambda: self.now, wait=self._wait)

    def _wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        return event.is_set()

    def deadline(self, seconds: float) -> Deadline:
        return self.clock.deadline(seconds)


class World:
    """Knows one zone with name servers of its own."""

    def __init__(self, hosts: Mapping[str, tuple[str, ...]]) -> None:
        self.hosts = hosts

    def end(self, name: dns.name.Name, *, follow: bool = True) -> tuple[dns.name.Name, dns.name.Name]:
        if follow and name == dns.name.from_text("alias.example.net"):
            name = RECORD
        assert name == RECORD
        return name, ZONE

    def servers(self, zone: dns.name.Name) -> tuple[ZoneServer, ...]:
        assert zone == ZONE
        return tuple(
            ZoneServer(dns.name.from_text(host), tuple(Address(each, 5353) for each in addresses))
            for host, addresses in self.hosts.items()
        )


Ask = Callable[[Address], str]


def wait(
    monkeypatch: pytest.MonkeyPatch,
    ask: Ask,
    *,
    hosts: Mapping[str, tuple[str, ...]] | None = None,
    name: dns.name.Name = RECORD,
    stopping: threading.Event | None = None,
) -> tuple[list[Address], list[float]]:
    """Wait for one record of the zone for 60 seconds; return who was asked, and the pauses."""
    asked: list[Address] = []

    def answer(server: Address, asked_for: dns.name.Name, values: frozenset[str], patience: float) -> str:
        assert (asked_for, values) == (RECORD, frozenset({"value"}))
        assert 0 < patience <= 2
        asked.append(server)
        return ask(server)

    monkeypatch.setattr(propagation, "_ask", answer)
    time = Time()
    waiting = Propagation("authoritative", clock=time.clock)
    world = World(hosts or {"a.example.org": ("192.0.2.1", "2001:db8::1"), "b.example.org": ("192.0.2.2",)})
    monkeypatch.setattr(waiting, "delegations", world)
    waiting.wait([(name, "value")], time.deadline(600), stopping or threading.Event())
    return asked, time.waits


@pytest.mark.parametrize("name", ["_acme-challenge.www.example.org", "alias.example.net"])
def test_every_address_of_every_name_server_is_asked(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """All addresses of all name servers of the zone are asked, where a CNAME leads; no time is lost."""
    asked, waits = wait(monkeypatch, lambda _: "", name=dns.name.from_text(name))
    assert list(map(str, asked)) == ["192.0.2.1:5353", "[2001:db8::1]:5353", "192.0.2.2:5353"]
    assert waits == []


def test_servers_that_show_the_record_are_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only who does not show the record yet is asked again, after pauses that grow up to two seconds."""
    answers = iter(["later"] * 20)
    asked, waits = wait(monkeypatch, lambda server: next(answers, "") if server.host == "192.0.2.2" else "")
    assert [server.host for server in asked[3:]] == ["192.0.2.2"] * 20
    assert waits[:3] == pytest.approx([0.02, 0.03, 0.045])
    assert waits[-1] == max(waits) == 2.0


def test_a_dead_address_is_forgiven_beside_one_that_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server with two addresses counts when one of them answers."""

    def ask(server: Address) -> str:
        if server.host == "2001:db8::1":
            raise OSError(101, "Network is unreachable")
        return ""

    _, waits = wait(monkeypatch, ask)
    assert waits == []


def test_a_dead_name_server_is_told_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server of which no address answers is named, with the record, when the time is over."""

    def ask(server: Address) -> str:
        if server.host == "192.0.2.2":
            raise OSError(111, "Connection refused")
        return ""

    with pytest.raises(ValidatorUnavailable) as caught:
        wait(monkeypatch, ask)
    assert str(caught.value) == (
        "TXT record _acme-challenge.www.example.org: name server b.example.org (192.0.2.2:5353) "
        "cannot be reached, waited 60 s; the record is removed, ask again to have it added anew"
    )
    assert "propagation-timeout" in caught.value.advice


def test_a_zone_without_reachable_name_servers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server without an address is an error that names it."""
    with pytest.raises(ValidatorUnavailable, match=r"name server a\.example\.org has no address"):
        wait(monkeypatch, lambda _: "", hosts={"a.example.org": ()})


def test_a_stop_ends_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the server stops, nobody waits any longer."""
    stopping = threading.Event()

    def ask(_: Address) -> str:
        stopping.set()
        return "later"

    with pytest.raises(ValidatorUnavailable, match="acmems stops"):
        wait(monkeypatch, ask, stopping=stopping)


def test_without_propagation_no_server_is_asked() -> None:
    """Without `propagation`, nothing is waited for and nobody is asked."""
    Propagation().wait([(RECORD, "value")], Time().deadline(0), threading.Event())


def test_resolvers_are_asked_until_all_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `recursive`, every resolver must show every value; one that fails is asked again."""
    answers = {
        "192.0.2.1": iter([frozenset({"value", "other"})]),
        "192.0.2.2": iter([None, frozenset({"other"}), frozenset({"value"})]),
    }

    class Resolving:
        def __init__(self, servers: tuple[Address, ...], timeout: float = 0) -> None:
            del timeout
            self.servers = servers

        def texts(self, name: dns.name.Name) -> frozenset[str]:
            assert name == RECORD
            assert asked[-1] == "", "a resolver was asked before the name servers had the record"
            texts = next(answers[self.servers[0].host])
            if texts is None:
                raise ValidatorUnavailable("resolver 192.0.2.2:53 fails")
            return texts

    def ask(*_: object) -> str:
        asked.append(next(served))
        return asked[-1]

    served = iter(["does not show it yet", ""])
    asked: list[str] = []
    monkeypatch.setattr(propagation, "Resolver", Resolving)
    monkeypatch.setattr(propagation, "_ask", ask)
    time = Time()
    resolvers = [Address("192.0.2.1", 53), Address("192.0.2.2", 53)]
    waiting = Propagation("recursive", resolvers, clock=time.clock)
    monkeypatch.setattr(waiting, "delegations", World({"a.example.org": ("192.0.2.3",)}))
    waiting.wait([(RECORD, "value")], time.deadline(60), threading.Event())
    assert asked == ["does not show it yet", ""]
    assert len(time.waits) == 3


@pytest.mark.parametrize("dead", [True, False])
def test_resolvers_are_all_there_is_behind_a_firewall(monkeypatch: pytest.MonkeyPatch, dead: bool) -> None:
    """With `recursive`, name servers that do not answer or are not found are passed by."""

    class Resolving:
        def __init__(self, *_: object) -> None:
            pass

        def texts(self, _: dns.name.Name) -> frozenset[str]:
            return frozenset({"value"})

    class Nobody:
        def end(self, *_: object, **__: object) -> tuple[dns.name.Name, dns.name.Name]:
            raise ValidatorUnavailable("nobody tells")

    def ask(*_: object) -> str:
        raise OSError(111, "Connection refused")

    monkeypatch.setattr(propagation, "Resolver", Resolving)
    monkeypatch.setattr(propagation, "_ask", ask)
    time = Time()
    waiting = Propagation("recursive", [Address("192.0.2.1", 53)], clock=time.clock)
    world = World({"a.example.org": ("192.0.2.3",)}) if dead else Nobody()
    monkeypatch.setattr(waiting, "delegations", world)
    waiting.wait([(RECORD, "value")], time.deadline(60), threading.Event())
    assert time.waits == []


def test_where_a_record_was_put_no_cname_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secondary that is behind may still show a wildcard's CNAME: it is asked where the record is."""
    monkeypatch.setattr(propagation, "_ask", lambda *_: "")
    time = Time()
    waiting = Propagation("authoritative", clock=time.clock)
    monkeypatch.setattr(waiting, "delegations", World({"a.example.org": ("192.0.2.3",)}))
    alias = dns.name.from_text("alias.example.net")
    waiting.wait([(alias, "value")], time.deadline(60), threading.Event(), {alias: RECORD})
    with pytest.raises(AssertionError):  # World has only one name: that it is asked for another shows
        waiting.wait([(alias, "value")], time.deadline(60), threading.Event(), {alias: alias})


def test_a_dead_address_costs_its_time_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many names there are, an address that does not answer is not asked for each of them."""
    asked: Counter[str] = Counter()

    def ask(server: Address, *_: object) -> str:
        asked[server.host] += 1
        if server.host == "192.0.2.1":
            raise dns.exception.Timeout
        return ""

    class Everything(World):
        def end(self, name: dns.name.Name, *, follow: bool = True) -> tuple[dns.name.Name, dns.name.Name]:
            return name, ZONE

    monkeypatch.setattr(propagation, "_ask", ask)
    time = Time()
    waiting = Propagation("authoritative", clock=time.clock)
    monkeypatch.setattr(waiting, "delegations", Everything({"a.example.org": ("192.0.2.1", "192.0.2.2")}))
    records = [(dns.name.from_text(f"n{number}.example.org"), "value") for number in range(200)]
    waiting.wait(records, time.deadline(60), threading.Event())
    assert asked["192.0.2.2"] == 200
    assert asked["192.0.2.1"] <= 16  # as many as are asked at the same time
