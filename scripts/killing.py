"""Kill a server at every point of an order, many times over, and print what came of it."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from tests.crash import POINTS, Crashes, CrashOutcome, CrashPoint
from tests.fault_proxy import FaultProxy
from tests.peers import CALM, Acmems, ChallTestSrv, Pebble, Settings

HEADINGS = ("killed", "kills", "lost", "issued twice", "ordered twice", "torn files", "recovered in")


def main() -> int:
    """Kill as often as the command line asks for, and return whether anything was lost."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, metavar="N", help="kills at each point (50)")
    kills = parser.parse_args().kills
    print("".join(f"{heading:>15}" for heading in HEADINGS).replace(" " * 9, "", 1))
    is_clean = True
    for point in POINTS:
        outcomes = kill(point, kills)
        is_clean = is_clean and tell(point, outcomes)
    return 0 if is_clean else 1


def kill(point: CrashPoint, kills: int) -> list[CrashOutcome]:
    """Return what came of so many kills at one point."""
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as name,
        ChallTestSrv() as dns,
        Pebble(dns.address, env=CALM) as pebble,
        FaultProxy(pebble) as proxy,
    ):
        folder = Path(name)
        (folder / "acmems").mkdir()
        settings = proxy.before(Settings.of(pebble, folder / "acmems"))
        with Acmems(settings) as acmems:
            crashes = Crashes(pebble, proxy, settings, acmems, folder)
            return [crashes.kill(point) for _ in range(kills)]


def tell(point: CrashPoint, outcomes: list[CrashOutcome]) -> bool:
    """Print one row, and return whether nothing was lost and nothing made twice."""
    lost = sum(outcome.is_lost for outcome in outcomes)
    issued = sum(outcome.issued > 1 for outcome in outcomes)
    placed = sum(outcome.placed > 1 + point.places_anew for outcome in outcomes)
    torn = max(outcome.torn for outcome in outcomes)
    seconds = statistics.median(outcome.seconds for outcome in outcomes)
    cells = (len(outcomes), lost, issued, placed, torn, f"{seconds:.2f} s")
    print(f"{point!s:24}" + "".join(f"{cell:>15}" for cell in cells), flush=True)
    return not (lost or issued or placed or torn)


if __name__ == "__main__":
    sys.exit(main())
