"""What is simulated: how many certificates, for how long, and what happens meanwhile."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from acmems.issuing.limits.gcra import Rate
from acmems.issuing.limits.limit import LETSENCRYPT, Counted, Limit

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
SECOND = datetime.timedelta(seconds=1)
HOUR = datetime.timedelta(hours=1)
DAY = 24 * HOUR
WEEK = 7 * DAY
ORDERS_PERIOD = 3 * HOUR
LIFETIMES = (90 * DAY, 45 * DAY, 160 * HOUR)
PER_DOMAIN = 500
"""Certificates below a registered domain, on average: some domains have many more."""

_MILLISECOND = datetime.timedelta(milliseconds=1)


@dataclass(frozen=True)
class Overrides:
    """The limits of an account for which the CA has raised some.

    Args:
        orders: new orders in three hours.
        per_domain: certificates for a registered domain in a week.
        per_names: certificates for exactly the same names in a week.
    """

    orders: int
    per_domain: int
    per_names: int = 5

    @classmethod
    def scaled(cls, size: int) -> Overrides:
        """Return limits for an account with so many certificates, none lower than everybody has."""
        return cls(orders=max(300, size // 100), per_domain=max(50, size // 500))

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The same as `[limit]` sections."""
        orders, week = Rate(self.orders, ORDERS_PERIOD // _MILLISECOND), WEEK // _MILLISECOND
        return (
            Limit("new orders per account", Counted.ORDERS, orders, exempts_renewals=True),
            Limit(
                "certificates per registered domain",
                Counted.DOMAIN,
                Rate(self.per_domain, week),
                exempts_renewals=True,
            ),
            *(each for each in LETSENCRYPT if each.counts in {Counted.NAMES, Counted.FAILURES}),
        )


@dataclass(frozen=True)
class Plan:
    """A simulation.

    Args:
        certificates: how many there are at the beginning.
        days: for how long.
        seed: of all that is random.
        shares: of the lifetimes among the certificates, in the order of `LIFETIMES`.
        growth: new machines a day, for each thousand certificates.
        outage: the day on which the CA is away, None for no such day.
        revoke: the day on which it has to revoke a tenth, None for no such day.
        burst: the day on which many new machines come at once, None for no such day.
        burst_share: how many those are, for each certificate.
        retry_after: the hours after which the CA wants to be asked about renewal again.
        step: the time between two looks at what is due.
        overrides: the limits.
        keep_chains: for how long chains are kept that have expired and were renewed, None for ever.
    """

    certificates: int
    days: int
    seed: int
    shares: tuple[float, ...]
    growth: float
    outage: int | None
    revoke: int | None
    burst: int | None
    burst_share: float
    retry_after: float
    step: datetime.timedelta
    overrides: Overrides
    keep_chains: datetime.timedelta | None = None

    @property
    def domains(self) -> int:
        """How many registered domains they have."""
        return max(1, self.certificates // PER_DOMAIN)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of a command line; its `plan` is the simulation."""
    parser = argparse.ArgumentParser(prog="scripts/fleet", description=__doc__)
    add = parser.add_argument
    add("--certificates", type=int, default=20_000, metavar="N", help="at the beginning (%(default)s)")
    add("--days", type=int, default=365, metavar="N", help="%(default)s")
    add("--seed", type=int, default=1, metavar="N", help="of all that is random (%(default)s)")
    add(
        "--shares",
        type=float,
        nargs=3,
        default=(60, 35, 5),
        metavar="PERCENT",
        help="90 d, 45 d, 160 h (60 35 5)",
    )
    add(
        "--growth",
        type=float,
        default=1.0,
        metavar="N",
        help="new machines a day for each thousand (%(default)s)",
    )
    add(
        "--outage",
        type=int,
        metavar="DAY",
        help="the CA is away on it; after a third of the days, -1 for never",
    )
    add("--revoke", type=int, metavar="DAY", help="a tenth is to be revoked; after two thirds, -1 for never")
    add(
        "--burst",
        type=int,
        metavar="DAY",
        help="two in a hundred more machines come; at half time, -1 for never",
    )
    add(
        "--retry-after", type=float, default=6.0, metavar="HOURS", help="of renewal information (%(default)s)"
    )
    add(
        "--step",
        type=float,
        default=30.0,
        metavar="MINUTES",
        help="between looks at what is due (%(default)s)",
    )
    add(
        "--keep-chains",
        type=float,
        metavar="DAYS",
        help="as in [state]: forget what has expired and was renewed so many days later",
    )
    add(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="keep it there every 30 days and when it is stopped, and go on from there; it may take hours",
    )
    add(
        "--cache",
        type=int,
        metavar="MB",
        help="of the state in memory (half of the machine's); a server needs no more than 1, and is slower",
    )
    add("--json", type=Path, metavar="FILE", help="write what has come of it to a file, too")
    add("--svg", type=Path, metavar="FILE", help="draw the orders a day, too")
    options = parser.parse_args(arguments)

    def day(asked: int | None, usual: int) -> int | None:
        wanted = usual if asked is None else asked
        return wanted if 0 <= wanted < options.days else None

    options.plan = Plan(
        certificates=options.certificates,
        days=options.days,
        seed=options.seed,
        shares=tuple(each / sum(options.shares) for each in options.shares),
        growth=options.growth,
        outage=day(options.outage, options.days // 3),
        revoke=day(options.revoke, options.days * 2 // 3),
        burst=day(options.burst, options.days // 2),
        burst_share=0.02,
        retry_after=options.retry_after,
        step=datetime.timedelta(minutes=options.step),
        overrides=Overrides.scaled(options.certificates),
        keep_chains=None if options.keep_chains is None else datetime.timedelta(days=options.keep_chains),
    )
    return options
