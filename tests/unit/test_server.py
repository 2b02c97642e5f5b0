"""The front doors: one table of statuses, the handlers on a plain socket, and the host of a challenge."""

from __future__ import annotations

import datetime
import functools
import http.client
import inspect
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest

from acmems import exceptions, server
from acmems.challenges import ChallengeResponses, Http01
from acmems.exceptions import AcmeException, HttpRefusal
from acmems.server import ACMEHTTPHandler, reason_of, retry_after_of, status_of

ERRORS = [
    error
    for _, error in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(error, AcmeException) and not error.__name__.startswith("_")
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_has_a_status(error: type[AcmeException]) -> None:
    """Each public exception stands in the one table itself; HttpRefusal carries its own status."""
    assert error in server.STATUS or error is HttpRefusal


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (exceptions.PayloadToLarge(5000, 4096), 413),
        (exceptions.PayloadInvalid("why"), 415),
        (exceptions.Refused("secret reason"), 403),
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
    assert reason_of(exceptions.Refused("the HMAC is wrong"), "r") == reason_of(
        exceptions.Refused("the address is wrong"), "r"
    )


def test_bugs_are_a_reference() -> None:
    """What nobody foresaw is answered with a reference, and not with its message."""
    reason = reason_of(KeyError("internal detail"), "1a2b3c4d")
    assert "1a2b3c4d" in reason
    assert "internal" not in reason


def test_reasons_are_one_line() -> None:
    """Line ends in a CA's words cannot reach a header or break a line."""
    assert "\n" not in reason_of(exceptions.ChallengeFailed("a", "x\r\nSet-Cookie: y", ""), "r")


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


class TestChallenges:
    """ACMEHTTPHandler, run by the standard library's server as a script would."""

    @pytest.fixture
    def responses(self) -> ChallengeResponses:
        """A table with one answer."""
        table = ChallengeResponses()
        table.put("a.example.org", "/.well-known/acme-challenge/token", "token.thumbprint", lambda: None)
        return table

    @pytest.fixture
    def port(self, responses: ChallengeResponses) -> Iterator[int]:
        """The port of a server that answers from the table."""
        handler = functools.partial(ACMEHTTPHandler, Http01("http", (), responses))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
            thread = threading.Thread(target=running.serve_forever)
            thread.start()
            yield running.server_address[1]
            running.shutdown()
            thread.join()

    @pytest.mark.parametrize(
        ("host", "path", "status"),
        [
            ("a.example.org", "/.well-known/acme-challenge/token", 200),
            ("A.Example.ORG:1380", "/.well-known/acme-challenge/token", 200),
            ("b.example.org", "/.well-known/acme-challenge/token", 404),
            ("a.example.org", "/.well-known/acme-challenge/other", 404),
            ("a.example.org", "/.well-known/acme-challenge/token?x", 404),
            ("a.example.org", "/.well-known/acme-challenge/../acme-challenge/token", 404),
            ("a.example.org", "/.well-known/acme-challenge/%74oken", 404),
            ("a.example.org", "/", 404),
            ("", "/.well-known/acme-challenge/token", 404),
        ],
    )
    def test_exact_host_and_path(self, port: int, host: str, path: str, status: int) -> None:
        """An answer is found by exact path and host, the host's case and port aside."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        assert answer.status == status
        if status == 200:
            assert answer.read() == b"token.thumbprint"
        connection.close()

    def test_head(self, port: int) -> None:
        """HEAD gets the same headers without the body."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("HEAD", "/.well-known/acme-challenge/token", headers={"Host": "a.example.org"})
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Content-Length"]) == (200, "16")
        assert answer.read() == b""
        connection.close()
