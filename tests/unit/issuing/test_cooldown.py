"""Pauses after failures."""

from __future__ import annotations

import copy
import datetime
import gc
import threading
import weakref

import pytest
from tests.chains import make_request

from acmems.exceptions import (
    AcmeException,
    AuthorizationNotYetProcessed,
    AuthorizationNotYetRequested,
    CAProblem,
    CertificateUnusable,
    ChallengeFailed,
    ConfigurationError,
    HttpRefusal,
    InvalidDomainName,
    NeedToAgreeToTOS,
    NoChallengeMethodsSupported,
    PayloadInvalid,
    PayloadToLarge,
    RateLimited,
)
from acmems.issuing.cooldown import Cooldown
from acmems.issuing.pauses import Pauses
from acmems.issuing.requests import AcceptedRequest
from acmems.issuing.subjects import Subject
from acmems.storages import NoStorage
from acmems.system.clock import Clock


class Time:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def time() -> Time:
    """Seconds that pass when told to."""
    return Time()


@pytest.fixture
def cooldown(time: Time) -> Cooldown:
    """Pauses of 10 seconds at first and 60 at most, for three subjects at most."""
    return Cooldown(Clock(monotonic=time, now=lambda: NOW), first=10, longest=60, most=3)


NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


ERRORS = [
    ConfigurationError(["a.ini:1: no", "a.ini:2: no"]),
    PayloadToLarge(4097, 4096),
    PayloadInvalid("two CSRs"),
    HttpRefusal(405, "use POST", {"Allow": "POST"}),
    InvalidDomainName("a.example.org", "forbidden"),
    ChallengeFailed("a.example.org", "no route", "https://ca.example.org/challenge/1"),
    AuthorizationNotYetProcessed(datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)),
    AuthorizationNotYetRequested(threading.Event()),
    RateLimited("enough", retry_after=3),
    NeedToAgreeToTOS("https://ca.example.org/terms", detail="new", visit="https://ca.example.org/agree"),
    CAProblem(403, "urn:ietf:params:acme:error:caa", "no", subproblems=[("a", "b", "c")], terms="t"),
    CertificateUnusable("another key"),
]


def left(cooldown: Cooldown, *subjects: str) -> float | None:
    """Return the seconds that these must wait, None if they need not."""
    try:
        cooldown.check(subjects)
    except AcmeException as error:
        seconds: float = vars(error)["retry_after"]
        return seconds
    return None


class TestPause:
    def test_a_failure_is_refused_until_its_pause_is_over(self, cooldown: Cooldown, time: Time) -> None:
        """What failed is refused until its pause is over, and is told how long that takes."""
        cooldown.check(["a"])
        cooldown.note("a", RateLimited("enough"))
        assert left(cooldown, "a") == 10
        time.seconds += 9
        assert left(cooldown, "a") == 1
        time.seconds += 1
        assert left(cooldown, "a") is None

    def test_a_pause_refuses_only_what_failed(self, cooldown: Cooldown) -> None:
        """Only what failed pauses, and whoever asks for it together with something else."""
        cooldown.note("a", RateLimited("enough"))
        assert left(cooldown, "b") is None
        assert left(cooldown, "b", "a") == 10
        assert left(cooldown) is None

    def test_pauses_double_up_to_the_longest(self, cooldown: Cooldown, time: Time) -> None:
        """Failure after failure the pause doubles, up to the longest."""
        pauses = []
        for _ in range(5):
            cooldown.note("a", RateLimited("enough"))
            pauses.append(left(cooldown, "a"))
            time.seconds += 60
        assert pauses == [10, 20, 40, 60, 60]

    def test_failures_at_one_time_are_one(self, cooldown: Cooldown, time: Time) -> None:
        """Requests that were under way together and fail together do not make the pause longer."""
        for _ in range(8):
            cooldown.note("a", RateLimited("enough"))
            time.seconds += 1
        assert left(cooldown, "a") == 9

    @pytest.mark.parametrize(("told", "pause"), [(25, 25), (5, 5), (0, 1), (-3, 1), (1e9, 60)])
    def test_the_ca_says_how_long(self, cooldown: Cooldown, told: float, pause: float) -> None:
        """A CA's own word on the pause counts, between a second and the longest."""
        cooldown.note("a", RateLimited("enough"), told)
        assert left(cooldown, "a") == pause

    def test_success_ends_it(self, cooldown: Cooldown) -> None:
        """What works has no pause, and its next failure is a first one again; the others wait on."""
        for subject in ("a", "a", "b"):
            cooldown.note(subject, RateLimited("enough"))
        cooldown.clear(["a", "never failed"])
        assert (left(cooldown, "a"), left(cooldown, "b")) == (None, 10)
        cooldown.note("a", RateLimited("enough"))
        assert left(cooldown, "a") == 10

    def test_memory_is_bounded(self, cooldown: Cooldown) -> None:
        """Beyond the most that are remembered, the one whose last failure is oldest is forgotten."""
        for subject in ("a", "b", "c", "a", "d"):
            cooldown.note(subject, RateLimited("enough"))
        assert [left(cooldown, subject) for subject in "abcd"] == [10, None, 10, 10]


