"""A CA with several addresses, some of which do not answer (RFC 8305)."""

from __future__ import annotations

import socket
import ssl
from concurrent.futures import Future
from typing import Any

import pytest
from tests.steps import PATIENCE, LoopTime, begin, in_loop, settle, wait_for
from tests.tls_server import Serve, Server, asking, unanswering

from acmems.issuers.acme.session.connection import Failure
from acmems.issuers.acme.session.sockets.race import (
    HANDSHAKE,
    MEMORY,
    STAGGER,
    Addresses,
    Lane,
    Place,
    Race,
)
from acmems.issuers.acme.session.transport import Transport
from acmems.system.clock import Clock, Deadline
from acmems.system.steps import Signal, Steps

pytestmark = pytest.mark.timeout(30)

FOUR, SIX = socket.AF_INET, socket.AF_INET6


def place(name: str) -> Place:
    return (SIX if ":" in name else FOUR, (name, 443))


def places(*names: str) -> list[Place]:
    return [place(name) for name in names]


class TestOrder:
    """In which order addresses are tried."""

    def setup_method(self) -> None:
        self.now = 1000.0
        self.addresses = Addresses(Clock(monotonic=lambda: self.now))

    def sorted(self, *names: str) -> list[str]:
        return [found[1][0] for found in self.addresses.sort(places(*names))]

    def test_families_alternate(self) -> None:
        """The family that the system prefers comes first, then one of each in turn (section 4)."""
        assert self.sorted("a::1", "a::2", "a::3", "1.1.1.1", "2.2.2.2") == [
            *("a::1", "1.1.1.1", "a::2", "2.2.2.2", "a::3")
        ]
        assert self.sorted("1.1.1.1", "2.2.2.2", "a::1") == ["1.1.1.1", "a::1", "2.2.2.2"]
        assert self.sorted("1.1.1.1", "1.1.1.1", "2.2.2.2") == ["1.1.1.1", "2.2.2.2"]
        assert self.sorted() == []

    def test_what_worked_comes_first(self) -> None:
        """The address that won comes first; where the CA has new addresses, those of its family do."""
        self.addresses.note(place("2.2.2.2"))
        assert self.sorted("a::1", "a::2", "1.1.1.1", "2.2.2.2") == ["2.2.2.2", "a::1", "1.1.1.1", "a::2"]
        assert self.sorted("a::1", "a::2", "3.3.3.3") == ["3.3.3.3", "a::1", "a::2"]

    def test_it_is_remembered_for_a_while(self) -> None:
        """However often IPv4 has worked, IPv6 gets another chance after ten minutes."""
        for _ in range(10):
            self.addresses.note(place("1.1.1.1"))
            assert self.sorted("a::1", "1.1.1.1")[0] == "1.1.1.1"
            self.now += MEMORY / 10
        assert self.sorted("a::1", "1.1.1.1")[0] == "a::1"
        self.addresses.note(place("1.1.1.1"))
        assert self.sorted("a::1", "1.1.1.1")[0] == "1.1.1.1"


class Course:
    """A race whose lanes end as a test says."""

    def __init__(self, time: LoopTime, limit: float = 30.0) -> None:
        self.time = time
        self.begun: list[str] = []
        self.lanes: dict[str, Lane] = {}
        self._signals: dict[str, Signal] = {}
        self._errors: dict[str, BaseException | None] = {}
        self.race = Race(time.loop, self._connect, time.loop.clock.deadline(limit))

    def run(self, *names: str) -> Future[tuple[Lane, Place]]:
        return begin(self.time.loop, self.race.run(places(*names)))

    def end(self, name: str, error: BaseException | None = None) -> None:
        self._errors[name] = error
        in_loop(self.time.loop, self._signals[name].set)
        settle(self.time.loop)

    def _connect(self, lane: Lane, at: Place, limit: Deadline) -> Steps[None]:
        name = at[1][0]
        self.begun.append(name)
        self.lanes[name] = lane
        signal = self._signals[name] = Signal()
        lane.abort = signal.set  # type: ignore[method-assign] # there is no socket
        yield signal.wait()
        if error := self._errors.get(name):
            raise error


NAMES = ("a::1", "1.1.1.1", "a::2")


