"""What a CA's problem documents mean for a request (RFC 8555 section 6.7)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from acmems.exceptions import (
    AccountError,
    AcmeException,
    CAProblem,
    ChallengeFailed,
    InvalidDomainName,
    NeedToAgreeToTOS,
    PayloadInvalid,
)

_ACCOUNT = frozenset({"accountDoesNotExist", "externalAccountRequired"})
_NAME = frozenset({"rejectedIdentifier", "unsupportedIdentifier"})
_VALIDATION = frozenset(
    {"caa", "connection", "dns", "dnssec", "incorrectResponse", "tls", "unauthorized", "unknownHost"}
)


@contextlib.contextmanager
def translating(names: Sequence[str]) -> Iterator[None]:
    """Raise what a CA's problem document means for a request, in place of the document.

    Args:
        names: what was ordered, to name one where the problem does not.

    Raises:
        AcmeException: as `translate` returns it.
    """
    try:
        yield
    except CAProblem as problem:
        error = translate(problem, names)
        if error is problem:
            raise
        raise error from problem


def translate(problem: CAProblem, names: Sequence[str]) -> AcmeException:
    """Return what a CA's problem document means for a request (RFC 8555 section 6.7).

    Args:
        problem: the CA's problem.
        names: what was ordered, to name one where the problem does not.
    """
    name, code, detail = ", ".join(names), problem.code, problem.detail
    for identifier, type_, words in problem.subproblems:
        name, code, detail = identifier or name, type_.removeprefix(CAProblem.PREFIX), words
        break
    detail = detail or problem.detail or code
    if problem.code == "userActionRequired":
        return _action_required(problem)
    if problem.code in _ACCOUNT or (problem.code == "unauthorized" and "account" in detail.lower()):
        return AccountError(f"the CA does not accept the account: {detail}")
    if code in _NAME:
        return InvalidDomainName(name, detail)
    if problem.code in {"badCSR", "badPublicKey"}:
        return PayloadInvalid(f"the CA does not accept the CSR: {detail}")
    if code in _VALIDATION:
        return ChallengeFailed(name, detail, "")
    return problem


def _action_required(problem: CAProblem) -> AccountError:
    """Return what a person has to do (RFC 8555 section 7.3.3)."""
    if problem.terms:
        return NeedToAgreeToTOS(problem.terms, detail=problem.detail, visit=problem.visit)
    where = problem.visit or "the website of the CA"
    return AccountError(f"the CA wants a person to act before it goes on ({problem.detail}): visit {where}")
