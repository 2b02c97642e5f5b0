"""The parsers of values."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

import pytest

from acmems.settings import values
from acmems.text import Secret

GOOD = [
    (values.text, "a b", "a b"),
    (values.secret, "x", Secret("x")),
    (values.path, "/etc/acmems", Path("/etc/acmems")),
    (values.boolean, "yes", True),
    (values.boolean, "True", True),
    (values.boolean, "ON", True),
    (values.boolean, "1", True),
    (values.boolean, "no", False),
    (values.boolean, "false", False),
    (values.boolean, "off", False),
    (values.boolean, "0", False),
    (values.boolean, "yes # or true", True),
    (values.boolean, "no\t; or false", False),
    (values.positive_int, "1", 1),
    (values.positive_int, "0042", 42),
    (values.size, "1", 1),
    (values.size, "4k", 4096),
    (values.size, "16k", 16384),
    (values.size, "16 K", 16384),
    (values.size, "1m", 1048576),
    (values.seconds, "5", 5.0),
    (values.seconds, "0.25", 0.25),
    (values.days, "14", datetime.timedelta(days=14)),
    (values.days, "0", datetime.timedelta(0)),
    (values.choice("a", "b"), "b", "b"),
    (values.https_url, "https://acme.example.org/directory", "https://acme.example.org/directory"),
    (values.https_url, "https://localhost:14000/dir", "https://localhost:14000/dir"),
    (values.https_url, "https://[::1]:14000/dir", "https://[::1]:14000/dir"),
    (values.https_url, "https://acme.example.org./dir", "https://acme.example.org./dir"),
]

BAD: list[tuple[Callable[[str], object], str]] = [
    (values.text, ""),
    (values.secret, ""),
    (values.path, ""),
    *((values.boolean, value) for value in ("", "maybe", "yes# or true", "yes no", "2")),
    *(
        (values.positive_int, value)
        for value in ("", "0", "-1", "+1", "1_000", "1.5", "٣", "9" * 10, "1 # one")
    ),
    *((values.size, value) for value in ("", "0", "k", "4kb", "4g", "-4k", "4.5k", "1e3", "4k # kilo", "٤k")),
    *((values.seconds, value) for value in ("", "0", "0.0", "-1", "1e9", "inf", "nan", "5s", ".5")),
    *((values.days, value) for value in ("", "-1", "3651", "14d", "1.5")),
    *((values.choice("a", "b"), value) for value in ("", "A", "c")),
    *(
        (values.https_url, value)
        for value in (
            "",
            "http://acme.example.org/",
            "https://",
            "https:///dir",
            "acme.example.org",
            "https://user:secret@acme.example.org/",
            "https://acme.example.org:99999/",
            "https://acme.example.org:x/",
            "https://[::1/",
            "https://acme.example.org/a b",
            "https://acme.example.org/\na",
            "https://äcme.example.org/",
            "https://acme..example.org/",
            f"https://{'a' * 64}.example.org/",
        )
    ),
]


class TestParsers:
    @pytest.mark.parametrize(("parse", "value", "expected"), GOOD)
    def test_good_values(self, parse: Callable[[str], object], value: str, expected: object) -> None:
        """A value that is written as the reference says is understood."""
        assert parse(value) == expected

    @pytest.mark.parametrize(("parse", "value"), BAD)
    def test_bad_values_raise_a_reason(self, parse: Callable[[str], object], value: str) -> None:
        """Every other value raises ValueError with a reason of one line."""
        with pytest.raises(ValueError) as caught:
            parse(value)
        assert str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_url_with_a_password_is_not_quoted(self) -> None:
        """What is wrong about a URL is said without repeating it."""
        with pytest.raises(ValueError) as caught:
            values.https_url("https://user:hunter2@acme.example.org/")
        assert "hunter2" not in str(caught.value)
