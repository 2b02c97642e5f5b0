"""Which auth block grants all names of an ACME order, and what is wrong with those that none grants.

A client of `/sign` learns only that it is refused. One that speaks ACME has an account, and is told which of
its names it cannot have (RFC 8555 section 6.7.1): it could find that out by one order for each name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from acmems.auth.block import Block
from acmems.auth.methods import Caller
from acmems.x509.identifiers import Identifier

_NO_BLOCK = "no auth block of this server grants this name to this client"
_OTHER_BLOCK = (
    "this name is granted, but not together with the others: order those of each auth block of the server by "
    "themselves"
)


@dataclass(frozen=True, slots=True)
class NameRefusal:
    """A name that is not granted.

    Args:
        identifier: the name.
        reason: why, in words for the client.
    """

    identifier: Identifier
    reason: str


@dataclass(frozen=True, slots=True)
class NamesVerdict:
    """What the policy says to a client that asks for names.

    Args:
        block: the auth block that grants them all, None where none does.
        refusals: the names that keep it from being granted; empty where there is a block.
        reason: why there is no block, for the operator.
    """

    block: Block | None
    refusals: tuple[NameRefusal, ...] = ()
    reason: str = ""


def judge_names(blocks: Sequence[Block], caller: Caller, identifiers: Sequence[Identifier]) -> NamesVerdict:
    """Find the auth block that accepts a client and grants every name that it asks for.

    Args:
        blocks: the blocks, in order. Those that want an HMAC accept nobody here: there is none over a JWS.
        caller: what is known of the client.
        identifiers: the names; at least one.
    """
    accepting, reasons = [], []
    for block in blocks:
        objections = block.objections(caller, b"")
        if objections:
            reasons.append(f"block {block.name}: {'; '.join(objections)}")
            continue
        refusal = block.refusal(identifiers, caller) or next(
            filter(None, map(block.proof.refusal, identifiers)), None
        )
        if refusal is None:
            return NamesVerdict(block)
        reasons.append(f"block {block.name}: {refusal}")
        accepting.append(block)
    told = {each: _refusal(accepting, caller, each) for each in identifiers}
    refusals = [NameRefusal(each, words) for each, words in told.items() if words is not None]
    alone = refusals or [NameRefusal(each, _OTHER_BLOCK) for each in identifiers]
    return NamesVerdict(None, tuple(alone), "; ".join(reasons) or "no auth block is configured")


def _refusal(blocks: Sequence[Block], caller: Caller, identifier: Identifier) -> str | None:
    """Return why none of these blocks grants a name by itself, None if one does."""
    proofs = [
        block.proof.refusal(identifier) for block in blocks if block.refusal([identifier], caller) is None
    ]
    if None in proofs:
        return None
    return next(filter(None, proofs), _NO_BLOCK)
