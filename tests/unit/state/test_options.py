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
