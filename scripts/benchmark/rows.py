"""What is measured and what is hoped for, as values: no peers, no clocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from scripts.benchmark.usage import Cost


@dataclass(frozen=True)
class Target:
    """What a figure should be.

    Args:
        limit: the bound.
        at_most: whether the bound is the largest good value, else it is the smallest.
    """

    limit: float
    at_most: bool = True

    def met(self, value: float) -> bool:
        """Tell whether a value is good enough."""
        return value <= self.limit if self.at_most else value >= self.limit

    def text(self, unit: str) -> str:
        """Return the target for a person.

        Args:
            unit: what it is counted in.
        """
        return f"at {'most' if self.at_most else 'least'} {number(self.limit)} {unit}".rstrip()


def at_most(limit: float) -> Target:
    """Return the target that a value is not above a limit."""
    return Target(limit)


def at_least(limit: float) -> Target:
    """Return the target that a value is not below a limit."""
    return Target(limit, at_most=False)


@dataclass(frozen=True)
class Row:
    """One figure of acmems, beside someone else's or alone.

    Args:
        what: what was measured.
        unit: of the values.
        ours: what acmems reached.
        other: whom it is compared with, empty for nobody.
        theirs: what the other reached.
        target: for the ratio of ours to theirs, or for ours where there is no other; None for no target.
    """

    what: str
    unit: str
    ours: float
    other: str = ""
    theirs: float = 0.0
    target: Target | None = None

    @property
    def ratio(self) -> float | None:
        """Ours divided by theirs; None where there is nothing to divide by."""
        return self.ours / self.theirs if self.other and self.theirs else None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none, or no ratio to judge."""
        judged = self.ratio if self.other else self.ours
        return None if self.target is None or judged is None else self.target.met(judged)

    @property
    def cells(self) -> tuple[str, ...]:
        """What a table says: what, acmems, compared with, ratio, target, met."""
        theirs = f"{self.other} {number(self.theirs)} {self.unit}".rstrip() if self.other else ""
        ratio = "" if self.ratio is None else f"{number(self.ratio)} x"
        target = "" if self.target is None else self.target.text("x" if self.other else self.unit)
        met = "" if self.met is None else "yes" if self.met else "NO"
        return self.what, f"{number(self.ours)} {self.unit}".rstrip(), theirs, ratio, target, met


@dataclass(frozen=True)
class Measured:
    """What measuring one figure brought.

    Args:
        rows: the figure itself.
        costs: by contender, what its chains cost.
        notes: what a reader should know of this run.
    """

    rows: Sequence[Row]
    costs: dict[str, Cost] = field(default_factory=dict)
    notes: Sequence[str] = ()


def number(value: float) -> str:
    """Return a number with about three digits that mean something."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    digits = 1 if value >= 9.995 else 2 if value >= 0.0995 else 3
    return f"{value:.{digits}f}"
