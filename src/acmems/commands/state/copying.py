"""`acmems state backup`."""

from __future__ import annotations

import argparse
from pathlib import Path

from acmems.commands.state.outcome import Outcome
from acmems.config import Configuration
from acmems.exceptions import StateUnavailable
from acmems.state.engines.copying import back_up
from acmems.text import Secret


def run(config: Configuration, options: argparse.Namespace) -> Outcome:
    """Copy a SQLite file, also while a server uses it.

    Raises:
        StateUnavailable: the state cannot be read, or is kept by PostgreSQL.
        OSError: the copy cannot be written.
    """
    place, target = config.state.place(config.home), Path(options.file)
    if isinstance(place, Secret):
        raise StateUnavailable(
            "PostgreSQL keeps the state, and copies it itself: pg_dump --format=custom --file=FILE DATABASE, "
            "and pg_restore to go back"
        )
    back_up(place, target)
    size = target.stat().st_size
    return Outcome(
        {"state": place, "backup": target, "size": f"{size} bytes"},
        {"state": str(place), "backup": str(target), "bytes": size},
    )
