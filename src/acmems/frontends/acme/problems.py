"""What an error is to an ACME client: the one table from exceptions to problems (RFC 8555 section 6.7)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Literal

from acmems import exceptions
from acmems.exceptions import AcmeException, HttpRefusal
from acmems.frontends.problems import reason_of, retry_after_of
from acmems.text import one_line

NAMESPACE: Final = "urn:ietf:params:acme:error:"
"""What the types of all problems begin with."""
MEDIA_TYPE: Final = "application/problem+json"

ProblemType = Literal[
    "accountDoesNotExist",
    "alreadyReplaced",
    "alreadyRevoked",
    "badCSR",
    "badNonce",
    "badPublicKey",
    "badRevocationReason",
    "badSignatureAlgorithm",
    "caa",
    "connection",
    "dns",
    "externalAccountRequired",
    "incorrectResponse",
    "invalidContact",
    "invalidProfile",
    "malformed",
    "orderNotReady",
    "rateLimited",
    "rejectedIdentifier",
    "serverInternal",
    "tls",
    "unauthorized",
    "unsupportedContact",
    "unsupportedIdentifier",
    "userActionRequired",
]
"""The types of RFC 8555 section 6.7, RFC 9773 section 7.4 and the draft on profiles."""

STATUS: Final[Mapping[ProblemType, int]] = {
    "accountDoesNotExist": 400,
    "alreadyReplaced": 409,
    "alreadyRevoked": 400,
    "badCSR": 400,
    "badNonce": 400,
    "badPublicKey": 400,
    "badRevocationReason": 400,
    "badSignatureAlgorithm": 400,
    "caa": 403,
    "connection": 400,
    "dns": 400,
    "externalAccountRequired": 403,
    "incorrectResponse": 403,
    "invalidContact": 400,
    "invalidProfile": 400,
    "malformed": 400,
    "orderNotReady": 403,
    "rateLimited": 429,
    "rejectedIdentifier": 403,
    "serverInternal": 500,
    "tls": 400,
    "unauthorized": 403,
    "unsupportedContact": 400,
    "unsupportedIdentifier": 400,
    "userActionRequired": 403,
}
"""The HTTP status of each type, unless a problem says another."""

# The one place that decides what an error is to an ACME client. Subclasses are looked up before bases.
PROBLEMS: Final[Mapping[type[AcmeException], tuple[ProblemType, int]]] = {
    exceptions.PayloadToLarge: ("malformed", 413),
    exceptions.PayloadInvalid: ("badCSR", 400),
    exceptions.PolicyRefusal: ("rejectedIdentifier", 403),
    exceptions.InvalidDomainName: ("rejectedIdentifier", 403),
    exceptions.NoChallengeMethodsSupported: ("unauthorized", 403),
    exceptions.ChallengeFailed: ("unauthorized", 403),
    exceptions.PreCheckFailed: ("dns", 403),
    exceptions.CaaRefusal: ("caa", 403),
    exceptions.ValidatorUnavailable: ("serverInternal", 503),
    exceptions.AuthorizationNotYetProcessed: ("serverInternal", 503),
    exceptions.AuthorizationNotYetRequested: ("serverInternal", 503),
    exceptions.RateLimited: ("rateLimited", 429),
    exceptions.LimitReached: ("rateLimited", 429),
    exceptions.NamesPaused: ("rateLimited", 429),
    exceptions.QueueFull: ("serverInternal", 503),
    exceptions.ClientGone: ("serverInternal", 503),
    exceptions.ActFailed: ("serverInternal", 500),
    exceptions.AccountError: ("serverInternal", 503),
    exceptions.NeedToAgreeToTOS: ("serverInternal", 503),
    exceptions.DeadlinePassed: ("serverInternal", 503),
    exceptions.LocalCaUnusable: ("serverInternal", 503),
    exceptions.StateUnavailable: ("serverInternal", 503),
    exceptions.StorageUnavailable: ("serverInternal", 503),
    exceptions.LeaseLost: ("serverInternal", 503),
    exceptions.CAUnavailable: ("serverInternal", 503),
    exceptions.FateUnknown: ("serverInternal", 503),
    exceptions.ClocksDiffer: ("serverInternal", 503),
    exceptions.CAError: ("serverInternal", 502),
    exceptions.CAProblem: ("serverInternal", 502),
    exceptions.CAProtocolError: ("serverInternal", 502),
    exceptions.DirectoryUnusable: ("serverInternal", 502),
    exceptions.ChallengesUnknownStatus: ("serverInternal", 502),
    exceptions.CertificateUnusable: ("serverInternal", 502),
    exceptions.ConfigurationError: ("serverInternal", 500),
    exceptions.AcmeException: ("serverInternal", 500),
}
PASSED_ON: Final[Mapping[str, ProblemType]] = {
    "badCSR": "badCSR",
    "badPublicKey": "badPublicKey",
    "caa": "caa",
    "connection": "connection",
    "dns": "dns",
    "incorrectResponse": "incorrectResponse",
    "rejectedIdentifier": "rejectedIdentifier",
    "tls": "tls",
    "unauthorized": "unauthorized",
    "unsupportedIdentifier": "unsupportedIdentifier",
}
"""What the CA outside says of names and certificate requests; all else is between this server and the CA."""
_LONGEST_DETAIL = 4096  # characters


@dataclass(frozen=True, slots=True)
class Subproblem:
    """What is wrong with one identifier (RFC 8555 section 6.7.1).

    Args:
        kind: the type of the problem.
        detail: one line that tells the client what to do.
        identifier: the identifier as a client sent it: its type and value.
    """

    kind: ProblemType
    detail: str
    identifier: tuple[str, str]

    @property
    def document(self) -> dict[str, Any]:
        """The member of `subproblems`."""
        kind, value = self.identifier
        return {
            "type": NAMESPACE + self.kind,
            "detail": one_line(self.detail, _LONGEST_DETAIL),
            "identifier": {"type": kind, "value": value},
        }


class AcmeProblem(HttpRefusal):
    """A request of an ACME client is refused, and the problem document says why.

    Args:
        kind: the type of the problem.
        detail: one line that tells the client what to do.
        status: the HTTP status; None: that of the type.
        subproblems: what is wrong with single identifiers.
        headers: further header fields, such as `Location`.
        members: further members of the document, such as `algorithms`.
        advice: what the log tells beside, and the client does not hear.
        names: the names that it is about, for the log.
    """

    def __init__(
        self,
        kind: ProblemType,
        detail: str,
        *,
        status: int | None = None,
        subproblems: Sequence[Subproblem] = (),
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
        advice: str = "",
        names: Sequence[str] = (),
    ) -> None:
        super().__init__(STATUS[kind] if status is None else status, detail, dict(headers or {}))
        self.kind = kind
        self.subproblems = tuple(subproblems)
        self.members = dict(members or {})
        self.advice = advice
        self.names = tuple(names)


def malformed(detail: str) -> AcmeProblem:
    """Return the problem of a request that breaks the rules of RFC 8555."""
    return AcmeProblem("malformed", detail)


def problem_of(error: BaseException, reference: str) -> AcmeProblem:
    """Return what an error is to an ACME client.

    Args:
        error: the error; anything but an `AcmeException` is a bug.
        reference: names the request in the log.
    """
    if isinstance(error, AcmeProblem):
        return error
    headers = dict(error.headers) if isinstance(error, HttpRefusal) else {}
    if (seconds := retry_after_of(error)) is not None:
        headers.setdefault("Retry-After", str(seconds))
    if isinstance(error, HttpRefusal):
        kind: ProblemType = "malformed"
        if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            kind = "serverInternal"
        elif error.status == HTTPStatus.TOO_MANY_REQUESTS:
            kind = "rateLimited"
        return AcmeProblem(kind, error.reason, status=error.status, headers=headers)
    if isinstance(error, exceptions.CAProblem) and error.code in PASSED_ON:
        kind, subproblems = PASSED_ON[error.code], _subproblems(error)
        return AcmeProblem(kind, reason_of(error, reference), subproblems=subproblems, headers=headers)
    kind, status = next(
        (PROBLEMS[each] for each in type(error).__mro__ if each in PROBLEMS), ("serverInternal", 500)
    )
    return AcmeProblem(kind, reason_of(error, reference), status=status, headers=headers)


def _subproblems(error: exceptions.CAProblem) -> list[Subproblem]:
    """Return what the CA says of single names."""
    found = []
    for name, kind, detail in error.subproblems:
        passed_on = PASSED_ON.get(kind.removeprefix(NAMESPACE))
        if passed_on is not None and name:
            identifier = "dns" if any(each.isalpha() for each in name) and ":" not in name else "ip"
            found.append(Subproblem(passed_on, detail or kind, (identifier, name)))
    return found


def document_of(problem: AcmeProblem) -> dict[str, Any]:
    """Return the problem document (RFC 9457), as in an answer or in the `error` of an order."""
    document: dict[str, Any] = {
        "type": NAMESPACE + problem.kind,
        "detail": one_line(problem.reason, _LONGEST_DETAIL),
        "status": problem.status,
    }
    if problem.subproblems:
        document["subproblems"] = [each.document for each in problem.subproblems]
    return {**document, **problem.members}


def encoded(document: object) -> bytes:
    """Return a document as JSON without blanks: some clients look for `"status":"valid"` in its text."""
    return json.dumps(document, separators=(",", ":")).encode()
