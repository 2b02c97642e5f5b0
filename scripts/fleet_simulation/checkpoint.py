"""A simulation that has not ended, on disk: it takes hours, and goes on another day where it was.

The state of the fleet is copied beside it, because the file that is worked with is never made durable.
"""

from __future__ import annotations

import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path

from scripts.fleet_simulation.fleet import STATE, Course
from scripts.fleet_simulation.plan import Plan

_KEPT_STATE, _KEPT_REST = "kept.sqlite", "kept.pickle"


@dataclass(frozen=True)
class Checkpoint:
    """Everything of a simulation but its state.

    Args:
        plan: what is simulated.
        course: how far it has come.
        cpu_seconds: what has been used so far.
        seconds: of real time.
    """

    plan: Plan
    course: Course
    cpu_seconds: float
    seconds: float


def keep(folder: Path, checkpoint: Checkpoint) -> None:
    """Keep a simulation whose state is committed.

    Args:
        folder: where its state is, and all is kept.
        checkpoint: the rest of it.
    """
    shutil.copyfile(folder / STATE, folder / f"{_KEPT_STATE}.new")
    (folder / f"{_KEPT_REST}.new").write_bytes(pickle.dumps(checkpoint))
    # They belong together: neither is there in between.
    (folder / _KEPT_REST).unlink(missing_ok=True)
    (folder / f"{_KEPT_STATE}.new").replace(folder / _KEPT_STATE)
    (folder / f"{_KEPT_REST}.new").replace(folder / _KEPT_REST)


def resume(folder: Path, plan: Plan) -> Checkpoint | None:
    """Put back the state that was kept, and return the rest; None where nothing was kept.

    Args:
        folder: where it is kept.
        plan: what is to be simulated.

    Raises:
        ValueError: another simulation is kept there.
    """
    file = folder / _KEPT_REST
    if not file.exists():
        return None
    kept: Checkpoint = pickle.loads(file.read_bytes())  # noqa: S301 - this program has written it
    if kept.plan != plan:
        raise ValueError(f"{folder} keeps another simulation: {kept.plan}")
    (folder / STATE).touch(0o600)  # others may not read a state; it may be gone
    shutil.copyfile(folder / _KEPT_STATE, folder / STATE)
    return kept
