"""When a chain is to be renewed."""

from __future__ import annotations

import datetime

import pytest

from acmems.issuing.renewal.due import Window, by_lifetime, moved, next_question

DAY = datetime.timedelta(days=1)
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
NOW = START + 10 * DAY
WINDOW = Window(START + 60 * DAY, START + 62 * DAY)
END = START + 90 * DAY


@pytest.mark.parametrize(
    ("days", "share", "after"),
    [(90, 0.0, 60.0), (90, 1.0, 58.5), (45, 0.0, 30.0), (6.0, 0.0, 3.0), (6.0, 1.0, 2.85)],
)
def test_without_the_word_of_the_ca(days: float, share: float, after: float) -> None:
    """A third before the end, half for those under ten days, spread over a twentieth of what is left."""
    assert by_lifetime(START, START + days * DAY, share) == START + after * DAY


def test_in_the_window() -> None:
    """Any moment of its first four fifths is as good as another."""
    assert [WINDOW.moment(share) for share in (0.0, 0.5, 1.0)] == [
        START + 60 * DAY,
        START + 60.8 * DAY,
        START + 61.6 * DAY,
    ]


class TestMoved:
    def test_the_same_window(self) -> None:
        """The moment that was chosen stays, however often the CA is asked."""
        due = START + 61 * DAY
        assert moved(WINDOW, due, WINDOW, 0.1, END) == due

    def test_a_window_in_the_past(self) -> None:
        """A CA that has to revoke moves it there; the new moment is over at once."""
        past = Window(START, START + DAY)
        assert moved(WINDOW, START + 61 * DAY, past, 0.5, END) == START + 0.4 * DAY < NOW

    def test_a_later_window(self) -> None:
        """It counts as well."""
        later = Window(START + 70 * DAY, START + 72 * DAY)
        assert moved(WINDOW, START + 61 * DAY, later, 0.0, END) == START + 70 * DAY

    @pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
    def test_a_window_that_ends_after_the_certificate(self, share: float) -> None:
        """It is renewed in time all the same, with some time left to try again."""
        expires = START + 61 * DAY
        window = Window(START + 60 * DAY, START + 99 * DAY)
        assert moved(None, START, window, share, expires) == START + (60 + 0.8 * share) * DAY
        assert moved(window, START + 70 * DAY, window, share, expires) < expires

    def test_a_window_after_the_certificate(self) -> None:
        """What was chosen before stays."""
        assert moved(None, START + 5 * DAY, WINDOW, 0.5, START + 6 * DAY) == START + 5 * DAY

    def test_the_first_window(self) -> None:
        """What was chosen by the lifetime gives way to it."""
        assert moved(None, START + 61 * DAY, WINDOW, 0.0, END) == START + 60 * DAY


@pytest.mark.parametrize(
    ("retry_after", "share", "seconds"),
    [
        (None, 0.0, 21600),
        (21600, 0.0, 21600),
        (21600, 1.0, 23760),
        (0, 0.0, 60),
        (1, 1.0, 66),
        (10**9, 0.0, 86400),
        (80_000, 1.0, 86400),
        (10**9, 1.0, 86400),
    ],
)
def test_the_next_question(retry_after: float | None, share: float, seconds: float) -> None:
    """Between a minute and a day, spread over a tenth."""
    assert next_question(NOW, retry_after, share) == NOW + datetime.timedelta(seconds=seconds)
