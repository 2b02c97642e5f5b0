"""What a finding says, and where it stands."""

from __future__ import annotations

import pytest

from acmems.settings.findings import Finding, Location, hint
from acmems.settings.grammar import Option


class TestHint:
    @pytest.mark.parametrize(
        ("word", "expected"),
        [
            ("listner", ", did you mean 'listener'?"),
            ("LISTENER", ", did you mean 'listener'?"),
            ("dns01-dnsupdate", ", did you mean 'dns01-dnsUpdate'?"),
            ("xyz", " (known: dns01-dnsUpdate, listener)"),
        ],
    )
    def test_the_nearest_word_is_offered(self, word: str, expected: str) -> None:
        """A hint offers the nearest known word, else all of them."""
        assert hint(word, ["listener", "dns01-dnsUpdate"]) == expected

    def test_without_known_words_there_is_no_hint(self) -> None:
        """Without known words there is no hint."""
        assert not hint("x", [])


def test_findings_print_as_file_line_message() -> None:
    """A finding prints as `file:line: message`, and a warning says so."""
    assert str(Finding(Location("a.ini", 3), "no")) == "a.ini:3: no"
    assert str(Finding(Location("a.ini", 3), "hm", warning=True)) == "a.ini:3: warning: hm"


def test_a_location_outside_of_files_prints_without_a_line() -> None:
    """A location outside of any file prints without a line."""
    assert str(Option("a", "b", Location("a script", 0)).location) == "a script"
