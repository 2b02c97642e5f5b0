"""How answers of auth blocks are printed: as a JSON document, lines for a pipe, or a table for a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from acmems.auth import Block
from acmems.commands.policy.costs import cost_facts
from acmems.commands.policy.verdicts import FORBIDDEN, BlockVerdict, Explanation, verifications
from acmems.system.terminal import Colour, coloured
from acmems.text import one_line

Costs = Sequence[Mapping[str, Any]] | None
"""What a request would take of the limits of the CA, as `costs_of` returns it."""


def document(explanation: Explanation, costs: Costs = None) -> Mapping[str, Any]:
    """Return the members of the JSON document; docs/operations.md describes each.

    Args:
        explanation: what the policy says.
        costs: what the request would take of limits.
    """
    deciding, question = explanation.deciding, explanation.question
    return {
        "granted": explanation.is_granted,
        "status": explanation.status,
        "address": str(question.address),
        "methods": list(question.methods),
        "names": [each.value for each in explanation.identifiers],
        "csr": None if explanation.fault is None else one_line(explanation.fault),
        "block": None if deciding is None else deciding.block.name,
        "verifications": verifications(explanation),
        "storage": None if deciding is None else deciding.block.storage.name,
        "blocks": [
            {"block": each.block.name, "granted": each.grants, "reasons": list(each.reasons)}
            for each in explanation.verdicts
        ],
        "limits": costs,
    }


def _outcome(explanation: Explanation) -> str:
    if explanation.deciding is not None:
        return f"granted: block {_quoted(explanation.deciding.block)}"
    if explanation.is_granted:
        return "accepted: the client, for the names that its blocks grant"
    if explanation.fault is not None and explanation.status != FORBIDDEN:
        return f"refused with {explanation.status}: the CSR"
    if not explanation.verdicts:
        return f"refused with {explanation.status}: there is no auth block"
    asked = "grants the request" if explanation.question.body is not None else "accepts the client"
    return f"refused with {explanation.status}: no auth block {asked}"


def _answer(explanation: Explanation, verdict: BlockVerdict) -> tuple[str, list[str]]:
    """Return what a block says, in a word, and the reasons."""
    if not verdict.grants:
        return "refuses", list(map(one_line, verdict.reasons))
    if explanation.question.body is None:
        granted = [glob.text for glob in verdict.block.globs] + [
            str(each) for each in verdict.block.addresses
        ]
        return "accepts", [f"for {', '.join(granted)}"]
    if verdict is explanation.deciding:
        return "grants", []
    return "grants", ["if the CSR were accepted" if explanation.fault else "but an earlier block decides"]


def _named(explanation: Explanation) -> Iterator[tuple[str, str]]:
    """Yield each name with what would prove it."""
    if explanation.deciding is None:
        return
    missing = "none: only if the CA has validated the name already"
    if explanation.deciding.block.local_cas:
        missing = "none: nothing is proved to a local CA"
    types = {each.name: each.challenge_type for each in explanation.deciding.block.validators}
    for name, proving in verifications(explanation).items():
        chosen = [f"{one_line(each)} ({types[each]})" for each in proving]
        yield name, ", else ".join(chosen) or missing


def plain(explanation: Explanation, costs: Costs = None) -> Iterator[str]:
    """Yield the lines for a pipe: each stands for itself.

    Args:
        explanation: what the policy says.
        costs: what the request would take of limits.
    """
    yield _outcome(explanation)
    if explanation.fault is not None:
        yield f"csr: {one_line(explanation.fault)}"
    for verdict in explanation.verdicts:
        answer, reasons = _answer(explanation, verdict)
        why = f": {'; '.join(reasons)}" if reasons else ""
        yield f"block {_quoted(verdict.block)} {answer}{why}"
    for name, verification in _named(explanation):
        yield f"name {name}: verification {verification}"
    if explanation.deciding is not None:
        yield f"storage {one_line(explanation.deciding.block.storage.name)}"
    for bucket, words in cost_facts(costs or ()):
        yield f"{bucket}: {words}"


def table(explanation: Explanation, costs: Costs = None, *, colour: bool) -> Iterator[str]:
    """Yield the lines for a terminal.

    Args:
        explanation: what the policy says.
        costs: what the request would take of limits.
        colour: whether answers are coloured.
    """
    paint = coloured if colour else _plain
    yield paint(_outcome(explanation), Colour.GREEN if explanation.is_granted else Colour.RED)
    if explanation.fault is not None:
        yield f"The CSR, whoever sends it: {one_line(explanation.fault)}"
    rows = [(one_line(each.block.name), *_answer(explanation, each)) for each in explanation.verdicts]
    width = max((len(name) for name, _, _ in rows), default=0)
    if rows:
        yield ""
    for name, answer, reasons in rows:
        painted = paint(answer, Colour.RED if answer == "refuses" else Colour.GREEN)
        filled = " " * (len("refuses") - len(answer))
        first, *further = reasons or [""]
        yield f"{name:<{width}}  {painted}{filled}  {first}".rstrip()
        for reason in further:
            yield f"{'':<{width}}  {'':<{len('refuses')}}  {reason}"
    if explanation.deciding is None:
        return
    yield ""
    storage = ("storage", one_line(explanation.deciding.block.storage.name))
    facts = [*_named(explanation), storage, *cost_facts(costs or ())]
    width = max(len(name) for name, _ in facts)
    for name, fact in facts:
        yield f"{name:<{width}}  {fact}"


def _plain(text: str, _: Colour) -> str:
    return text


def _quoted(block: Block) -> str:
    return f'"{one_line(block.name)}"'
