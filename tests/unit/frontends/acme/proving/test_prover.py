"""Validations side by side, and who waits for whom."""

from __future__ import annotations

import datetime
import ipaddress
import logging
import socket
import threading

import pytest

from acmems.frontends.acme.problems import AcmeProblem
from acmems.frontends.acme.proving import connecting
from acmems.frontends.acme.proving.connecting import Connector
from acmems.frontends.acme.proving.lookups import Lookups
from acmems.frontends.acme.proving.prover import Prover, ProverLimits
from acmems.frontends.acme.proving.rates import AddressRates
from acmems.frontends.acme.proving.validation import Validation
from acmems.issuing.limits import gcra
from acmems.net.address import IPAddress
from acmems.system.clock import SYSTEM, Clock, Deadline
from acmems.x509.identifiers import Identifier, named

SECONDS = 30.0


class Gate:
    """In the place of a check: each validation waits until the test lets all go on."""

    challenge_type = "http-01"

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.open = threading.Event()
        self.changed = threading.Condition()

    def check(self, validation: Validation, deadline: Deadline) -> None:
        with self.changed:
            self.begun.append(validation.account)
            self.changed.notify_all()
        assert self.open.wait(SECONDS)
        if validation.identifier.value == "bad.example.org":
            raise AcmeProblem("dns", "no such name")
        if validation.identifier.value == "busy.example.org":
            raise AcmeProblem("rateLimited", "too many")
        if validation.identifier.value == "bug.example.org":
            raise RuntimeError("a bug")

    def await_begun(self, number: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.begun) >= number, SECONDS)


def validation(account: str = "a", name: str = "x.example.org") -> Validation:
    return Validation("http-01", named(name), "token", "token.thumbprint", account)


def test_the_outcome_says_why_a_validation_failed(caplog: pytest.LogCaptureFixture) -> None:
    """None for success; a bug is logged, and ends nothing else."""
    gate = Gate()
    gate.open.set()
    prover = Prover([gate])
    assert prover.prove(validation()).result(SECONDS) is None
    failure = prover.prove(validation(name="bad.example.org")).result(SECONDS)
    assert failure is not None
    assert (failure.kind, failure.reason) == ("dns", "no such name")
    with caplog.at_level(logging.ERROR):
        failure = prover.prove(validation(name="bug.example.org")).result(SECONDS)
    assert failure is not None
    assert failure.kind == "serverInternal"
    assert "bug.example.org: a bug" in caplog.text
    assert prover.prove(validation()).result(SECONDS) is None


def test_what_could_not_be_looked_at_has_not_failed() -> None:
    """The challenge stays, and is looked at again."""
    gate = Gate()
    gate.open.set()
    outcome = Prover([gate]).prove(validation(name="busy.example.org"))
    assert isinstance(outcome.exception(SECONDS), AcmeProblem)