class TestError:
    @pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
    def test_the_error_of_a_pause_is_the_one_that_began_it(
        self, cooldown: Cooldown, error: AcmeException
    ) -> None:
        """Whoever asks during a pause hears the error that began it: its class, its words, its fields."""
        cooldown.note("a", error)
        with pytest.raises(type(error)) as caught:
            cooldown.check(["a"])
        again = caught.value
        assert type(again) is type(error)
        assert str(again) == str(error)
        until = NOW + datetime.timedelta(seconds=10)
        assert vars(again) == {**vars(error), "retry_after": 10, "tried_again": until}

    def test_the_first_one_stays_as_it_was(self, cooldown: Cooldown) -> None:
        """Each gets an error of its own: the first one's time and traceback belong to its raiser."""
        error = RateLimited("enough", retry_after=3)
        cooldown.note("a", error)
        raised = []
        for _ in range(2):
            with pytest.raises(RateLimited) as caught:
                cooldown.check(["a"])
            raised.append(caught.value)
        assert error not in raised
        assert raised[0] is not raised[1]
        assert error.retry_after == 3
        assert error.__traceback__ is None

    def test_the_first_ones_traceback_is_not_kept(self, cooldown: Cooldown) -> None:
        """A pause does not keep alive what its raiser had at hand."""

        class Request:
            pass

        def fail(request: Request) -> None:
            raise RateLimited("enough")

        request = Request()
        alive = weakref.ref(request)
        try:
            fail(request)
        except RateLimited as error:
            cooldown.note("a", error)
        del request
        gc.collect()
        assert alive() is None
        assert left(cooldown, "a") == 10

    def test_a_traceback_does_not_grow(self, cooldown: Cooldown) -> None:
        """However many hear of an error, each hears of its own way to it only."""
        cooldown.note("a", RateLimited("enough"))
        lengths = set()
        for _ in range(3):
            with pytest.raises(RateLimited) as caught:
                cooldown.check(["a"])
            lengths.add(len(caught.traceback))
        assert len(lengths) == 1


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_error_can_be_copied(error: AcmeException) -> None:
    """A copy has the class, the words and the fields of the first one, and a traceback of its own."""
    with pytest.raises(AcmeException):
        raise error
    again = copy.copy(error)
    assert again is not error
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
    assert again.__traceback__ is None


class TestFailures:
    def test_the_first_ones_may_be_free(self, cooldown: Cooldown, time: Time) -> None:
        """A subject may fail a few times before its first pause, and each failure counts."""
        pauses = []
        for _ in range(5):
            cooldown.note("a", RateLimited("enough"), free=2)
            pauses.append(left(cooldown, "a"))
            time.seconds += 60
        assert pauses == [None, None, 10, 20, 40]

    def test_failures_long_ago_do_not_count(self, cooldown: Cooldown, time: Time) -> None:
        """What fails again long after its last pause has failed for the first time."""
        for _ in range(2):
            cooldown.note("a", RateLimited("enough"))
            assert left(cooldown, "a") == 10
            time.seconds += 10 + 60 + 1

    def test_a_shorter_longest_pause(self, cooldown: Cooldown) -> None:
        """A pause may have a bound of its own."""
        cooldown.note("a", RateLimited("enough"), 50, longest=20)
        assert left(cooldown, "a") == 20


def test_nothing_is_looked_for_while_nothing_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even what could be paused is put into words, until the first failure."""
    pauses = Pauses(Clock())
    asked = AcceptedRequest(make_request("www.example.org"), (), NoStorage("none"))
    with monkeypatch.context() as patched:
        patched.setattr(Subject, "text", lambda *_: pytest.fail("put into words"))
        pauses.check(asked)
        assert pauses.places(asked) == Pauses.REFUSED_CSRS
        pauses.clear(asked)
    pauses.note(asked, NoChallengeMethodsSupported("none"))
    with pytest.raises(NoChallengeMethodsSupported):
        pauses.check(asked)
    pauses.clear(asked)
    pauses.check(asked)
