"""The keys of `[state]`."""

from __future__ import annotations

from pathlib import Path

import pytest

from acmems.config import Configuration
from acmems.exceptions import ConfigurationError

TEXT = '[account]\ndir = /var/lib/acmems/account\n[auth "x"]\nall = yes\ndomain = **\n'


def test_the_default() -> None:
    """The state lies beside the account."""
    config = Configuration.from_text(TEXT)
    assert config.state.file_for(config.account.dir) == Path("/var/lib/acmems/account/state.sqlite")


def test_a_file() -> None:
    """A SQLite file may lie anywhere."""
    config = Configuration.from_text(f"{TEXT}[state]\nurl = sqlite:////srv/state.sqlite\n")
    assert config.state.file_for(config.account.dir) == Path("/srv/state.sqlite")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("/srv/state.sqlite", "no URL of a state"),
        ("sqlite:///", "no URL of a state"),
        ("mysql://host/state", "no URL of a state"),
        ("sqlite:///state.sqlite", "is relative"),
    ],
)
def test_what_is_none(url: str, message: str) -> None:
    """Whatever cannot be a state is a mistake of the configuration."""
    with pytest.raises(ConfigurationError, match=message):
        Configuration.from_text(f"{TEXT}[state]\nurl = {url}\n")


def test_how_long_events_are_kept() -> None:
    """A year and a month, or as many days as somebody says."""
    assert Configuration.from_text(TEXT).state.keep_events.days == 400
    assert Configuration.from_text(f"{TEXT}[state]\nkeep-events = 30\n").state.keep_events.days == 30


@pytest.mark.parametrize("days", ["0", "30d", "-1"])
def test_how_long_they_cannot_be_kept(days: str) -> None:
    """For ever, or not at all, they are not kept."""
    with pytest.raises(ConfigurationError, match="keep-events: "):
        Configuration.from_text(f"{TEXT}[state]\nkeep-events = {days}\n")
