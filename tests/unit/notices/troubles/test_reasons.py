"""Whether two reasons are the same but for whom they are about."""

from __future__ import annotations

import pytest

from acmems.notices.troubles.reasons import pattern_of

LIMIT = "a limit of the CA is used up: domains for {}, 50 of {} used; ask again after {} UTC"
FETCHING = "the CA could not validate {0}: {1}: Fetching http://{0}/.well-known/acme-challenge/{2}: refused"
SAME = [
    (
        FETCHING.format("a.example.org", "192.0.2.1", "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ"),
        FETCHING.format("xn--bcher-kva.example.net", "2001:db8::7", "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDf"),
    ),
    (
        LIMIT.format("example.org", 50, "2026-11-02 12:00:00"),
        LIMIT.format("example.net", 60, "2026-11-03 01:02:03"),
    ),
    (
        "the CA could not validate a.example: no; the CA could not validate b.example: no",
        "the CA could not validate c.example: no",
    ),
    ('order 17 of account "x" failed at 10.0.0.1:53', 'order 8 of account "yz" failed at 10.9.0.1:5353'),
    ("*.a.example is not accepted", "b.example is not accepted"),
]
OTHER = [
    ("the CA could not validate a.example: refused", "the CA could not validate a.example: timeout"),
    ("a limit of the CA is used up", "the CA is overloaded"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same(one: str, other: str) -> None:
    """Names, addresses, times, tokens and numbers make no difference."""
    assert pattern_of(one) == pattern_of(other)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_not_the_same(one: str, other: str) -> None:
    """Words do."""
    assert pattern_of(one) != pattern_of(other)


def test_what_has_no_end() -> None:
    """A reason as long as a page costs no more than its beginning."""
    assert len(pattern_of("x y " * 10**6)) <= 2000
