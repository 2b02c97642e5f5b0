"""`acmems state check`."""

from __future__ import annotations

import argparse
import contextlib
from typing import Any

from acmems.commands.exit_code import ExitCode
from acmems.commands.state import repairing
from acmems.commands.state.outcome import Outcome
from acmems.config import Configuration
from acmems.exceptions import StateUnavailable
from acmems.state.engines.sqlite import SqliteDatabase, is_damage
from acmems.state.examination import Examination, examine
from acmems.state.opening import look_at_state
from acmems.text import Secret


def run(config: Configuration, options: argparse.Namespace) -> Outcome:
    """Look at everything in the state; put right what can be, if that is asked for.

    Raises:
        StateInUse: it is to be put right, and a server uses it.
        StateUnavailable: there is none, or it was written by another version.
    """
    done: list[str] = []
    examination = _examined(config)
    if options.repair and not examination.is_sound:
        done = repairing.repair(config, examination)
        examination = _examined(config)
    facts: dict[str, object] = {
        "state": examination.place,
        "revision": examination.revision,
        "database": "damaged" if examination.faults else "sound",
        **examination.rows,
    }
    if "chains" in facts:
        facts["chains"] = f"{facts['chains']}, of which {examination.current} are current"
    facts["damaged"] = len(examination.damaged)
    return Outcome(
        facts,
        _document(examination, done),
        [*(f"acmems: {line}" for line in done), *_problems(examination, is_repaired=options.repair)],
        ExitCode.DONE if examination.is_sound else ExitCode.FAILED,
    )


def _examined(config: Configuration) -> Examination:
    """Look at the state without changing it; a file that cannot be opened is a fault."""
    place = config.state.place(config.home)
    if isinstance(place, Secret):
        database = look_at_state(config.state, config.home)
    else:
        try:
            SqliteDatabase.revision_of(place)
        except StateUnavailable as error:
            if not is_damage(error):
                raise
            return Examination(str(place), 0, (str(error),), {}, 0, ())
        database = SqliteDatabase.look(place)
    with contextlib.closing(database):
        return examine(database)


def _document(examination: Examination, done: list[str]) -> dict[str, Any]:
    return {
        "state": examination.place,
        "sound": examination.is_sound,
        "revision": examination.revision,
        "faults": list(examination.faults),
        "rows": examination.rows,
        "current_chains": examination.current,
        "damaged": [
            {"table": each.table, "key": each.key, "names": list(each.names), "reason": each.reason}
            for each in examination.damaged
        ],
        "repaired": done,
    }


def _problems(examination: Examination, *, is_repaired: bool) -> list[str]:
    problems = [f"acmems: {examination.place}: {fault}" for fault in examination.faults]
    for each in examination.damaged:
        names = f" ({', '.join(each.names)})" if each.names else ""
        problems.append(f"acmems: {each.table} {each.key}{names}: {each.reason}")
    if problems and not is_repaired:
        problems.append(
            "acmems: stop the server, and put right what can be with 'acmems state check --repair'"
        )
    elif examination.damaged:
        problems.append("acmems: the rest does no harm: such a chain is ordered anew when it is asked for")
    return problems
