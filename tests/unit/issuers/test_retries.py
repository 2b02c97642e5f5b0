"""Which failures are worth another try, and when it comes."""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import pytest
from tests.fake_ca import headers_of
from tests.steps import PATIENCE, DirectLoop, LoopTime, begin, in_loop, settle

from acmems.exceptions import (
    CAProblem,
    CAProtocolError,
    CAUnavailable,
    DeadlinePassed,
    FateUnknown,
    RateLimited,
)
from acmems.issuers.acme.session import Headers, Response
from acmems.issuers.acme.session.connection import Failure
from acmems.issuers.acme.session.retries import LONGEST_HOLD, TRIES, Retries
from acmems.system.clock import NEVER, Clock, Deadline
from acmems.system.steps import Signal, Steps

NOW = datetime.datetime(2026, 11, 24, 12, 0, 0, tzinfo=datetime.UTC)
GOOD = Response(200, Headers(), b"", "https://ca.example/")


def bad(status: int, code: str = "serverInternal", **headers: str) -> Response:
    body = json.dumps({"type": CAProblem.PREFIX + code, "detail": "told to"}).encode()
    fields = headers_of({name.replace("_", "-"): value for name, value in headers.items()})
    return Response(status, fields, body, "https://ca.example/")


@dataclass
class Script:
    """A CA that does one thing after the other, and a clock that moves when someone waits."""

    steps: list[Response | Failure]
    random: Callable[[], float] = lambda: 0.5
    made: int = 0
    waits: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = Clock(lambda: sum(self.waits), lambda: NOW, self._wait)
        self.retries = Retries(self.clock, self.random)

    def _wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits.append(seconds)
        return event.is_set()

    def _attempt(self) -> Steps[Response]:
        yield from ()
        step = self.steps[min(self.made, len(self.steps) - 1)]
        self.made += 1
        if isinstance(step, Failure):
            raise step
        return step

    def run(self, deadline: Deadline = NEVER, *, repeatable: bool = True, kind: str = "newOrder") -> Response:
        return self.spend(self._attempt, deadline, repeatable=repeatable, kind=kind)

    def spend(
        self,
        attempt: Callable[[], Steps[Response]],
        deadline: Deadline,
        *,
        repeatable: bool,
        kind: str = "newOrder",
    ) -> Response:
        return DirectLoop(self.clock).run(
            self.retries.run(attempt, deadline, repeatable=repeatable, kind=kind)
        )


LOST = Failure("reset", sent=True)
UNSENT = Failure("refused", sent=False)
UNTYPED = Response(500, Headers(), b"<h1>Internal Server Error</h1>", "https://ca.example/")


