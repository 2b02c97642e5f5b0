"""Secrets are never shown."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest

from acmems.text import Secret

TEXT = "correct horse"


@dataclass
class Holder:
    key: Secret


class TestSecret:
    @pytest.mark.parametrize(
        "shown", [repr, str, "{}".format, "{!r:>40}".format, "%s".__mod__, lambda it: repr([it, Holder(it)])]
    )
    def test_nothing_shows_it(self, shown: object) -> None:
        """However a secret is printed, alone or within something, its text is not."""
        assert callable(shown)
        assert TEXT not in shown(Secret(TEXT))

    def test_it_has_no_dictionary(self) -> None:
        """What dumps objects by their attributes finds none."""
        with pytest.raises(TypeError):
            vars(Secret(TEXT))

    def test_it_is_told_when_asked(self) -> None:
        """The text itself comes out where it is asked for by name."""
        assert Secret(TEXT).reveal() == TEXT

    def test_equal_secrets(self) -> None:
        """Secrets are equal if their texts are, and never equal to a text."""
        assert Secret(TEXT) == copy.copy(Secret(TEXT))
        assert len({Secret(TEXT), Secret(TEXT), Secret("another")}) == 2
        assert Secret(TEXT) != TEXT
