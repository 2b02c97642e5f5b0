"""Measure acmems beside a floor and a rival, and print the figures as a table.

Figures are ratios within one run: a busy machine slows all alike. A missed target is shown and is no failure.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from scripts.benchmark import report
from scripts.benchmark.figures import FIGURES, FULL, QUICK, Plan
from scripts.benchmark.rows import Measured
from scripts.benchmark.stage import LockedUp, Stage
from tests.peers import ChallTestSrv, PeerFailed

TRIES = 4
"""How often a figure is measured at most, where a CA locks itself up."""
COLOUR = sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def main() -> int:
    """Measure what the command line asks for, and return the exit code."""
    options = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        results, failed = measure(options.only or list(FIGURES), QUICK if options.quick else FULL)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 1
    if results:
        print(report.markdown(results) if options.markdown else report.plain(results, paint))
    if options.json is not None:
        options.json.write_text(report.as_json(results), encoding="utf-8")
    if failed:
        print(paint("31", f"failed: {', '.join(failed)}"), file=sys.stderr)
    return 1 if failed else 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of a command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds and smaller crowds: under a minute"
    )
    parser.add_argument("--only", nargs="+", choices=list(FIGURES), metavar="FIGURE", help=", ".join(FIGURES))
    parser.add_argument("--markdown", action="store_true", help="print tables for docs/benchmarks.md")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file, too")
    return parser.parse_args(arguments)


def measure(names: Sequence[str], plan: Plan) -> tuple[dict[str, Measured], list[str]]:
    """Measure figures, one after the other; one that fails does not stop the others.

    Args:
        names: of the figures.
        plan: how much is measured.

    Returns:
        What was measured, by figure, and the figures that failed.
    """
    results: dict[str, Measured] = {}
    failed = []
    for position, name in enumerate(names, 1):
        say(f"{position}/{len(names)} {name}")
        began = time.monotonic()
        try:
            results[name] = once_unlocked(FIGURES[name], plan)
        except (PeerFailed, OSError) as error:
            failed.append(name)
            # What follows the first line is a peer's log, which may have thousands.
            print(f"{name}: {str(error).partition(chr(10))[0]}", file=sys.stderr)
        say(f"{position}/{len(names)} {name}: {time.monotonic() - began:.0f} s\n")
    return results, failed


def once_unlocked(figure: Callable[[Stage, Plan], Measured], plan: Plan) -> Measured:
    """Measure a figure, again with new peers where a CA locked itself up.

    Raises:
        LockedUp: that happened too often.
        PeerFailed: something else failed.
    """
    for attempt in range(1, TRIES):
        try:
            with ChallTestSrv() as dns:
                return figure(Stage(dns), plan)
        except LockedUp as error:
            print(f"{error}; measuring again ({attempt})", file=sys.stderr)
    with ChallTestSrv() as dns:
        return figure(Stage(dns), plan)


def say(text: str) -> None:
    """Show progress at a terminal, in place; a line break at its end lets it stand."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def paint(colour: str, text: str) -> str:
    """Return a text in a colour, at a terminal."""
    return f"\x1b[{colour}m{text}\x1b[0m" if COLOUR else text


if __name__ == "__main__":
    sys.exit(main())