class TestRepeating:
    @pytest.mark.parametrize("step", [LOST, UNSENT, bad(500), bad(502), bad(503), bad(504)])
    def test_what_may_be_repeated_is_repeated(self, step: Response | Failure) -> None:
        """Whatever is of the moment is tried again, if that does no harm."""
        script = Script([step, GOOD])
        assert script.run() is GOOD
        assert script.made == 2

    @pytest.mark.parametrize("step", [UNSENT, bad(503)])
    def test_what_was_surely_not_done_may_always_be_repeated(self, step: Response | Failure) -> None:
        """A request that was not sent, or for which the CA had no time, was not done."""
        script = Script([step, GOOD])
        assert script.run(repeatable=False) is GOOD

    @pytest.mark.threat("ca", "broken answers")
    @pytest.mark.parametrize("step", [LOST, bad(500), bad(502), bad(504)])
    def test_what_may_have_been_done_is_not_repeated(self, step: Response | Failure) -> None:
        """Neither a lost answer nor a gateway's excuse tells whether the CA did it."""
        script = Script([step, GOOD])
        with pytest.raises(FateUnknown):
            script.run(repeatable=False)
        assert script.made == 1

    @pytest.mark.parametrize(
        ("step", "is_internal"),
        [(LOST, False), (bad(500), True), (bad(500, "malformed"), False), (UNTYPED, False)],
        ids=["lost", "internal", "another problem", "no problem of ACME"],
    )
    def test_whether_the_ca_has_failed(self, step: Response | Failure, is_internal: bool) -> None:
        """Only the ACME server itself can say that it has failed."""
        with pytest.raises(FateUnknown) as raised:
            Script([step]).run(repeatable=False)
        assert raised.value.is_internal is is_internal

    def test_tries_are_bounded(self) -> None:
        """What fails on and on is given up, with the reason."""
        script = Script([LOST])
        with pytest.raises(CAUnavailable, match="reset"):
            script.run()
        assert script.made == TRIES

    def test_what_cannot_get_better_is_not_repeated(self) -> None:
        """A certificate that is not trusted will not be trusted in a second."""
        script = Script([Failure("not trusted", sent=False, final=True)])
        with pytest.raises(CAUnavailable, match="not trusted"):
            script.run()
        assert script.made == 1

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 501, 505])
    def test_a_refusal_is_not_repeated(self, status: int) -> None:
        """A CA that says no is not asked again."""
        script = Script([bad(status, "malformed")])
        with pytest.raises(CAProblem) as refused:
            script.run()
        assert (script.made, refused.value.status, refused.value.code) == (1, status, "malformed")

    @pytest.mark.parametrize("status", [301, 302, 303, 304, 307, 308])
    def test_a_redirect_is_nonsense(self, status: int) -> None:
        """ACME knows no redirects: a signature is for one URL (RFC 8555 section 6.4)."""
        script = Script([bad(status)])
        with pytest.raises(CAProtocolError, match="redirects"):
            script.run()

    @pytest.mark.parametrize("step", [bad(429, Retry_After="77"), bad(503, "rateLimited", Retry_After="77")])
    @pytest.mark.parametrize("repeatable", [True, False])
    def test_a_rate_limit_is_not_run_against(self, step: Response, repeatable: bool) -> None:
        """Whoever is told to come later is told how much later, and nothing is repeated."""
        script = Script([step, GOOD])
        with pytest.raises(RateLimited) as limited:
            script.run(repeatable=repeatable)
        assert (script.made, limited.value.retry_after) == (1, 77)


class TestWaiting:
    def test_waits_grow(self) -> None:
        """Each wait is twice the one before."""
        script = Script([LOST])
        with pytest.raises(CAUnavailable):
            script.run()
        assert script.waits == [0.25, 0.5, 1.0, 2.0]

    def test_waits_are_spread(self) -> None:
        """Chance spreads the waits of many over a factor of three."""
        low, high = Script([LOST, GOOD], lambda: 0.0), Script([LOST, GOOD], lambda: 1.0)
        low.run()
        high.run()
        assert (low.waits, high.waits) == ([0.125], [0.375])

    @pytest.mark.parametrize(
        ("header", "seconds"),
        [
            ("7", 7),
            ("Tue, 24 Nov 2026 12:00:07 GMT", 7),
            ("Tue, 24 Nov 2026 11:00:00 GMT", 0),
            ("1000000000", LONGEST_HOLD),
        ],
    )
    def test_the_next_try_is_never_earlier_than_the_ca_wants(self, header: str, seconds: float) -> None:
        """A wait that the CA names is kept, cut to minutes, and spread like any other."""
        script = Script([bad(503, Retry_After=header), GOOD])
        script.run()
        assert script.waits == [seconds + 0.25]

    def test_a_wait_beyond_the_deadline_is_not_begun(self) -> None:
        """Whoever asks learns at once what the CA wants, not when the time is over."""
        script = Script([bad(503, Retry_After="30")])
        with pytest.raises(CAUnavailable) as unavailable:
            script.run(script.clock.deadline(30))
        assert (script.made, script.waits, unavailable.value.retry_after) == (1, [], 30)

    def test_after_the_deadline_nothing_is_sent(self) -> None:
        """Without time left there is no first try."""
        script = Script([GOOD])
        with pytest.raises(DeadlinePassed):
            script.run(script.clock.deadline(0))
        assert script.made == 0

    def test_a_deadline_that_passes_meanwhile_is_what_is_reported(self) -> None:
        """A try that took all the time ends in DeadlinePassed, with what was wrong."""
        script = Script([])

        def slow() -> Steps[Response]:
            yield from ()
            script.waits.append(10)
            raise LOST

        with pytest.raises(DeadlinePassed, match="reset"):
            script.spend(slow, script.clock.deadline(10), repeatable=True)

    def test_a_lost_answer_is_more_than_a_passed_deadline(self) -> None:
        """Whoever must not repeat has to know that the request was sent."""
        script = Script([])

        def slow() -> Steps[Response]:
            yield from ()
            script.waits.append(10)
            raise LOST

        with pytest.raises(FateUnknown):
            script.spend(slow, script.clock.deadline(10), repeatable=False)

    def test_stopping_ends_the_wait(self) -> None:
        """After `stop` nobody waits for a next try."""
        script = Script([LOST, GOOD])
        script.retries.stop()
        with pytest.raises(CAUnavailable, match="reset"):
            script.run(script.clock.deadline(math.inf))
        assert script.made == 1

    @pytest.mark.parametrize("header", [None, "30"], ids=["for the next try", "for the CA"])
    def test_stopping_ends_a_wait_that_goes_on(self, header: str | None) -> None:
        """Who waits, for the next try or because the CA wants no requests, ends at once when told to stop."""
        time, made = LoopTime(), 0
        retries = Retries(time.loop.clock, lambda: 0.5)

        def attempt() -> Steps[Response]:
            nonlocal made
            yield from ()
            made += 1
            if header is None:
                raise LOST
            return bad(503, Retry_After=header)

        with contextlib.closing(time.loop):
            waiting = [
                begin(time.loop, retries.run(attempt, NEVER, repeatable=True, kind="newOrder"))
                for _ in range(2)
            ]
            assert made == (2 if header is None else 1)
            assert not any(each.done() for each in waiting)
            time.loop.soon(retries.stop)
            assert all(isinstance(each.exception(PATIENCE), CAUnavailable) for each in waiting)


