"""Arguments that several commands take."""

from __future__ import annotations

import argparse
import datetime
import re

import pytest

from acmems.commands.arguments import NamePattern, duration, moment, network, positive

UTC = datetime.UTC


@pytest.mark.parametrize(
    ("pattern", "names", "matches"),
    [
        ("www.example.org", ("a.example.org", "www.example.org"), True),
        ("WWW.example.org", ("www.example.org",), True),
        ("www.example.org", ("a.example.org",), False),
        ("*.example.org", ("www.example.org",), True),
        ("*.example.org", ("a.b.example.org",), False),
        ("*.example.org", ("*.example.org",), True),
        ("**.example.org", ("a.b.example.org",), True),
        ("**", ("www.example.org",), True),
        ("192.0.2.7", ("192.0.2.7",), True),
        ("2001:DB8::7", ("2001:db8::7",), True),
        ("**", ("192.0.2.7",), False),
        ("w?w.example.org", ("www.example.org",), True),
    ],
)
def test_a_pattern_of_names(pattern: str, names: tuple[str, ...], matches: bool) -> None:
    """It means names as a 'domain' of an auth block does, and IP addresses; SQL finds no fewer."""
    parsed = NamePattern.parse(pattern)
    assert parsed.matches(names) is matches
    like = re.escape(parsed.like).replace("%", ".*").replace("_", ".")
    assert not matches or re.fullmatch(like, "\n".join(names), re.DOTALL)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", datetime.timedelta(seconds=90)),
        ("30m", datetime.timedelta(minutes=30)),
        ("3h", datetime.timedelta(hours=3)),
        ("14d", datetime.timedelta(days=14)),
        ("2w", datetime.timedelta(weeks=2)),
    ],
)
def test_a_duration(text: str, expected: datetime.timedelta) -> None:
    """A number and a unit."""
    assert duration(text) == expected
    assert moment(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-01", datetime.datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T12:30:00Z", datetime.datetime(2026, 11, 1, 12, 30, tzinfo=UTC)),
        ("2026-11-01T12:30:00+02:00", datetime.datetime(2026, 11, 1, 10, 30, tzinfo=UTC)),
        ("2026-11-01T12:30", datetime.datetime(2026, 11, 1, 12, 30, tzinfo=UTC)),
    ],
)
def test_a_time(text: str, expected: datetime.datetime) -> None:
    """As in JSON documents; without a zone it is UTC, as in tables."""
    assert moment(text) == expected


@pytest.mark.parametrize(
    ("read", "text", "words"),
    [
        (duration, "14", "no duration, such as"),
        (duration, "9999999d", "no duration"),
        (moment, "yesterday", "neither a time, such as"),
        (network, "192.0.2.7/24", "write 192.0.2.0/24 for the network"),
        (network, "host", "neither an IP address nor a network"),
        (positive, "0", "not a whole number above 0"),
        (positive, "x", "not a whole number above 0"),
        (NamePattern.parse, "a b", "only letters, digits"),
    ],
)
def test_what_is_none(read: type, text: str, words: str) -> None:
    """The message says what to write."""
    with pytest.raises(argparse.ArgumentTypeError, match=re.escape(words)):
        read(text)
