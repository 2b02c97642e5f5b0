"""What errors are to clients: one table of statuses, words that say what to do, and when to ask again."""

from __future__ import annotations

import datetime
import inspect

import pytest

from acmems import exceptions
from acmems.exceptions import AcmeException, HttpRefusal
from acmems.frontends import problems as refusals
from acmems.frontends.problems import for_operator, reason_of, retry_after_of, status_of
from acmems.issuing.cooldown import Cooldown
from acmems.system.clock import Clock

ERRORS = [
    error
    for _, error in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(error, AcmeException) and not error.__name__.startswith("_")
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_has_a_status(error: type[AcmeException]) -> None:
    """Each public exception stands in the one table itself; HttpRefusal carries its own status."""
    assert error in refusals.STATUS or error is HttpRefusal


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (exceptions.PayloadToLarge(5000, 4096), 413),
        (exceptions.PayloadInvalid("why"), 415),
        (exceptions.PolicyRefusal("secret reason"), 403),
        (exceptions.ChallengeFailed("a.example.org", "no route", ""), 421),
        (exceptions.InvalidDomainName("a.example.org", "blocked"), 421),
        (exceptions.RateLimited("too many", retry_after=60), 429),
        (exceptions.CertificateUnusable("other key"), 502),
        (exceptions.CAProtocolError("nonsense"), 502),
        (exceptions.FateUnknown("lost"), 503),
        (exceptions.StorageUnavailable("disk full"), 503),
        (exceptions.NeedToAgreeToTOS("https://example.org/terms"), 503),
        (exceptions.DeadlinePassed("late"), 504),
        (HttpRefusal(405, "no", {"Allow": "POST"}), 405),
        (ValueError("a bug"), 500),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_statuses(error: Exception, status: int) -> None:
    """An error means the status that the HTTP interface documents."""
    assert status_of(error) == status


def test_refusals_never_say_why() -> None:
    """The client of a 403 gets the same words whatever the reason."""
    assert reason_of(exceptions.PolicyRefusal("the HMAC is wrong"), "r") == reason_of(
        exceptions.PolicyRefusal("the address is wrong"), "r"
    )


def test_bugs_are_a_reference() -> None:
    """What nobody foresaw is answered with a reference, and not with its message."""
    reason = reason_of(KeyError("internal detail"), "1a2b3c4d")
    assert "1a2b3c4d" in reason
    assert "internal" not in reason


@pytest.mark.threat("http", "line ends in words of others")
def test_reasons_are_one_line() -> None:
    """Line ends in a CA's words cannot reach a header or break a line."""
    assert "\n" not in reason_of(exceptions.ChallengeFailed("a", "x\r\nSet-Cookie: y", ""), "r")


def test_what_is_repeated_says_when_it_is_tried_again() -> None:
    """During a pause the client and the log read the last answer, and from when on there is another one."""
    now = datetime.datetime(2030, 1, 1, 12, 0, 0, 500_000, tzinfo=datetime.UTC)
    cooldown = Cooldown(Clock(monotonic=lambda: 0.0, now=lambda: now))
    cooldown.note("a", exceptions.NamesPaused(["a.example.org"], "https://ca.example/unpause?jwt=secret"))
    with pytest.raises(exceptions.NamesPaused) as raised:
        cooldown.check(["a"])
    until = "this was tried before, and is tried again after 2030-01-01 12:00:31 UTC"
    assert reason_of(raised.value, "r").endswith(until)
    assert "jwt" not in reason_of(raised.value, "r")
    assert (
        f"{until}; once it is mended, end the pause at https://ca.example/unpause?jwt=secret"
        in for_operator(raised.value)
    )


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (exceptions.RateLimited("x", retry_after=61.2), 62),
        (exceptions.CAUnavailable("x", retry_after=0), 1),
        (exceptions.CAUnavailable("x"), 30),
        (exceptions.DeadlinePassed("x"), 10),
        (exceptions.PayloadInvalid("x"), None),
        (exceptions.AuthorizationNotYetProcessed(datetime.datetime.now(datetime.UTC)), 30),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_retry_after(error: AcmeException, seconds: int | None) -> None:
    """Errors that pass carry whole seconds of at least one, those that stay carry none."""
    assert retry_after_of(error) == seconds


@pytest.mark.parametrize(
    "error",
    [
        exceptions.AccountError("the account key /var/lib/acmems/account.pem is gone"),
        exceptions.StorageUnavailable("storage 'disk' is not writable: /var/lib/acmems"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_of_this_side_show_no_internals(error: AcmeException) -> None:
    """Where this side is at fault, the client gets a reference for the administrator, and no internals."""
    reason = reason_of(error, "1a2b3c4d")
    assert "1a2b3c4d" in reason
    assert "/var" not in reason


def test_an_unavailable_validator_is_421_with_server_and_record() -> None:
    """A name that cannot be proved now is 421 with server and record, and the log adds what to do."""
    error = exceptions.ValidatorUnavailable("DNS server 192.0.2.53:53 refused", advice="check tsig-key")
    assert status_of(error) == 421
    assert retry_after_of(error) == 60
    assert reason_of(error, "1a2b3c4d") == "DNS server 192.0.2.53:53 refused"
    assert for_operator(error) == "DNS server 192.0.2.53:53 refused; check tsig-key"


class TestManyNames:
    """What is wrong with each of many names reaches client and operator, with all its words."""

    def test_a_hundred_names(self) -> None:
        """The longest names and reasons that a CA can send are neither cut in the answer nor in the log."""
        names = [f"{number:03}.{'.'.join(['a' * 60] * 4)}.org" for number in range(100)]
        first, *others = [exceptions.ChallengeFailed(name, f"{name[:3]} {'x' * 440}", "") for name in names]
        error = first.together(others)
        event = refusals.failure_event(error, reference="ref", client="192.0.2.7")
        for text in (reason_of(error, "ref"), event.reason):
            assert all(
                f"could not validate {each.domain}: {each.message}" in text for each in (first, *others)
            )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (exceptions.CAUnavailable("the CA is away"), "the CA is away; ask again in 30 s"),
        (exceptions.RateLimited("enough for today", retry_after=60), "enough for today; ask again in 60 s"),
        (exceptions.QueueFull("too many wait: ask again later", retry_after=5.0), None),
        (exceptions.StateUnavailable("the disk is full"), None),
        (exceptions.CAProtocolError("nonsense"), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_when_to_ask_again(error: AcmeException, said: str | None) -> None:
    """Whoever sees the text alone reads when, unless its words say what to do, or nobody knows when."""
    text = refusals.problem_response(error, "r").body.decode()
    assert text == f"{said or reason_of(error, 'r')}\n"


def test_an_answer_that_is_fetched_later() -> None:
    """It says the same, whatever the time comes from."""
    answer = refusals.problem(421, "the name is blocked", {"Retry-After": "7"})
    assert answer.body == b"the name is blocked; ask again in 7 s\n"
