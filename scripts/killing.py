"""Kill a server at every point of a start and an order, many times over, and print what came of it."""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.acme_crash import ACME_POINTS, ANY_TIMES, AcmeCrashes, ProvingCrashes
from tests.crash import ANY_TIME, FAILING, POINTS, STATE, Crashes, CrashOutcome, CrashPoint
from tests.peers import PeerFailed, Postgres
from tests.peers.disk import BROKEN, FULL, READ_ONLY, UNSYNCED, UNSYNCED_ONCE, DiskFault

HEADINGS = (
    *("kills", "lost", "issued twice", "ordered twice", "accounts lost", "torn files", "left in DNS"),
    *("repeated", "placed anew", "recovered in"),
)
FAULTS = (FULL, BROKEN, UNSYNCED, UNSYNCED_ONCE, READ_ONLY)
PLACES = {"state": STATE, "storage": "storage", "all files": "*"}

STATE_SECTION = """
[state]
url = {url}
"""


@dataclass(frozen=True)
class KeptState:
    """Where the state of a server is kept.

    Args:
        section: lines of the configuration that say so; empty: beside the account.
        empty: empties it.
        has_no_order: tells whether it has no order any more, which only a database is asked for.
    """

    section: str = ""
    empty: Callable[[], None] = lambda: None
    has_no_order: Callable[[], bool] = lambda: False


@contextlib.contextmanager
def _in_postgresql() -> Iterator[KeptState]:
    with Postgres() as server:
        name = server.make_database()

        def empty() -> None:
            server.execute("DROP SCHEMA public CASCADE", name)
            server.execute("CREATE SCHEMA public", name)

        def has_no_order() -> bool:
            return server.execute("SELECT count(*) FROM orders", name) == [(0,)]

        yield KeptState(STATE_SECTION.format(url=server.url_of(name)), empty, has_no_order)


STATES: Mapping[str, Callable[[], contextlib.AbstractContextManager[KeptState]]] = {
    "sqlite": lambda: contextlib.nullcontext(KeptState()),
    "postgresql": _in_postgresql,
}
"""Where the state may be kept: what starts a database for it."""


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Args:
        name: how it begins.
        point: where the server is killed.
        kill: kills it there once.
        is_about_file: whether it needs a state that is a file.
        crashes: makes the server, and what it works with.
    """

    name: str
    point: CrashPoint
    kill: Callable[[Crashes], CrashOutcome]
    is_about_file: bool = False
    crashes: type[Crashes] = Crashes


def main() -> int:
    """Kill as often as the command line asks for, and return whether anything was lost."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, metavar="N", help="kills at each point (50)")
    parser.add_argument("--only", metavar="POINT", help="points that have this in their names")
    parser.add_argument(
        "--faults", action="store_true", help="kills while the disk fails, in place of points"
    )
    parser.add_argument(
        "--front-end", choices=FRONT_ENDS, default="sign", help="where the certificates are asked for (sign)"
    )
    parser.add_argument("--state", choices=STATES, default="sqlite", help="where the state is kept (sqlite)")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="of the dice")  # noqa: S311 - no secret
    options = parser.parse_args()
    if options.faults and options.front_end != "sign":
        parser.error("disks fail for requests to /sign only: leave out --front-end")
    rows = [
        row
        for row in (_faults() if options.faults else FRONT_ENDS[options.front_end]())
        if (options.only is None or options.only in row.name)
        and (options.state == "sqlite" or not row.is_about_file)
    ]
    if not rows:
        parser.error(f"there is no such point: {options.only!r}")
    print(f"seed {options.seed}")
    print(f"{'killed':32}" + "".join(f"{heading:>15}" for heading in HEADINGS))
    dice = random.Random(options.seed)  # noqa: S311 - no secret
    is_clean = True
    with STATES[options.state]() as state:
        for row in rows:
            is_clean = _tell(row, options.kills, dice, state) and is_clean
    return 0 if is_clean else 1


def _points() -> Iterator[Row]:
    for point in POINTS:
        yield Row(str(point), point, functools.partial(_kill_at, point), point.file == STATE)
    yield Row(ANY_TIME.name, ANY_TIME, functools.partial(_kill_at, ANY_TIME))


def _acme_points() -> Iterator[Row]:
    for point in (*ACME_POINTS, *ANY_TIMES):
        name = str(point) if point in ACME_POINTS else point.name
        crashes = ProvingCrashes if point.is_proved_inside else AcmeCrashes
        yield Row(name, point, functools.partial(_kill_at, point), point.file == STATE, crashes)


FRONT_ENDS: Mapping[str, Callable[[], Iterator[Row]]] = {"sign": _points, "acme": _acme_points}
"""Where certificates may be asked for: the points to kill at."""


def _faults() -> Iterator[Row]:
    for fault, (name, place) in itertools.product(FAULTS, PLACES.items()):
        kill = functools.partial(_kill_while, fault, place)
        yield Row(f"{fault}, {name}", FAILING, kill, place == STATE)


def _kill_at(point: CrashPoint, crashes: Crashes) -> CrashOutcome:
    return crashes.kill(point)


def _kill_while(fault: DiskFault, place: str, crashes: Crashes) -> CrashOutcome:
    return crashes.kill_while(fault, place)


def _tell(row: Row, kills: int, dice: random.Random, state: KeptState) -> bool:
    """Kill so many times at one point, print a row, and return whether nothing was lost or made twice."""
    outcomes: list[CrashOutcome] = []
    try:
        with (
            tempfile.TemporaryDirectory(prefix="chaos-") as folder,
            row.crashes(Path(folder), dice, state.section, state.empty, state.has_no_order) as crashes,
        ):
            outcomes.extend(row.kill(crashes) for _ in range(kills))
    except (PeerFailed, AssertionError) as error:
        print(f"{row.name:32} {error}", flush=True)
        return False
    counts = (
        sum(outcome.is_lost for outcome in outcomes),
        sum(outcome.issued > 1 for outcome in outcomes),
        sum(outcome.placed > 1 + row.point.places_anew for outcome in outcomes),
        sum(outcome.accounts > row.point.is_start or outcome.accounts_lost > 0 for outcome in outcomes),
        sum(outcome.torn for outcome in outcomes),
        sum(outcome.left for outcome in outcomes),
        sum(outcome.repeated for outcome in outcomes),
    )
    anew = sum(outcome.placed > 1 for outcome in outcomes)
    seconds = f"{statistics.median(outcome.seconds for outcome in outcomes):.2f} s"
    _print_row(row.name, (len(outcomes), *counts, anew, seconds))
    for reason in filter(None, (outcome.reason for outcome in outcomes)):
        print(f"    {reason}", flush=True)
    return not any(counts)


def _print_row(name: str, cells: Sequence[object]) -> None:
    print(f"{name:32}" + "".join(f"{cell!s:>15}" for cell in cells), flush=True)


if __name__ == "__main__":
    sys.exit(main())
