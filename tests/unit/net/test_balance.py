"""Several processes at the same sockets: who accepts."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from tests.listening import Application, Time

from acmems.net.address import Address
from acmems.net.http import HttpService
from acmems.net.listening import AcceptBalance, ConnectionCounts, Listener
from acmems.net.listening.balance import ABSENT, SLACK


class TestCounts:
    def test_who_has_least_accepts(self) -> None:
        """A process is ahead that has more than one connection more than another."""
        counts = ConnectionCounts(3)
        first, second = AcceptBalance(counts, 0), AcceptBalance(counts, 1)
        assert not first.is_ahead(100)  # it is alone
        second.note(5)
        assert [first.is_ahead(count) for count in (5, 5 + SLACK, 5 + SLACK + 1)] == [False, False, True]

    def test_who_accepts_nothing_is_left_out(self) -> None:
        """A process that leaves, and a place that nobody has, hold up nobody."""
        counts = ConnectionCounts(2)
        second = AcceptBalance(counts, 1)
        second.note(0)
        assert AcceptBalance(counts, 0).is_ahead(10)
        second.note(None)
        assert not AcceptBalance(counts, 0).is_ahead(10)
        assert counts.least == ABSENT

    def test_a_forked_process_shares_them(self) -> None:
        """What a process notes is seen by those that were forked from the same one."""
        counts = ConnectionCounts(2)
        child = os.fork()
        if child == 0:
            counts.note(1, 7)
            os._exit(0)
        os.waitpid(child, 0)
        assert counts.least == 7


class Pair:
    """A listener, and what the other process has."""

    def __init__(self) -> None:
        self.time = Time()
        self.counts = ConnectionCounts(2)
        self.listener = Listener(
            "mgmt",
            [Address("127.0.0.1", 0)],
            HttpService(Application()),
            balance=AcceptBalance(self.counts, 0),
            clock=self.time.clock,
        )
        self.listener.bind()
        self.clients: list[socket.socket] = []

    def connect(self, clients: int) -> None:
        for _ in range(clients):
            self.clients.append(socket.create_connection(("127.0.0.1", self.listener.addresses[0].port)))

    def turns(self) -> None:
        """Let the listener do all that it can do at this moment."""
        while self.listener.turn():
            pass


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A listener whose thread is not started."""
    pair = Pair()
    yield pair
    pair.listener.close()
    for each in pair.clients:
        each.close()


class TestAccepting:
    def test_it_gives_way_for_a_moment(self, pair: Pair) -> None:
        """Who has more leaves newcomers to the other one, and accepts them when that does not."""
        pair.counts.note(1, 0)
        pair.connect(SLACK + 1)
        pair.turns()
        assert pair.listener.occupied == SLACK + 1
        pair.connect(1)
        pair.turns()
        assert pair.listener.occupied == SLACK + 1
        pair.time.now += 0.01
        pair.turns()
        assert pair.listener.occupied == SLACK + 2

    def test_no_more_than_another_process_has(self, pair: Pair) -> None:
        """Of many who come at once, it accepts only as many as the balance allows."""
        pair.counts.note(1, 1)
        pair.connect(8)
        pair.turns()
        assert pair.listener.occupied == 1 + SLACK + 1

    def test_it_accepts_as_others_come_up(self, pair: Pair) -> None:
        """Who does not have more accepts at once."""
        pair.counts.note(1, 10)
        pair.connect(8)
        pair.turns()
        assert pair.listener.occupied == 8

    def test_others_know_its_count(self, pair: Pair) -> None:
        """The count follows what is open, and is gone when nothing more is accepted."""
        pair.connect(3)
        pair.turns()
        assert pair.counts.least == 3
        pair.clients.pop().close()
        while pair.listener.occupied == 3:
            pair.listener.turn()
        assert pair.counts.least == 2
        pair.listener.stop_accepting()
        assert pair.counts.least == ABSENT


def test_listeners_of_one_process_count_together() -> None:
    """A process with two listeners is as busy as both of them are, and accepts while one of them does."""
    counts = ConnectionCounts(2)
    plain = AcceptBalance(counts, 0)
    encrypted, other = plain.sibling(), AcceptBalance(counts, 1)
    other.note(3)
    plain.note(2)
    encrypted.note(2)
    assert counts.least == 3
    assert plain.is_ahead(3)
    assert not plain.is_ahead(2)
    encrypted.note(None)
    assert counts.least == 2
    assert not plain.is_ahead(3)
    plain.note(None)
    assert other.is_ahead(3) is False
    assert counts.least == 3
