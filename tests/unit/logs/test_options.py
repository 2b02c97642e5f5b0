"""The section `[logging]`: what each key means, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sections import load, wrong

from acmems.config import LoggingOptions


class TestLogging:
    @pytest.mark.parametrize("destination", ["stderr", "stdout", "syslog", "journal"])
    def test_destinations(self, destination: str) -> None:
        """The log goes to a stream or a system log."""
        config = load(f"[logging]\nlevel = debug\ndestination = {destination}\nformat = json\n")
        assert config.logging == LoggingOptions(level="debug", destination=destination, format="json")

    def test_a_file(self) -> None:
        """A destination with a slash is a file."""
        config = load("[logging]\ndestination = /var/log/acmems.log\n")
        assert config.logging.destination == Path("/var/log/acmems.log")

    @pytest.mark.parametrize(
        "line", ["level = loud", "destination = jurnal", "destination =", "format = xml"]
    )
    def test_unknown_words_are_findings_at_their_line(self, line: str) -> None:
        """A word that is none of the known ones is a finding at its line."""
        (finding,) = wrong(f"[logging]\n{line}\n")
        assert finding.startswith("a.ini:2: ")