class TestRace:
    """Who begins when, and who wins."""

    def test_each_begins_a_quarter_of_a_second_after_the_last(self, time: LoopTime) -> None:
        """One that says nothing is not waited for: the next is tried beside it (section 5)."""
        course = Course(time)
        future = course.run(*NAMES)
        assert course.begun == ["a::1"]
        time.move(STAGGER - 0.01)
        assert course.begun == ["a::1"]
        time.move(0.01)
        assert course.begun == ["a::1", "1.1.1.1"]
        time.move(STAGGER)
        assert course.begun == list(NAMES)
        course.end("1.1.1.1")
        assert future.result(PATIENCE) == (course.lanes["1.1.1.1"], place("1.1.1.1"))

    def test_one_that_fails_is_not_waited_for(self, time: LoopTime) -> None:
        """Where the last one that began has failed, the next begins at once."""
        course = Course(time)
        future = course.run(*NAMES)
        course.end("a::1", ConnectionRefusedError())
        assert course.begun == ["a::1", "1.1.1.1"]
        course.end("1.1.1.1", OSError())
        assert course.begun == list(NAMES)
        course.end("a::2", ConnectionResetError("the last one"))
        assert isinstance(future.exception(PATIENCE), ConnectionResetError)

    def test_one_that_answers_has_longer(self, time: LoopTime) -> None:
        """TLS takes a CA that is far away more than a quarter of a second; one that hangs in it costs two."""
        course = Course(time)
        course.run(*NAMES)
        course.lanes["a::1"].is_reached = True
        time.move(HANDSHAKE - 0.01)
        assert course.begun == ["a::1"]
        time.move(0.01)
        assert course.begun == ["a::1", "1.1.1.1"]

    def test_the_first_one_may_win_late(self, time: LoopTime) -> None:
        """One that was slow is still in the race, and those that began later end."""
        course = Course(time)
        future = course.run(*NAMES)
        time.move(STAGGER)
        course.end("a::1")
        assert future.result(PATIENCE)[1] == place("a::1")
        settle(time.loop)
        assert len(time.loop._tasks) <= 1  # that of `settle` itself
        time.move(10.0)
        assert course.begun == ["a::1", "1.1.1.1"]

    @pytest.mark.parametrize("error", [ssl.SSLCertVerificationError(1, "expired"), RuntimeError("a bug")])
    def test_what_no_other_address_makes_up_for(self, time: LoopTime, error: BaseException) -> None:
        """A certificate that is not trusted ends the race, whoever is in it."""
        course = Course(time)
        future = course.run(*NAMES)
        time.move(STAGGER)
        course.end("1.1.1.1", error)
        assert future.exception(PATIENCE) is error
        assert course.begun == ["a::1", "1.1.1.1"]

    def test_the_time_is_over(self, time: LoopTime) -> None:
        """Nobody races longer than the request may take."""
        course = Course(time, limit=5.0)
        future = course.run("a::1")
        time.move(5.0)
        assert isinstance(future.exception(PATIENCE), TimeoutError)

    def test_it_is_aborted(self, time: LoopTime) -> None:
        """An end from outside ends all lanes, and begins none."""
        course = Course(time)
        future = course.run(*NAMES)
        in_loop(time.loop, course.race.abort)
        assert isinstance(future.exception(PATIENCE), ConnectionAbortedError)
        assert course.begun == ["a::1"]


class TestConnections:
    """The same with sockets."""

    @pytest.fixture
    def found(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
        """Give the list of the addresses that every host has."""
        found: list[tuple[str, int]] = []
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda *_, **__: [(FOUR, 1, 6, "", where) for where in found]
        )
        return found

    def begin(self, transport: Transport, server: Server) -> Future[Any]:
        deadline = transport._loop.clock.deadline(1000)
        return begin(transport._loop, asking(transport, server.url, deadline))

    def test_a_black_hole(self, serve: Serve, time: LoopTime, found: list[tuple[str, int]]) -> None:
        """An address that swallows all packets costs a quarter of a second, once; nothing of it is left."""
        server = serve()
        transport = server.transport(loop=time.loop)
        with unanswering() as hole:
            found += [(hole.host, hole.port), (server.origin.host, server.origin.port)]
            first = self.begin(transport, server)
            assert server.connections == 0
            time.move(STAGGER)
            assert first.result(PATIENCE).body == b"ok"
            settle(time.loop)
            wait_for(lambda: len(time.loop._watched) == 1)
            time.move(60.0)  # so that the connection is made anew
            assert self.begin(transport, server).result(PATIENCE).body == b"ok"
            assert server.connections == 2

    def test_all_are_black_holes(self, serve: Serve, time: LoopTime, found: list[tuple[str, int]]) -> None:
        """Where none answers, that is what is said, when one request's time is over."""
        server = serve()
        transport = server.transport(loop=time.loop)
        with unanswering() as one, unanswering() as another:
            found += [(one.host, one.port), (another.host, another.port)]
            request = self.begin(transport, server)
            for _ in range(3):
                time.move(9.9)
            failure = request.exception(PATIENCE)
        assert isinstance(failure, Failure)
        assert (str(failure), failure.sent) == (f"the CA at {server.origin}: no answer in time", False)
        wait_for(lambda: not time.loop._watched)

    def test_it_ends_when_the_transport_is_closed(
        self, serve: Serve, time: LoopTime, found: list[tuple[str, int]]
    ) -> None:
        """A race that goes on when acmems stops ends at once."""
        server = serve()
        transport = server.transport(loop=time.loop)
        with unanswering() as one, unanswering() as another:
            found += [(one.host, one.port), (another.host, another.port)]
            request = self.begin(transport, server)
            time.move(STAGGER)
            transport.close()
            failure = request.exception(PATIENCE)
        assert isinstance(failure, Failure)
        assert "stopping" in str(failure)
        wait_for(lambda: not time.loop._watched)
