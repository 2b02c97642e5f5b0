"""The proofs that are presented to CAs, by all nodes that work with a state.

- `records`: what each node presents and withdraws
- `lookups`: what others present, found by the node that a CA comes to
"""

from __future__ import annotations

from acmems.state.proofs.lookups import Found, FoundProof, ProofLookups
from acmems.state.proofs.records import ProofRecord, ProofRecords

__all__ = ["Found", "FoundProof", "ProofLookups", "ProofRecord", "ProofRecords"]
