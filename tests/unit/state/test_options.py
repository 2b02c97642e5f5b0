"""The keys of `[state]`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest

from acmems.config import Configuration
from acmems.exceptions import ConfigurationError, StateUnavailable
from acmems.state.engines.sqlite import StateInUse
from acmems.state.opening import look_at_state, open_state
from acmems.text import Secret

TEXT = '[account]\ndir = /var/lib/acmems/account\n[auth "x"]\nall = yes\ndomain = **\n'


def test_the_default() -> None:
    """The state lies beside the account."""
    config = Configuration.from_text(TEXT)
    assert config.state.place(config.account.dir) == Path("/var/lib/acmems/account/state.sqlite")


def test_a_file() -> None:
    """A SQLite file may lie anywhere."""
    config = Configuration.from_text(f"{TEXT}[state]\nurl = sqlite:////srv/state.sqlite\n")
    assert config.state.place(config.account.dir) == Path("/srv/state.sqlite")


def test_a_link(tmp_path: Path) -> None:
    """Whoever comes by a link and whoever names the file itself do not use it both as if they were alone."""
    (tmp_path / "link.sqlite").symlink_to("state.sqlite")
    by_link, by_name = (
        Configuration.from_text(f"{TEXT}[state]\nurl = sqlite:///{tmp_path}/{name}.sqlite\n").state
        for name in ("link", "state")
    )
    with contextlib.closing(open_state(by_link, tmp_path)), pytest.raises(StateInUse):
        open_state(by_name, tmp_path)
    assert {each.name for each in tmp_path.iterdir()} >= {"link.sqlite", "state.sqlite", "state.sqlite.lock"}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("/srv/state.sqlite", "no URL of a state"),
        ("sqlite:///", "no URL of a state"),
        ("mysql://host/state", "no URL of a state"),
        ("sqlite:///state.sqlite", "is relative"),
        ("postgresql://host:port/state", "is no URL of a database"),
        ("postgresql://user:pass/xyzzy@host/state", "is no URL of a database"),
        ("postgresql://user:pass@xyzzy@host/state", "is no URL of a database"),
        ("postgresql://host/state#x", "is no URL of a database"),
    ],
)
def test_what_is_none(url: str, message: str) -> None:
    """Whatever cannot be a state is a mistake of the configuration; a password is not repeated."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        Configuration.from_text(f"{TEXT}[state]\nurl = {url}\n")
    assert "xyzzy" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://",
        "postgres://host",
        "postgresql://user@host:5432/state",
        "postgresql://user:pass%2Fword@[::1]:5432/state?sslmode=verify-full",
        "postgresql://one:1,two:2/state?target_session_attrs=read-write",
        "postgresql:///state?host=/run/postgresql",
        "postgresql://%2Frun%2Fpostgresql/state",
    ],
)
def test_a_database(url: str) -> None:
    """Whatever libpq takes for a URL may be a state; it is a secret, as it may hold a password."""
    config = Configuration.from_text(f"{TEXT}[state]\nurl = {url}\n")
    assert config.state.place(config.account.dir) == Secret(url)
    assert url not in repr(config.state)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"], ids=["none", "unix", "windows"])
def test_a_file_with_the_url(tmp_path: Path, end: str) -> None:
    """The URL is read from a file when it is needed, without the end of its line."""
    config = Configuration.from_text(f"{TEXT}[state]\nurl-file = {tmp_path}/url\n")
    with pytest.raises(StateUnavailable, match="url: No such file or directory"):
        config.state.place(config.account.dir)
    for url, place in (("sqlite:////x", Path("/x")), ("postgres://u:p@h/d", Secret("postgres://u:p@h/d"))):
        (tmp_path / "url").write_text(url + end, encoding="utf-8", newline="")
        assert config.state.place(config.account.dir) == place


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds is no URL of a state"),
        (b"postgresql://user:pass/xyzzy@host/state", "holds is no URL of a database"),
        (b"postgresql://a:xyzzy@b/c\npostgresql://a:xyzzy@d/c\n", "holds is no URL of a database"),
        (b"\xff\xfexyzzy", "is no text"),
    ],
    ids=["nothing", "slash", "two lines", "no text"],
)
def test_a_file_without_a_url(tmp_path: Path, content: bytes, words: str) -> None:
    """What is wrong with the file is told, but not what it holds."""
    config = Configuration.from_text(f"{TEXT}[state]\nurl-file = {tmp_path}/url\n")
    (tmp_path / "url").write_bytes(content)
    with pytest.raises(StateUnavailable, match=words) as caught:
        config.state.place(config.account.dir)
    assert "xyzzy" not in str(caught.value)


def test_two_places() -> None:
    """The URL stands in one place."""
    with pytest.raises(ConfigurationError, match="both given"):
        Configuration.from_text(f"{TEXT}[state]\nurl = sqlite:////x\nurl-file = /y\n")


def test_postgresql_without_its_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is to be installed is told, by the configuration or when the state is opened."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigurationError, match=r"^<text>:7: .*pip install 'acmems\[postgres\]'"):
        Configuration.from_text(f"{TEXT}[state]\nurl = postgresql://host/state\n")
    (tmp_path / "url").write_text("postgresql://host/state", encoding="utf-8")
    config = Configuration.from_text(f"{TEXT}[state]\nurl-file = {tmp_path}/url\n")
    for way in (open_state, look_at_state):
        with pytest.raises(StateUnavailable, match=r"pip install 'acmems\[postgres\]'"):
            way(config.state, tmp_path)


def test_how_long_events_are_kept() -> None:
    """A year and a month, or as many days as somebody says."""
    assert Configuration.from_text(TEXT).state.keep_events.days == 400
    assert Configuration.from_text(f"{TEXT}[state]\nkeep-events = 30\n").state.keep_events.days == 30


def test_how_long_history_is_kept() -> None:
    """For ever, or for as many days as somebody says."""
    assert Configuration.from_text(TEXT).state.keep_chains is None
    kept = Configuration.from_text(f"{TEXT}[state]\nkeep-chains = 30\n").state.keep_chains
    assert kept is not None
    assert kept.days == 30


@pytest.mark.parametrize("days", ["0", "30d", "-1"])
def test_how_long_they_cannot_be_kept(days: str) -> None:
    """For ever, or not at all, they are not kept."""
    with pytest.raises(ConfigurationError, match="keep-events: "):
        Configuration.from_text(f"{TEXT}[state]\nkeep-events = {days}\n")
