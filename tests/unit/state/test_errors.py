"""Errors that another process raises again."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from tests.unit.issuing.test_pauses import ROWS

from acmems.exceptions import AcmeException, ChallengeFailed, InvalidDomainName, RateLimited
from acmems.state.errors import decoded, encoded


def again(error: AcmeException) -> AcmeException:
    return decoded(json.loads(json.dumps(encoded(error))))


@pytest.mark.parametrize("error", [error for error, _ in ROWS], ids=lambda error: type(error).__name__)
def test_every_error_of_an_order(error: AcmeException) -> None:
    """Class, words and fields are the same."""
    found = again(error)
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert vars(found) == vars(error)


def test_errors_of_several_names() -> None:
    """Each of them is there."""
    both = ChallengeFailed("a.example.org", "no route", "", verification="dns").together(
        [ChallengeFailed("b.example.org", "no record", "")]
    )
    found = again(both)
    assert str(found) == str(both)
    assert isinstance(found, ChallengeFailed)
    assert [(type(each), each.domain) for each in found.each] == [
        (ChallengeFailed, "a.example.org"),
        (ChallengeFailed, "b.example.org"),
    ]


def test_its_words_may_be_any() -> None:
    """Quotation marks and other scripts stay."""
    found = again(InvalidDomainName("ä.example", 'not "ä"\n'))
    assert str(found) == 'ä.example is not accepted: not "ä"\n'


def test_a_field_of_another_kind() -> None:
    """What JSON cannot hold becomes its text."""
    error = RateLimited("no", retry_after=5)
    vars(error)["more"] = datetime.timedelta(seconds=1)
    assert vars(again(error))["more"] == "0:00:01"


@pytest.mark.parametrize(
    "document",
    [
        None,
        {},
        [],
        {"error": "RateLimited"},
        {"error": "RateLimited", "args": ["no"], "fields": []},
        {"error": "RateLimited", "args": ["no"], "fields": {"at": {"time": "never"}}},
        {"time": "2030-01-01"},
    ],
    ids=str,
)
def test_what_is_no_error(document: Any) -> None:
    """It is told that something was wrong."""
    assert type(decoded(document)) is AcmeException


def test_an_error_of_another_version() -> None:
    """Its words are told."""
    found = decoded({"error": "os.system", "args": ["the moon is full"], "fields": {}})
    assert (type(found), str(found)) == (AcmeException, "the moon is full")
