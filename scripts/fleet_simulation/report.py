"""What a person or a program reads of a simulation."""

from __future__ import annotations

import dataclasses
import datetime
import json

from scripts.fleet_simulation import plots
from scripts.fleet_simulation.outcome import Outcome
from scripts.fleet_simulation.plan import DAY, ORDERS_PERIOD, Plan


def as_text(plan: Plan, outcome: Outcome) -> str:
    """Return a table and a plot."""
    failures = ", ".join(f"{why}: {count:,}" for why, count in sorted(outcome.failed.items()))
    per_chain = outcome.plan_seconds / max(1, outcome.certificates)
    rows = {
        "certificates at the beginning, at the end": f"{plan.certificates:,}, {outcome.certificates:,}",
        "days, seed": f"{outcome.days}, {plan.seed}",
        "limits: orders in 3 h, certificates a domain and week": (
            f"{plan.overrides.orders:,}, {plan.overrides.per_domain:,}"
        ),
        "the CA is away on day, has to revoke a tenth on day": f"{_day(plan.outage)}, {_day(plan.revoke)}",
        "expired": f"{outcome.expired:,}",
        "limits broken, as the CA counts": f"{outcome.broken:,}",
        "renewals": f"{outcome.renewals:,}",
        "  that the CA counted": f"{outcome.counted_renewals:,}",
        "  that acmems took for exempt and the CA did not": f"{outcome.outside:,}",
        "  the latest of them, after this part of the lifetime": f"{outcome.latest:.3f}",
        "tries of renewals that failed": f"{sum(outcome.failed.values()):,} ({failures or 'none'})",
        "overdue renewals that operators were told of": f"{outcome.told:,}",
        "certificates for new machines": f"{outcome.new:,}",
        "  how often these were told to come later": f"{outcome.refused:,}",
        "  the longest time that one has waited": f"{outcome.longest_wait:.1f} h",
        "  those that wait at the end": f"{outcome.waiting:,}",
        "most orders on a day; that the CA counted": f"{max(outcome.orders):,}; {max(outcome.counted):,}",
        "  that the limit allows on a day": f"{daily(plan):,}",
        "questions about renewal": f"{outcome.questions:,}",
        "the plan of the next hour": (
            f"{outcome.planned:,} chains in at most {outcome.plan_seconds:.3f} s, "
            f"{per_chain * 1e9:.0f} ns for each chain in the state"
        ),
        "peak resident memory": f"{outcome.memory:,} MB",
        "CPU time, real time": f"{outcome.cpu_seconds:,.0f} s, {outcome.seconds:,.0f} s",
    }
    table = "\n".join(f"{name:56} {value}" for name, value in rows.items())
    return f"{table}\n\norders a day:\n" + "\n".join(plots.as_text(outcome.orders, outcome.counted))


def as_json(plan: Plan, outcome: Outcome) -> str:
    """Return one JSON document; lengths of time are in seconds."""
    document = {"plan": dataclasses.asdict(plan), "outcome": vars(outcome)}
    return json.dumps(document, default=datetime.timedelta.total_seconds)


def as_svg(plan: Plan, outcome: Outcome) -> str:
    """Return a plot."""
    title = f"Orders a day: {plan.certificates:,} certificates over {outcome.days} days, seed {plan.seed}"
    return plots.as_svg(outcome.orders, outcome.counted, daily(plan), title)


def daily(plan: Plan) -> int:
    """Return how many new orders the limit allows on a day."""
    return int(plan.overrides.orders * (DAY / ORDERS_PERIOD))


def _day(day: int | None) -> str:
    return "none" if day is None else str(day)
