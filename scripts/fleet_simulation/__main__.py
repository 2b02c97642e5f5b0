"""Simulate a fleet of certificates: whether all are renewed in time, and no limit of the CA is broken.

The planner, the ledger and the state are those of acmems; time and the CA are simulated. It exits with 1 if a
certificate has expired, or the CA would have refused an order because of a limit.
"""

from __future__ import annotations

import gc
import logging
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from scripts.fleet_simulation import checkpoint, report
from scripts.fleet_simulation.checkpoint import Checkpoint
from scripts.fleet_simulation.fleet import Course, Fleet
from scripts.fleet_simulation.outcome import Outcome
from scripts.fleet_simulation.plan import Plan, parse
from scripts.fleet_simulation.state import USUAL_CACHE, give_up_locks

_TOLD_DAYS, _KEPT_DAYS = 10, 30


def main() -> int:
    """Simulate what the command line asks for, and return the exit code."""
    options = parse(sys.argv[1:])
    logging.disable()
    give_up_locks()
    gc.disable()  # there is next to nothing to be found, and it is looked for once a day
    stopped: list[int] = []
    for each in signal.SIGTERM, signal.SIGINT:  # a run takes long: report what there is by then
        signal.signal(each, lambda number, _: stopped.append(number))
    cache = USUAL_CACHE if options.cache is None else options.cache * 1_000_000
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        outcome = simulate(options.plan, options.keep, stopped, cache, keeps=True)
    else:
        with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
            outcome = simulate(options.plan, Path(folder), stopped, cache)
    print(report.as_text(options.plan, outcome))
    if options.svg is not None:
        options.svg.write_text(report.as_svg(options.plan, outcome), encoding="utf-8")
    if options.json is not None:
        options.json.write_text(report.as_json(options.plan, outcome), encoding="utf-8")
    return 0 if outcome.is_good else 1


def simulate(
    plan: Plan, folder: Path, stopped: Sequence[int], cache: int = USUAL_CACHE, *, keeps: bool = False
) -> Outcome:
    """Simulate until the last day, or a signal.

    Args:
        plan: what.
        folder: for the state.
        stopped: the signals that have come.
        cache: bytes of the state that are kept in memory.
        keeps: whether it is kept there, so that it goes on at the next time.
    """
    known = checkpoint.resume(folder, plan) if keeps else None
    used, passed = (0.0, 0.0) if known is None else (known.cpu_seconds, known.seconds)
    began = time.monotonic() - passed
    fleet = Fleet(folder, plan, Course.new(plan) if known is None else known.course, cache)
    if known is None:
        fleet.begin()
    print(f"at the start: {cpu(used):,.0f} s of CPU time", file=sys.stderr, flush=True)

    def tell(day: int) -> bool:
        is_stopped = bool(stopped)
        gc.collect()
        if day % _TOLD_DAYS == 0:
            told = f"day {day}: {fleet.outcome.renewals:,} renewals, {fleet.ca.questions:,} questions"
            print(f"{told}, {cpu(used):,.0f} s of CPU time", file=sys.stderr, flush=True)
        if keeps and (is_stopped or day % _KEPT_DAYS == 0):
            fleet.commit()
            checkpoint.keep(folder, Checkpoint(plan, fleet.course, cpu(used), time.monotonic() - began))
        return not is_stopped

    fleet.run(tell)
    outcome = fleet.finish()
    outcome.stop(cpu(used), time.monotonic() - began)
    return outcome


def cpu(used: float) -> float:
    """Return the CPU time in seconds, with what was used before."""
    return used + time.process_time()


if __name__ == "__main__":
    sys.exit(main())
