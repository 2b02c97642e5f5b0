"""Simulate a fleet of certificates: whether all are renewed in time, and no limit of the CA is broken.

The planner, the ledger and the state are those of acmems; time and the CA are simulated. It exits with 1 if a
certificate has expired, or the CA would have refused an order because of a limit.
"""

from __future__ import annotations

import logging
import signal
import sys
import tempfile
import time
from pathlib import Path

from scripts.fleet_simulation import report
from scripts.fleet_simulation.fleet import Fleet
from scripts.fleet_simulation.plan import parse


def main() -> int:
    """Simulate what the command line asks for, and return the exit code."""
    options = parse(sys.argv[1:])
    logging.disable()
    began, stopped = time.monotonic(), []
    for each in signal.SIGTERM, signal.SIGINT:  # a run takes long: report what there is by then
        signal.signal(each, lambda number, _: stopped.append(number))
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        fleet = Fleet(Path(folder), options.plan)
        fleet.begin()
        print(f"at the start: {time.process_time():,.0f} s of CPU time", file=sys.stderr, flush=True)

        def tell(day: int) -> bool:
            if day % 10 == 0:
                told = f"day {day}: {fleet.outcome.renewals:,} renewals, {fleet.ca.questions:,} questions"
                print(f"{told}, {time.process_time():,.0f} s of CPU time", file=sys.stderr, flush=True)
            return not stopped

        fleet.run(tell)
        outcome = fleet.finish()
    outcome.stop(time.process_time(), time.monotonic() - began)
    print(report.as_text(options.plan, outcome))
    if options.svg is not None:
        options.svg.write_text(report.as_svg(options.plan, outcome), encoding="utf-8")
    if options.json is not None:
        options.json.write_text(report.as_json(options.plan, outcome), encoding="utf-8")
    return 0 if outcome.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
