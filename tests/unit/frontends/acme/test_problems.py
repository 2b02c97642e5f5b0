"""What errors are to ACME clients; RFC 8555 section 6.7."""

from __future__ import annotations

import inspect
import json

import pytest

from acmems import exceptions
from acmems.exceptions import AcmeException, CAProblem, HttpRefusal, LimitReached, PolicyRefusal
from acmems.frontends.acme.answers import AcmeAnswer, problem_answer
from acmems.frontends.acme.problems import (
    PROBLEMS,
    STATUS,
    AcmeProblem,
    Subproblem,
    document_of,
    problem_of,
)


def test_every_error_is_a_problem() -> None:
    """The table has each exception, and no type that is not in the list of types."""
    classes = {
        kind
        for _, kind in inspect.getmembers(exceptions, inspect.isclass)
        if issubclass(kind, AcmeException) and kind is not HttpRefusal
    }
    assert classes - {exceptions.base.RetryableError} == set(PROBLEMS)
    assert {kind for kind, _ in PROBLEMS.values()} <= set(STATUS)


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        (PolicyRefusal("block a: secret words"), "rejectedIdentifier", 403),
        (HttpRefusal(404, "nothing"), "malformed", 404),
        (HttpRefusal(429, "later"), "rateLimited", 429),
        (HttpRefusal(503, "later"), "serverInternal", 503),
        (exceptions.PayloadInvalid("no"), "badCSR", 400),
        (exceptions.PayloadToLarge(9, 8), "malformed", 413),
        (CAProblem(403, "urn:ietf:params:acme:error:caa", "no"), "caa", 403),
        (CAProblem(400, "urn:ietf:params:acme:error:rejectedIdentifier", "no"), "rejectedIdentifier", 403),
        (CAProblem(403, "about:blank", "no"), "serverInternal", 502),
        (KeyError("inside"), "serverInternal", 500),
        (AcmeProblem("badNonce", "again"), "badNonce", 400),
    ],
)
def test_kinds(error: Exception, kind: str, status: int) -> None:
    """Each has its type and status, and says nothing that is for the operator only."""
    problem = problem_of(error, "00c0ffee")
    assert (problem.kind, problem.status) == (kind, status)
    answer = problem_answer(problem)
    document = json.loads(answer.content)
    assert document["type"] == f"urn:ietf:params:acme:error:{kind}"
    assert document["status"] == answer.status == status
    assert "secret" not in document["detail"]
    assert "inside" not in document["detail"]


def test_when_to_come_again() -> None:
    """What passes says after how many seconds."""
    limit = LimitReached("full", limit="orders", subject="", used=5, most=5, retry_after=61.2)
    assert problem_of(limit, "-").headers["Retry-After"] == "62"
    assert int(problem_of(exceptions.CAUnavailable("down"), "-").headers["Retry-After"]) > 0
    assert "Retry-After" not in problem_of(exceptions.PayloadInvalid("no"), "-").headers


def test_words_of_others() -> None:
    """Line ends and control characters in a CA's words stay out of the document and of headers."""
    error = CAProblem(400, "urn:ietf:params:acme:error:malformed", "a\r\nSet-Cookie: x\x1b[31m")
    answer = problem_answer(problem_of(error, "-"))
    detail = json.loads(answer.content)["detail"]
    assert detail.isprintable()
    assert all("\n" not in value for value in answer.headers.values())


def test_subproblems() -> None:
    """Each says which identifier it is about."""
    wrong = Subproblem("rejectedIdentifier", "no block grants it", ("dns", "a.example.org"))
    problem = AcmeProblem("rejectedIdentifier", "one name", subproblems=[wrong], members={"more": 1})
    document = document_of(problem)
    assert document["subproblems"] == [
        {
            "type": "urn:ietf:params:acme:error:rejectedIdentifier",
            "detail": "no block grants it",
            "identifier": {"type": "dns", "value": "a.example.org"},
        }
    ]
    assert document["more"] == 1


def test_json_has_no_blanks() -> None:
    """Some clients look for `"status":"valid"` in the text."""
    assert AcmeAnswer(200, {"status": "valid", "b": [1, 2]}).content == b'{"status":"valid","b":[1,2]}'
