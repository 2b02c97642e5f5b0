"""The keys of `[state]`."""

from __future__ import annotations

import datetime
import importlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from acmems.exceptions import StateUnavailable
from acmems.settings.options import Options
from acmems.settings.values import days
from acmems.settings.values import path as file_path
from acmems.system.permissions import NamedFile, reason
from acmems.text import Secret

KEEP_EVENTS = datetime.timedelta(days=400)
"""For how long events are kept unless told otherwise: what happens once a year can be looked up."""

_SQLITE = "sqlite:///"
_SERVER = ("postgresql://", "postgres://")
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[^\s/@:?#\[\],]*)(?::[0-9]+)?"
_SERVER_URL = re.compile(
    rf"postgres(?:ql)?://(?:[^\s/@:?#]*(?::[^\s/@:?#]*)?@)?{_HOST}(?:,{_HOST})*(?:/[^\s/@?#]*)?(?:\?[^\s#]*)?"
)
_LARGEST_FILE = 65536

StatePlace = Path | Secret
"""Where a state is: the SQLite file, or the URL of a database of PostgreSQL, which may hold a password."""


@dataclass(frozen=True, slots=True)
class StateOptions:
    """`[state]`: where the state is kept, and for how long what needs no more to be known.

    Args:
        url: what `url` says, None for `state.sqlite` in the directory of the account.
        url_file: the file to read it from instead.
        keep_events: for how long events are kept.
        keep_chains: for how long chains are kept that have expired and were replaced, None for ever.
    """

    url: StatePlace | None
    url_file: Path | None = None
    keep_events: datetime.timedelta = KEEP_EVENTS
    keep_chains: datetime.timedelta | None = None

    @classmethod
    def from_options(cls, options: Options) -> Self:
        """Read the section; what is wrong becomes findings."""
        url = options.one(
            "url",
            state_place,
            None,
            meaning="`sqlite:///PATH`: the file that keeps the state; or `postgresql://USER@HOST/DATABASE`, "
            "for several servers; `state.sqlite` in the account's directory unless given",
        )
        url_file = options.one(
            "url-file",
            file_path,
            None,
            meaning="file to read the URL from, instead of `url`, since it may hold a password",
        )
        if url_file is not None and options.has("url"):
            options.report("'url' and 'url-file' are both given: remove one of them", "url-file")
        if isinstance(url, Secret) and (missing := missing_driver()) is not None:
            options.report(missing, "url")
        keep_events = options.one(
            "keep-events",
            _days,
            KEEP_EVENTS,
            meaning="days for which events are kept, at least 1; `acmems events` shows them",
        )
        keep_chains = options.one(
            "keep-chains",
            _days,
            None,
            meaning="days for which a chain is kept after its end, at least 1, if there is a newer one for "
            "the same; for ever unless given",
        )
        return cls(url, url_file, keep_events, keep_chains)

    @property
    def key(self) -> str | None:
        """The key that says where the state is, None where none does."""
        if self.url_file is not None:
            return "url-file"
        return None if self.url is None else "url"

    def place(self, account: Path) -> StatePlace:
        """Return where the state is; reads the file that says so, if there is one.

        A link is followed: the lock that keeps two servers apart lies beside the file itself.

        Args:
            account: the directory of the account.

        Raises:
            StateUnavailable: the file cannot be read, or holds no URL of a state.
        """
        place = self._named(account)
        if isinstance(place, Path) and os.path.islink(place):  # noqa: PTH114 - which says no where it may not look
            return Path(os.path.realpath(place))
        return place

    def _named(self, account: Path) -> StatePlace:
        if self.url_file is not None:
            return _read(self.url_file)
        return account / "state.sqlite" if self.url is None else self.url

    def named_files(self) -> Iterable[NamedFile]:
        """Return the file that holds the URL."""
        if self.url_file is not None:
            yield NamedFile("url-file", self.url_file, is_secret=True)


def state_place(value: str) -> StatePlace:
    """Parse the URL of a state.

    Raises:
        ValueError: it is none; the words do not quote what may be a password.
    """
    if value.startswith(_SERVER):
        if _SERVER_URL.fullmatch(value) is None:
            raise ValueError(
                "is no URL of a database: postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with each of "
                "/ @ : ? # % in the password as %XX"
            )
        return Secret(value)
    path = value.removeprefix(_SQLITE)
    if path == value or not path:
        raise ValueError("is no URL of a state: sqlite:///PATH or postgresql://USER@HOST/DATABASE")
    if not path.startswith("/"):
        raise ValueError(
            f"{path!r} is relative; write the whole path: sqlite:////var/lib/acmems/state.sqlite"
        )
    return Path(path)


def _days(value: str) -> datetime.timedelta:
    kept = days(value)
    if not kept:
        raise ValueError("must be at least 1")
    return kept


def missing_driver() -> str | None:
    """Return what to install for PostgreSQL, None if all is there."""
    try:
        importlib.import_module("psycopg")
    except ImportError:
        return "what speaks to PostgreSQL is not installed: pip install 'acmems[postgres]'"
    return None


def _read(path: Path) -> StatePlace:
    try:
        with path.open(encoding="utf-8") as file:
            return state_place(file.read(_LARGEST_FILE).rstrip("\r\n"))
    except OSError as error:
        raise StateUnavailable(
            f"the URL of the state cannot be read: {path}: {reason(error, path)}"
        ) from error
    except UnicodeDecodeError:
        raise StateUnavailable(f"the URL of the state cannot be read: {path} is no text") from None
    except ValueError as error:
        raise StateUnavailable(f"the URL of the state cannot be used: what {path} holds {error}") from None