class TestOverload:
    @pytest.mark.threat("ca", "Retry-After")
    @pytest.mark.parametrize("header", ["3600", "86400", "1000000000"])
    def test_what_the_ca_said_to_one_holds_for_its_kind(self, header: str) -> None:
        """A CA that wants no orders for a day gets none for minutes, whoever asks; then one tries."""
        script = Script([bad(503, Retry_After=header)])
        for _ in range(3):
            with pytest.raises(CAUnavailable) as caught:
                script.run(script.clock.deadline(60))
            assert caught.value.retry_after == LONGEST_HOLD
        assert script.made == 1
        for tries in (2, 3):
            script.waits.append(LONGEST_HOLD)
            for _ in range(3):
                with pytest.raises(CAUnavailable):
                    script.run(script.clock.deadline(60))
            assert script.made == tries

    @pytest.mark.threat("ca", "Retry-After")
    def test_nothing_else_is_held(self) -> None:
        """Where orders are refused chains are still fetched."""
        script = Script([bad(503, Retry_After="86400"), GOOD])
        with pytest.raises(CAUnavailable):
            script.run(script.clock.deadline(60))
        assert script.run(script.clock.deadline(60), kind="certificate") is GOOD
        assert script.waits == []

    def test_a_short_pause_is_waited_for(self) -> None:
        """Where there is time, the next request waits as long as the CA wants, then is made."""
        script = Script([bad(503, Retry_After="30"), GOOD])
        with pytest.raises(CAUnavailable):
            script.run(script.clock.deadline(10))
        assert script.run(script.clock.deadline(60)) is GOOD
        assert script.waits == [30]

    @pytest.mark.parametrize("answer", [GOOD, bad(403, "unauthorized"), bad(503), bad(503, Retry_After="60")])
    def test_one_probes_for_all(self, answer: Response) -> None:
        """After a hold one request is made; the others hear of its outcome before they go on."""
        time, made, held = LoopTime(), 0, Signal()
        retries = Retries(time.loop.clock, lambda: 0.5)

        def attempt() -> Steps[Response]:
            nonlocal made
            made += 1
            if made == 1:
                return bad(503, Retry_After="86400")
            number = made
            yield held.wait()
            return answer if number == 2 else GOOD

        def ask() -> Future[Response]:
            return begin(
                time.loop,
                retries.run(attempt, time.loop.clock.deadline(50), repeatable=True, kind="newOrder"),
            )

        with contextlib.closing(time.loop):
            assert isinstance(ask().exception(PATIENCE), CAUnavailable)
            time.move(LONGEST_HOLD)
            probe, *others = [ask() for _ in range(10)]
            assert made == 2
            in_loop(time.loop, held.set)
            settle(time.loop)
            time.move(1.0)
            if answer.headers.field("Retry-After"):
                assert made == 2
                assert all(isinstance(each.exception(PATIENCE), CAUnavailable) for each in [probe, *others])
            else:
                assert all(each.result(PATIENCE) is GOOD for each in others)
                assert answer.status == 403 or probe.result(PATIENCE) is GOOD

    def test_holds_that_are_over_are_forgotten(self) -> None:
        """However many kinds of requests a CA refuses, what is remembered of them is bounded."""
        script = Script([bad(503, Retry_After="9")])
        for number in range(1000):
            with pytest.raises(CAUnavailable):
                script.run(script.clock.deadline(5), kind=f"https://ca.example/{number}")
            script.waits.append(1)
        assert len(script.retries._holds) <= 101


