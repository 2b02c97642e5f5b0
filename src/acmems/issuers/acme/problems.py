"""What a CA has against a request (RFC 8555 section 6.7), and against names on their way (section 8.2)."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from acmems.challenges import Validator
from acmems.exceptions import (
    AccountError,
    AcmeException,
    CAProblem,
    ChallengeFailed,
    DeadlinePassed,
    InvalidDomainName,
    NeedToAgreeToTOS,
    PayloadInvalid,
)
from acmems.issuers.acme.authorization import Authorization, Challenge
from acmems.system.clock import Clock, Deadline
from acmems.text import one_line
from acmems.x509.csr import CertificateRequest
from acmems.x509.identifiers import subject_alt_name_option

logger = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds that the CA has for the other names once one has failed, so that the answer tells of all."""
STUCK = 3.0
"""Seconds that a challenge with an error stays `pending` until the CA counts as having given up: one that
it tries again is `processing` (section 8.2)."""

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


def translate_refused(problem: CAProblem, request: CertificateRequest) -> AcmeException:
    """Return what a CA's problem means once all names are validated: with the finalize, or after it.

    Some CAs say `unauthorized` of a CSR that is not for the names of the order: in the answer to the
    finalize, or in an order that they make invalid later. No name is at fault, unless the CA names one.

    Args:
        problem: the CA's problem.
        request: what was finalized.
    """
    if request.common_names_only and problem.code in {"unauthorized", "badCSR"}:
        return PayloadInvalid(
            f"this CA takes names from subjectAltName only, not from the CN ({problem.detail}): "
            f"make the CSR with {subject_alt_name_option(request.identifiers)}"
        )
    if problem.code == "unauthorized" and not problem.subproblems:
        return PayloadInvalid(f"the CA does not accept the CSR: {problem.detail or problem.code}")
    return translate(problem, request.names)


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


@dataclass(slots=True, eq=False)
class Complaint:
    """What the CA has said against a name that it has not decided on.

    Args:
        refusal: its problem with the request to validate (section 7.5.1), None if it took that.
        error: the error of the challenge, as last seen; empty while there is none.
        since: when the challenge was first seen `pending` with an error, in seconds of the monotonic clock.
    """

    refusal: CAProblem | None = None
    error: str = ""
    since: float | None = None


class _Attempt(Protocol):
    authorization: Authorization
    challenge: Challenge
    complaint: Complaint
    validator: Validator
    polls: int


A = TypeVar("A", bound=_Attempt)


@dataclass(slots=True)
class Decisions:
    """What is known of the names of an order while they are being decided.

    Args:
        clock: time.
        failures: the names that have failed so far.
        until: when the wait for other names ends, None while none has failed.
    """

    clock: Clock
    failures: list[ChallengeFailed] = field(default_factory=list)
    until: Deadline | None = None

    def undecided(self, attempts: Sequence[A]) -> list[A]:
        """Return those that are not decided yet.

        Raises:
            ChallengeFailed: some never will be valid, and the others are decided; tells of each.
            AccountError: the CA does not accept the account.
        """
        waiting = []
        for attempt in attempts:
            try:
                if not attempt.authorization.is_valid():
                    self._check(attempt)
                    waiting.append(attempt)
            except ChallengeFailed as failure:
                failure.verification = attempt.validator.name
                self.failures.append(failure)
        if self.failures and self.until is None:
            self.until = self.clock.deadline(GRACE)
        if self.failures and not waiting:
            raise self.end(())
        return waiting

    @property
    def remaining(self) -> float:
        """Seconds that are left for the other names; infinite while none has failed."""
        return math.inf if self.until is None else self.until.remaining

    def end(self, waiting: Sequence[_Attempt]) -> ChallengeFailed | DeadlinePassed:
        """Return the error that ends the wait: of all that has failed, else of all that is undecided.

        Args:
            waiting: the attempts that are not decided.
        """
        if self.failures:
            return self.failures[0].together(self.failures[1:])
        names = ", ".join(map(_said_so_far, waiting))
        return DeadlinePassed(f"the CA has not yet decided on {names}", retry_after=10.0)

    def _check(self, attempt: _Attempt) -> None:
        """Take note of what the CA says against a name, and raise it once it is final."""
        complaint, name = attempt.complaint, attempt.authorization.name
        offered = (each for each in attempt.authorization.challenges if each.url == attempt.challenge.url)
        challenge = next(offered, attempt.challenge)
        if challenge.error and challenge.error != complaint.error:
            logger.warning("the CA could not validate %s so far: %s", name, challenge.error)
        complaint.error = challenge.error
        if challenge.status != "pending":
            complaint.refusal = complaint.since = None  # the CA works on it
            return
        if complaint.refusal is not None and attempt.polls:  # what was seen before says nothing
            raise _refused(name, complaint.refusal, challenge) from complaint.refusal
        now = self.clock.monotonic()
        if not challenge.error:
            complaint.since = None
        elif complaint.since is None:
            complaint.since = now
        elif now - complaint.since >= STUCK:
            raise ChallengeFailed(name, challenge.error, challenge.url)


def _said_so_far(attempt: _Attempt) -> str:
    name, error = attempt.authorization.name, attempt.complaint.error
    return f"{name} (so far: {error})" if error else name


def _refused(name: str, refusal: CAProblem, challenge: Challenge) -> ChallengeFailed | AccountError:
    """Return what a refused request to validate means, where the challenge waits for one still."""
    meaning = translate(refusal, [name])
    if isinstance(meaning, AccountError):
        return meaning
    return ChallengeFailed(name, one_line(challenge.error or refusal), challenge.url)