def test_without_a_thread_names_wait_for_the_next_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is lost, and the log says what is lacking."""
    gate = Gate()
    gate.open.set()
    prover = Prover([gate])

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as lacking:
        lacking.setattr(threading.Thread, "start", refuse)
        first = prover.prove(validation())
    assert "no thread can be had" in caplog.text
    assert prover.prove(validation("b")).result(SECONDS) is None
    assert first.result(SECONDS) is None


@pytest.mark.threat("proving inside", "floods by one account")
def test_one_account_does_not_take_all_threads() -> None:
    """The rest is for others, who do not wait behind what it has waiting."""
    gate = Gate()
    prover = Prover([gate], ProverLimits(threads=3, of_account=2))
    outcomes = [prover.prove(validation("greedy")) for _ in range(10)]
    gate.await_begun(2)
    outcomes.append(prover.prove(validation("modest")))
    gate.await_begun(3)
    assert sorted(gate.begun) == ["greedy", "greedy", "modest"]
    gate.open.set()
    assert [outcome.result(SECONDS) for outcome in outcomes] == [None] * 11


def test_accounts_take_turns() -> None:
    """Whoever has waited with one validation comes before the second one of another."""
    gate = Gate()
    prover = Prover([gate], ProverLimits(threads=1, of_account=1))
    outcomes = [prover.prove(validation(account)) for account in ("a", "a", "a", "b", "b", "c")]
    gate.open.set()
    for outcome in outcomes:
        outcome.result(SECONDS)
    assert gate.begun == ["a", "a", "b", "c", "a", "b"]


@pytest.mark.threat("proving inside", "floods by one account")
def test_what_waits_is_bounded() -> None:
    """For one account, and for all: whoever comes then is told to come again, and the challenge stays."""
    gate = Gate()
    prover = Prover([gate], ProverLimits(threads=1, of_account=1, waiting=3, waiting_of_account=2))
    for account in ("a", "a", "a"):
        prover.prove(validation(account))
    with pytest.raises(AcmeProblem) as caught:
        prover.prove(validation("a"))
    assert caught.value.kind == "rateLimited"
    prover.prove(validation("b"))
    with pytest.raises(AcmeProblem):
        prover.prove(validation("c"))
    gate.open.set()


def test_at_a_stop_what_waits_is_given_up_and_nothing_is_said_of_it() -> None:
    """The challenges stay as they are, for the next start."""
    gate = Gate()
    prover = Prover([gate], ProverLimits(threads=1, of_account=1))
    running, waiting = prover.prove(validation()), prover.prove(validation())
    gate.await_begun(1)
    prover.close()
    for outcome in (waiting, prover.prove(validation())):
        assert isinstance(outcome.exception(SECONDS), AcmeProblem)
    gate.open.set()
    assert running.result(SECONDS) is None


class Time:
    def __init__(self) -> None:
        self.seconds = 1000.0
        self.waits: list[float] = []

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits.append(seconds)
        self.seconds += seconds
        return event.is_set()

    def clock(self) -> Clock:
        return Clock(lambda: self.seconds, lambda: datetime.datetime.now(datetime.UTC), self.wait)


def test_connections_to_one_address_are_counted() -> None:
    """Those of one account, and those of all; what one address has does not count for another."""
    time = Time()
    rates = AddressRates(time.clock(), gcra.Rate(2, 2000), gcra.Rate(3, 3000))
    first, second = ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("2001:db8::1")
    assert [rates.take("a", first) for _ in range(3)] == [0, 0, 1]
    assert rates.take("a", second) == 0
    assert [rates.take("b", first) for _ in range(2)] == [0, 1]
    time.seconds += 1
    assert rates.take("a", first) == 0


@pytest.mark.threat("proving inside", "floods by one account")
def test_whoever_connects_too_often_waits_and_then_is_told() -> None:
    """Up to the deadline of the validation: bursts are spread out, floods are refused."""
    time = Time()
    clock = time.clock()
    rates = AddressRates(clock, gcra.Rate(1, 2000), gcra.Rate(9, 9000))
    connector = Connector(Lookups(), rates=rates, clock=clock)
    address = ipaddress.ip_address("192.0.2.1")
    connector._await_turn("a", address, clock.deadline(5))
    connector._await_turn("a", address, clock.deadline(5))
    assert time.waits == [2.0]
    with pytest.raises(AcmeProblem) as caught:
        connector._await_turn("a", address, clock.deadline(1))
    assert caught.value.kind == "rateLimited"


def test_no_more_addresses_of_a_name_are_tried_than_a_few() -> None:
    """Both families in turn, IPv6 first: a name with a thousand addresses is no way to scan a network."""

    class Many(Lookups):
        def addresses(
            self, host: str, deadline: Deadline
        ) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...]:
            sixes = tuple(ipaddress.IPv6Address(f"2001:db8::{n}") for n in range(1, 100))
            return (*sixes, *(ipaddress.IPv4Address(f"192.0.2.{n}") for n in range(1, 100)))

    allowed = Connector(Many())._allowed(Identifier.dns("a.example.org"), 80, Deadline(1e9))
    assert list(map(str, allowed)) == ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2"]


def test_how_often_is_kept_for_so_many_addresses_and_no_more() -> None:
    """A stranger with a network of 64 bits does not fill the memory."""
    rates = AddressRates(Time().clock())
    for number in range(3000):
        rates.take("a", ipaddress.IPv6Address(number))
    assert len(rates._instants) <= 4096


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError(), "does not answer"),
        (ConnectionRefusedError(), "refuses the connection"),
        (OSError(113, "No route to host"), "cannot be reached"),
    ],
)
def test_each_of_the_addresses_of_a_name_is_tried(
    monkeypatch: pytest.MonkeyPatch, error: OSError, words: str
) -> None:
    """And the client is told of the last one."""
    tried: list[str] = []

    def fail(address: tuple[str, int], timeout: float) -> None:
        tried.append(address[0])
        assert 0 < timeout <= 4
        raise error

    class Two(Lookups):
        def addresses(self, host: str, deadline: Deadline) -> tuple[IPAddress, ...]:
            return (ipaddress.ip_address("2001:db8::1"), ipaddress.ip_address("192.0.2.1"))

    monkeypatch.setattr(socket, "create_connection", fail)
    with pytest.raises(AcmeProblem) as caught:
        Connector(Two()).connect(named("a.example.org"), 80, "a", SYSTEM.deadline(30))
    assert tried == ["2001:db8::1", "192.0.2.1"]
    assert caught.value.kind == "connection"
    assert caught.value.reason.endswith(f"192.0.2.1:80 {words}")


def test_the_own_addresses_are_those_that_packets_to_them_come_from() -> None:
    """What cannot be sent to is none."""
    assert connecting._is_own(ipaddress.ip_address("127.0.0.1"))
    assert not connecting._is_own(ipaddress.ip_address("255.255.255.255"))