class TestRateLimits:
    """Rate limits that are over soon, in the midst of an order."""

    @pytest.mark.threat("ca", "Retry-After")
    @pytest.mark.parametrize("repeatable", [True, False])
    def test_a_short_one_is_waited_for(self, repeatable: bool) -> None:
        """Whoever is told to come back in two seconds does so: nothing was done yet, so it does no harm."""
        script = Script([bad(429, "rateLimited", Retry_After="2"), GOOD])
        assert script.run(script.clock.deadline(60), repeatable=repeatable) is GOOD
        assert script.waits == [2.25]

    def test_it_holds_nobody_else(self) -> None:
        """A limit may be that of one name: other requests of the kind go on."""
        script = Script([bad(429, "rateLimited", Retry_After="20"), GOOD])
        with pytest.raises(RateLimited):
            script.run(script.clock.deadline(10))
        assert script.run(script.clock.deadline(10)) is GOOD
        assert script.waits == []

    def test_it_is_waited_for_a_few_times(self) -> None:
        """A CA that says so again and again is believed at last."""
        script = Script([bad(429, "rateLimited", Retry_After="1")])
        with pytest.raises(RateLimited):
            script.run()
        assert script.made == TRIES

    @pytest.mark.parametrize("headers", [{}, {"Retry_After": "31"}, {"Retry_After": "86400"}])
    def test_others_are_told(self, headers: dict[str, str]) -> None:
        """One that is long, or of unknown length, is for whoever asked to know."""
        script = Script([bad(429, "rateLimited", **headers), GOOD])
        with pytest.raises(RateLimited):
            script.run()
        assert (script.made, script.waits) == (1, [])

    def test_stopping_ends_the_wait(self) -> None:
        """A server that stops waits for no limit."""
        script = Script([bad(429, "rateLimited", Retry_After="2"), GOOD])
        script.retries.stop()
        with pytest.raises(RateLimited):
            script.run()
        assert script.made == 1


class TestSilence:
    """For how long a CA has answered nothing, while it is asked."""

    def silences(self, *steps: Response | Failure) -> list[float]:
        """Return the silence before each try of one request, and after the last."""
        script, found = Script(list(steps)), []

        def attempt() -> Steps[Response]:
            found.append(script.retries.silence)
            return (yield from script._attempt())

        with contextlib.suppress(CAUnavailable, RateLimited):
            script.spend(attempt, NEVER, repeatable=True)
        return [*found, script.retries.silence]

    def test_nothing_is_asked(self) -> None:
        """A CA that nobody asks is not silent, nor is one that has answered."""
        assert Script([GOOD]).retries.silence == 0
        assert self.silences(GOOD) == [0, 0]

    def test_it_grows(self) -> None:
        """Tries that fail are no answers."""
        assert self.silences(UNSENT, LOST, bad(503), GOOD) == [0, 0.25, 0.75, 1.75, 0]

    def test_an_answer_ends_it(self) -> None:
        """Whatever another request is answered, the CA is there."""
        script, seen = Script([GOOD]), []

        def slow() -> Steps[Response]:
            script.waits.append(20.0)
            seen.append(script.retries.silence)
            DirectLoop(script.clock).run(
                script.retries.run(script._attempt, NEVER, repeatable=True, kind="order")
            )
            seen.append(script.retries.silence)
            return GOOD
            yield

        script.spend(slow, NEVER, repeatable=True)
        assert seen == [20.0, 0.0]

    def test_a_limit_that_is_waited_for(self) -> None:
        """The CA has answered that it is to be asked later."""
        assert self.silences(bad(429, "rateLimited", Retry_After="20"), GOOD) == [0, 0, 0]
