"""Whether this server and the CA agree on the time, and what it costs to know."""

from __future__ import annotations

import datetime
import email.utils
from datetime import timedelta

import pytest
from tests.fake_ca import CA, DIRECTORY, EPOCH, FakeSession, Said, Time, headers_of
from tests.steps import settle

from acmems.exceptions import (
    AcmeException,
    CAProblem,
    CAProtocolError,
    CAUnavailable,
    ClocksDiffer,
    DeadlinePassed,
)
from acmems.issuers.acme.certificates.clocks import COMPARED_SECONDS, DOUBTED_SECONDS, ClockComparison
from acmems.issuers.acme.session import Response
from acmems.system.clock import Clock
from acmems.system.steps import Signal, StepLoop

MINUTE = timedelta(minutes=1)


class Server:
    """A server and its CA, each with a clock of its own.

    Args:
        ahead: by how much the CA's clock is ahead; None where it does not say the time.
    """

    def __init__(self, ahead: timedelta | None) -> None:
        self.time = Time()
        self.wrong = timedelta()
        self.session = FakeSession({})
        self.say(ahead)
        clock = Clock(monotonic=lambda: self.time.seconds, now=self.now)
        self.comparison = ClockComparison(self.session, clock)

    def now(self) -> datetime.datetime:
        return EPOCH + timedelta(seconds=self.time.seconds) + self.wrong

    def say(self, ahead: timedelta | None) -> None:
        date = {} if ahead is None else {"Date": email.utils.format_datetime(self.now() + ahead, usegmt=True)}
        self.session.say(DIRECTORY, Said({}, date))

    def check(self) -> None:
        self.time.loop().run(self.comparison.check(self.time.within(60)))


class TestComparison:
    @pytest.mark.threat("ca", "a wrong clock")
    @pytest.mark.parametrize("ahead", [11 * MINUTE, -11 * MINUTE, timedelta(days=4000)])
    def test_clocks_that_differ(self, ahead: timedelta) -> None:
        """Both times are told, in words and as fields."""
        server = Server(ahead)
        with pytest.raises(ClocksDiffer) as caught:
            server.check()
        assert caught.value.theirs - caught.value.ours == ahead
        for time in (caught.value.ours, caught.value.theirs):
            assert f"{time:%Y-%m-%d %H:%M:%S} UTC" in str(caught.value)

    @pytest.mark.parametrize("ahead", [9 * MINUTE, -9 * MINUTE, timedelta(), None])
    def test_clocks_that_agree(self, ahead: timedelta | None) -> None:
        """A few minutes are no difference, and a CA that says no time is no reason to refuse."""
        Server(ahead).check()

    def test_a_ca_that_cannot_be_asked(self) -> None:
        """Where the question fails, the order will tell what is wrong; it is not asked at once again."""
        server = Server(None)
        server.session.say(DIRECTORY, CAUnavailable("down"))
        for _ in range(3):
            server.check()
        assert len(server.session.gets) == 1


class TestCost:
    def test_one_question_an_hour(self) -> None:
        """However many orders there are, the CA is asked once an hour."""
        server = Server(timedelta())
        for _ in range(100):
            server.check()
        server.time.seconds += COMPARED_SECONDS - 1
        server.check()
        assert server.session.gets == [DIRECTORY]
        server.time.seconds += 1
        server.say(timedelta())
        server.check()
        assert len(server.session.gets) == 2

    def test_a_clock_that_jumps_is_compared_again(self) -> None:
        """A clock that is set, wrong or right, is noticed by the next order."""
        server = Server(timedelta())
        server.check()
        server.wrong = timedelta(days=-3)
        with pytest.raises(ClocksDiffer):
            server.check()
        server.wrong = timedelta()
        server.check()
        assert len(server.session.gets) == 3

    def test_a_difference_is_looked_at_again_soon(self) -> None:
        """A CA that sets its clock right is asked within half a minute, and not by every request."""
        server = Server(timedelta(days=1))
        for _ in range(10):
            with pytest.raises(ClocksDiffer):
                server.check()
        assert len(server.session.gets) == 1
        server.time.seconds += DOUBTED_SECONDS
        server.say(timedelta())
        server.check()


class TestAsking:
    """What those who watch over the server want to know."""

    def ask(self, server: Server) -> bool:
        answers: bool = server.time.loop().run(server.comparison.compare(server.time.within(60)))
        return answers

    def test_each_question_is_asked(self) -> None:
        """The CA is asked each time, and what it says counts for orders, too."""
        server = Server(MINUTE)
        assert server.comparison.ahead is None
        assert [self.ask(server) for _ in range(2)] == [True, True]
        assert server.comparison.ahead == MINUTE
        server.check()
        assert len(server.session.gets) == 2

    @pytest.mark.parametrize(
        ("error", "answers"),
        [
            (CAUnavailable("down"), False),
            (DeadlinePassed("late"), False),
            (CAProtocolError("a redirect"), True),
            (CAProblem(404, "about:blank", "no such page"), True),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_one_that_does_not_say(self, error: AcmeException, answers: bool) -> None:
        """A CA that says something odd is there; how far its clock is ahead is not known."""
        server = Server(None)
        server.session.say(DIRECTORY, error)
        assert self.ask(server) is answers
        assert server.comparison.ahead is None

    def test_a_question_that_goes_on_is_shared(self) -> None:
        """Where an order asks at the moment, its answer counts."""
        server = Server(MINUTE)
        server.session.held = held = Signal()
        loop = StepLoop()
        order = loop.submit(server.comparison.check(server.time.within(60)))
        probe = loop.submit(server.comparison.compare(server.time.within(60)))
        settle(loop)
        loop.soon(held.set)
        assert (order.result(30), probe.result(30)) == (None, True)
        assert server.session.gets == [DIRECTORY]
        loop.close()


class TestDate:
    @pytest.mark.parametrize(
        ("fields", "date"),
        [
            ({"Date": "Tue, 01 Jan 2030 00:00:00 GMT"}, EPOCH),
            ({"Date": "Tue, 01 Jan 2030 00:00:00 GMT", "Age": "90"}, EPOCH + timedelta(seconds=90)),
            ({"Date": "Tue, 01 Jan 2030 00:00:00 GMT", "Age": "-1"}, EPOCH),
            ({"Date": "Fri, 31 Dec 9999 23:59:59 GMT", "Age": "999999999"}, None),
            ({"Date": "Fri, 31 Dec 9999 23:59:59 -1400"}, None),
            ({"Date": "soon"}, None),
            ({}, None),
        ],
    )
    def test_read(self, fields: dict[str, str], date: datetime.datetime | None) -> None:
        """The time of an answer is that of its `Date`, and of its `Age` where a cache has kept it."""
        assert Response(200, headers_of(fields), b"", CA).date == date
