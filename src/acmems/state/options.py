"""The keys of `[state]`."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from acmems.settings.options import Options
from acmems.settings.values import days

KEEP_EVENTS = datetime.timedelta(days=400)
"""For how long events are kept unless told otherwise: what happens once a year can be looked up."""

_SQLITE = "sqlite:///"


@dataclass(frozen=True, slots=True)
class StateOptions:
    """`[state]`: where the state is kept, and for how long what needs no more to be known.

    Args:
        file: the SQLite file, None for `state.sqlite` in the directory of the account.
        keep_events: for how long events are kept.
    """

    file: Path | None
    keep_events: datetime.timedelta = KEEP_EVENTS

    @classmethod
    def from_options(cls, options: Options) -> Self:
        """Read the section; what is wrong becomes findings."""
        return cls(
            options.one(
                "url",
                _file,
                None,
                meaning="`sqlite:///PATH`: the file that keeps open orders; `state.sqlite` in the account's "
                "directory unless given",
            ),
            options.one(
                "keep-events",
                _days,
                KEEP_EVENTS,
                meaning="days for which events are kept, at least 1; `acmems events` shows them",
            ),
        )

    def file_for(self, account: Path) -> Path:
        """Return the SQLite file.

        Args:
            account: the directory of the account.
        """
        return account / "state.sqlite" if self.file is None else self.file


def _file(value: str) -> Path:
    path = value.removeprefix(_SQLITE)
    if path == value or not path:
        raise ValueError(f"{value!r} is no URL of a state: sqlite:///PATH")
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
