"""Configuration text beside a minimal account and auth block, and what is wrong with it."""

from __future__ import annotations

import pytest

from acmems.config import Configuration
from acmems.exceptions import ConfigurationError

ACCOUNT = "[account]\ndir = /var/lib/acmems\n"
AUTH = '[auth "all"]\nall = yes\ndomain = **\n'


def load(text: str = "") -> Configuration:
    """Load what stands beside a minimal account and auth block."""
    return Configuration.from_text(ACCOUNT + AUTH + text, "a.ini")


def findings(text: str) -> list[str]:
    """Return what is wrong with a text."""
    with pytest.raises(ConfigurationError) as caught:
        Configuration.from_text(text, "a.ini")
    return [str(finding) for finding in caught.value.findings]


def wrong(text: str) -> list[str]:
    """Return what is wrong with a text that stands in front of a minimal account and auth block."""
    return findings(text + "\n" + ACCOUNT + AUTH)
