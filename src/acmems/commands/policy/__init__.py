"""What the policy of a configuration says to a request, and how that is printed."""

from __future__ import annotations

from acmems.commands.policy.costs import cost_facts, costs_of
from acmems.commands.policy.printing import document, plain, table
from acmems.commands.policy.verdicts import METHODS, Explanation, Question, explain

__all__ = [
    "METHODS",
    "Explanation",
    "Question",
    "cost_facts",
    "costs_of",
    "document",
    "explain",
    "plain",
    "table",
]
