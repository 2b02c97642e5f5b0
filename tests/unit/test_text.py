"""A stranger's text becomes one printable line, and secrets are never shown."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest

from acmems.text import Secret, one_line

TEXT = "correct horse"


class TestOneLine:
    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("as it is", "as it is"),
            ("Grüße", "Grüße"),
            ("two\r\nlines", "two lines"),
            ("\t many \n\n blanks ", "many blanks"),
            ("\x1b[31mred\x1b[0m", "[31mred [0m"),
            ("nul\0", "nul"),
            ("line\u2028separator", "line separator"),
            ("right\u202eto left", "right to left"),
            ("", ""),
            (404, "404"),
            (ValueError("a\nb"), "a b"),
        ],
    )
    def test_control_characters_become_blanks(self, text: object, line: str) -> None:
        """Printable characters stay; whatever ends a line or steers a terminal becomes a blank."""
        assert one_line(text) == line

    def test_a_long_text_is_cut(self) -> None:
        """A text over the limit is cut, and ends with an ellipsis that counts."""
        assert one_line("x" * 10, longest=10) == "x" * 10
        assert one_line("x" * 11, longest=10) == "x" * 9 + "…"
        assert len(one_line("x" * 10**6)) == 500

    def test_blanks_do_not_hide_a_text(self) -> None:
        """Only what is shown counts as length."""
        assert one_line("a" + " " * 20 + "b", longest=10) == "a b"


@dataclass
class Holder:
    key: Secret


class TestSecret:
    @pytest.mark.parametrize(
        "shown", [repr, str, "{}".format, "{!r:>40}".format, "%s".__mod__, lambda it: repr([it, Holder(it)])]
    )
    def test_printing_never_shows_a_secret(self, shown: object) -> None:
        """However a secret is printed, alone or within something, its text is not."""
        assert callable(shown)
        assert TEXT not in shown(Secret(TEXT))

    def test_a_secret_has_no_dictionary(self) -> None:
        """What dumps objects by their attributes finds none."""
        with pytest.raises(TypeError):
            vars(Secret(TEXT))

    def test_reveal_returns_the_text(self) -> None:
        """The text itself comes out where it is asked for by name."""
        assert Secret(TEXT).reveal() == TEXT

    def test_equal_secrets(self) -> None:
        """Secrets are equal if their texts are, and never equal to a text."""
        assert Secret(TEXT) == copy.copy(Secret(TEXT))
        assert len({Secret(TEXT), Secret(TEXT), Secret("another")}) == 2
        assert Secret(TEXT) != TEXT
