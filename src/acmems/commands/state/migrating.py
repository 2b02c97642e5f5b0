"""`acmems state migrate`."""

from __future__ import annotations

import argparse

from acmems.commands.state.outcome import Outcome
from acmems.config import Configuration
from acmems.state.opening import migrate_state


def run(config: Configuration, _: argparse.Namespace) -> Outcome:
    """Bring the tables up to date, and say from which revision to which.

    Raises:
        StateInUse: a server uses a SQLite file.
        StateUnavailable: the state cannot be used.
    """
    place, before, after = migrate_state(config.state, config.home)
    revision = f"{after}, as before" if before == after else f"{before} -> {after}"
    return Outcome(
        {"state": place, "revision": revision}, {"state": place, "revision_before": before, "revision": after}
    )
