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

    Types and identifiers decide; the CA's words are only passed on. Where subproblems name several
    identifiers the error tells of each, with its own words (section 6.7.1).

    `unauthorized` is taken for a failed validation, although a deactivated account is answered so, too
    (section 7.3.6): only the account itself tells.

    Args:
        problem: the CA's problem.
        names: what was ordered, to name one where the problem does not.
    """
    code = problem.code
    if code == "userActionRequired":
        return _action_required(problem)
    if code in _ACCOUNT:
        return AccountError(f"the CA does not accept the account: {problem}")
    every_name = ", ".join(names)
    errors = _about_names(problem, every_name)
    if errors:
        return errors[0].together(errors[1:])
    if code in {"badCSR", "badPublicKey"}:
        return PayloadInvalid(f"the CA does not accept the CSR: {problem if problem.detail else code}")
    return _of_code(every_name, code, problem.detail or code) or problem


def _about_names(problem: CAProblem, every_name: str) -> list[InvalidDomainName | ChallengeFailed]:
    """Return what the subproblems mean for their names; nothing where none is about a name."""
    found = []
    for name, kind, words in problem.subproblems:
        code = kind.removeprefix(CAProblem.PREFIX) or problem.code
        words_or_code = words or problem.detail or code
        found.append((name, words_or_code, _of_code(name or every_name, code, words_or_code)))
    if not any(error for *_, error in found):
        return []
    # Beside names that cannot be had, one with a problem of another kind is told as well.
    return [error or InvalidDomainName(name or every_name, words) for name, words, error in found]


def _of_code(name: str, code: str, words: str) -> InvalidDomainName | ChallengeFailed | None:
    if code in _NAME:
        return InvalidDomainName(name, words)
    return ChallengeFailed(name, words, "") if code in _VALIDATION else None


def _action_required(problem: CAProblem) -> AccountError:
    """Return what a person has to do (RFC 8555 section 7.3.3)."""
    if problem.terms:
        return NeedToAgreeToTOS(problem.terms, detail=problem.detail, visit=problem.visit)
    where = problem.visit or "the website of the CA"
    return AccountError(f"the CA wants a person to act before it goes on ({problem}): visit {where}")
