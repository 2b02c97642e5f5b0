"""What has come of a simulation."""

from __future__ import annotations

import resource
from collections import Counter
from dataclasses import dataclass, field

from scripts.fleet_simulation.ca import CountingCA


@dataclass
class Outcome:
    """What has come of a simulation.

    Attributes:
        days: how many were simulated.
        certificates: how many are current at the end.
        renewals: how many were renewed.
        expired: how many have expired before they were renewed.
        latest: how much of its lifetime the latest renewal had left behind it, as a share.
        new: how many certificates new machines have got.
        refused: how often a new machine was told to come later, by acmems itself.
        longest_wait: how long a new machine has waited, in hours.
        waiting: how many still wait.
        tries: how often a renewal was tried.
        failed: how often that has failed, by the reason.
        told: how often operators were told that a renewal is overdue.
        questions: about renewal.
        broken: orders that a limit of the CA did not allow.
        counted_renewals: renewals that the CA counted, because they were not in their window.
        outside: those of them that acmems took for exempt.
        orders: by the day.
        counted: those that the CA counted, by the day.
        planned: how many are due within an hour, at the end.
        plan_seconds: how long it took to list these, at the worst time.
        cpu_seconds: of the whole simulation, with the CA and the machines.
        seconds: of real time.
        memory: its peak in MB.
    """

    days: int = 0
    certificates: int = 0
    renewals: int = 0
    expired: int = 0
    latest: float = 0.0
    new: int = 0
    refused: int = 0
    longest_wait: float = 0.0
    waiting: int = 0
    tries: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    told: int = 0
    questions: int = 0
    broken: int = 0
    counted_renewals: int = 0
    outside: int = 0
    orders: list[int] = field(default_factory=list)
    counted: list[int] = field(default_factory=list)
    planned: int = 0
    plan_seconds: float = 0.0
    cpu_seconds: float = 0.0
    seconds: float = 0.0
    memory: int = 0

    def take(self, ca: CountingCA) -> None:
        """Take over what the CA has counted."""
        days = range(max(ca.orders, default=-1) + 1)
        self.orders = [ca.orders[day] for day in days]
        self.counted = [ca.counted[day] for day in days]
        self.questions = ca.questions
        self.broken = sum(ca.broken.values())
        self.outside = ca.outside
        self.counted_renewals = sum(self.counted) - self.new - self.broken

    def stop(self, cpu_seconds: float, seconds: float) -> None:
        """Take note of what it has cost."""
        self.cpu_seconds, self.seconds = cpu_seconds, seconds
        self.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

    @property
    def is_good(self) -> bool:
        """Whether nothing has expired and no limit was broken."""
        return not (self.expired or self.broken)
