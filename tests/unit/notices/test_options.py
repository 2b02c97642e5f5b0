"""Which notices go where, and when a summary is due."""

from __future__ import annotations

import datetime

import pytest
from tests.noticing import DAY, NOW, options_of

from acmems.notices.options import NoticeRoute, WeeklyMoment


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("monday 08:00", "monday 08:00"),
        ("Sunday 23:59", "sunday 23:59"),
        ("tue 7:05", "tuesday 07:05"),
        ("th 00:00", "thursday 00:00"),
    ],
)
def test_moments(text: str, shown: str) -> None:
    """A day, which may be shortened, and a time."""
    assert str(WeeklyMoment.parse(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "monday",
        "08:00",
        "t 08:00",
        "monday 24:00",
        "monday 08:60",
        "someday 08:00",
        "monday 8",
        "1 08:00",
    ],
)
def test_what_is_no_moment(text: str) -> None:
    """It is refused with an example."""
    with pytest.raises(ValueError, match="is no moment of the week, such as monday 08:00"):
        WeeklyMoment.parse(text)


@pytest.mark.parametrize(
    ("text", "days"),
    [("monday 08:00", 0.0), ("monday 08:01", -7 + 1 / 1440), ("sunday 08:00", -1.0), ("tuesday 08:00", -6.0)],
)
def test_when_it_was_last(text: str, days: float) -> None:
    """It may be now, which is a Monday at eight."""
    assert WeeklyMoment.parse(text).last(NOW) == NOW + days * DAY


def test_other_time_zones() -> None:
    """The moment is in UTC, whatever the clock shows."""
    there = NOW.astimezone(datetime.timezone(datetime.timedelta(hours=-11)))
    assert WeeklyMoment.parse("monday 08:00").last(there) == NOW


def test_the_keys() -> None:
    """All of them."""
    lines = ("for = renewal", "for = ca", "least-severity = critical", "weekly = fri 17:00")
    options, findings = options_of(*lines)
    route = NoticeRoute.from_options(options)
    assert findings == []
    assert route == NoticeRoute(frozenset({"renewal", "ca"}), "critical", WeeklyMoment(4, 17, 0))


@pytest.mark.parametrize(
    ("route", "takes"),
    [
        (NoticeRoute(), [True, True]),
        (NoticeRoute(least="critical"), [False, True]),
        (NoticeRoute(frozenset({"ca"})), [True, True]),
        (NoticeRoute(frozenset({"renewal"})), [False, False]),
    ],
)
def test_what_goes_there(route: NoticeRoute, takes: list[bool]) -> None:
    """By kind and severity."""
    assert [route.takes("ca", severity) for severity in ("warning", "critical")] == takes
