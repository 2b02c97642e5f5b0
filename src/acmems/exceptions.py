"""Every error of acmems, as a tree.

AcmeException
├── ConfigurationError            what `acmems check` reports
├── PayloadToLarge                the CSR is over `max-size`
├── PayloadInvalid                the body is not one well-formed, acceptable CSR
├── PolicyRefusal                 no auth block accepts the request
├── HttpRefusal                   a request refused by the HTTP rules alone
├── InvalidDomainName             the CA does not accept a name
├── NoChallengeMethodsSupported   no offered challenge fits the validator
├── ChallengeFailed               the CA could not validate a name
├── PreCheckFailed                the DNS says that the CA could not issue for a name
│   └── CaaRefusal                its CAA records do not allow it
├── AuthorizationNotYetProcessed  the CA is still deciding
├── AuthorizationNotYetRequested  the CA has not asked for the challenge yet
├── RateLimited                   the CA, or what protects it here, asks to wait
│   ├── LimitReached              a limit of the CA is used up, so that it was not asked
│   ├── NamesPaused               the CA takes no orders for a name until a person has acted
│   └── QueueFull                 too many requests wait for their order already
├── ClientGone                    the client had hung up before its order began
├── ActFailed                     what an operator has asked for could not be done
├── AccountError                  the account cannot be used
│   └── NeedToAgreeToTOS          its terms of service are not accepted
├── DeadlinePassed                the time for an answer is over; asking again continues
├── ValidatorUnavailable          a DNS server or program that a validator needs fails
├── StorageUnavailable            chains cannot be read or kept
│   └── StateUnavailable          what must survive a crash cannot be read or kept
├── LeaseLost                     another server has taken over what this one was at
└── CAError                       the CA fails, or cannot be understood
    ├── CAUnavailable             it does not answer, or says it is overloaded
    │   ├── FateUnknown           a request was sent and its answer was lost
    │   └── ClocksDiffer          its clock and that of this server are too far apart
    ├── CAProblem                 it answered with a problem document
    ├── CAProtocolError           its answer breaks RFC 8555, or cannot be read
    │   ├── DirectoryUnusable     there is no ACME directory at its URL
    │   └── ChallengesUnknownStatus  a state that RFC 8555 does not know
    └── CertificateUnusable       it issued something other than what was asked for

The names and fields of the documented ones are published, with their spelling. Which HTTP status an error
is answered with is decided in one table, in `acmems.frontends.problems`.
"""

from __future__ import annotations

import copy
import datetime
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self


class AcmeException(Exception):
    """Base of all errors of acmems, to catch every one of them.

    `copy.copy` makes one for another thread to raise: class, words and fields are the same, its
    traceback is its own.
    """

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[object, ...], dict[str, object]]:
        # Not by the constructor: what that takes are the fields, and what `args` holds are the words.
        return self.__new__, (type(self), *self.args), dict(vars(self))

    def with_words(self, words: str) -> Self:
        """Return an error like this one, in other words."""
        error = copy.copy(self)
        error.args = (words,)
        return error


class ConfigurationError(AcmeException):
    """The configuration cannot be used.

    Args:
        findings: every problem found, each printing as `file:line: message`.
    """

    def __init__(self, findings: Sequence[object]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = tuple(findings)


class PayloadToLarge(AcmeException):
    """The payload (CSR) is too large.

    Args:
        size: the size of the upload, in bytes.
        allowed: the largest size allowed, in bytes.
    """

    def __init__(self, size: int, allowed: int) -> None:
        super().__init__(f"the request is {size} bytes long, at most {allowed} are accepted")
        self.size = size
        self.allowed = allowed


class PayloadInvalid(AcmeException):
    """The payload is not a valid CSR; the message says why."""


class PolicyRefusal(AcmeException):
    """No auth block accepts the request; the message is for the operator's log, never for the client."""


class HttpRefusal(AcmeException):
    """A request breaks the rules of HTTP or of this server's paths and limits.

    Args:
        status: the HTTP status to answer with (RFC 9110 section 15).
        reason: one line that tells the client what to do.
        headers: further response headers, such as `Allow`.
    """

    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})


class _AboutName(AcmeException):
    """What is wrong with a name; its words also tell what is wrong with others of the same order.

    Args:
        message: what is wrong with this name.
        domain: the name.

    Attributes:
        others: the errors of the other names; see `together`.
    """

    def __init__(self, message: str, domain: str) -> None:
        super().__init__(message)
        self.domain = domain
        self.others: tuple[_AboutName, ...] = ()

    def together(self, others: Iterable[_AboutName]) -> Self:
        """Return this error as that of several names; its class says what the answer is."""
        error = copy.copy(self)
        error.others = tuple(each for other in others for each in other.each)
        return error

    def with_words(self, words: str) -> Self:
        """Return an error like this one, in other words, which tell of the other names, too."""
        return super(_AboutName, self.together(())).with_words(words)

    @property
    def each(self) -> tuple[_AboutName, ...]:
        """One error for each name."""
        return (self.together(()), *self.others)

    def __str__(self) -> str:
        return "; ".join([super().__str__(), *map(str, self.others)])


class InvalidDomainName(_AboutName):
    """The ACME server does not accept the domain name.

    Args:
        domain: the domain that was rejected.
        detail: the reason for it, as the CA gave it.
    """

    def __init__(self, domain: str, detail: str) -> None:
        super().__init__(f"{domain} is not accepted: {detail}", domain)
        self.detail = detail


class NoChallengeMethodsSupported(AcmeException):
    """The domain cannot be validated by the challenges that the CA offers and the validator knows."""


class ChallengeFailed(_AboutName):
    """The challenge to validate the requested domain failed.

    Args:
        domain: the domain that the challenge should validate.
        message: the description that the CA gave.
        challenge_uri: the URL of the failed challenge.
        verification: the name of the verification that the CA was not convinced by; empty where it is not
            known, as for an authorization that was invalid before anything was presented.
    """

    def __init__(self, domain: str, message: str, challenge_uri: str, *, verification: str = "") -> None:
        super().__init__(f"the CA could not validate {domain}: {message}", domain)
        self.message = message
        self.challenge_uri = challenge_uri
        self.verification = verification


class PreCheckFailed(_AboutName):
    """By what the DNS says of a name, the CA could not issue a certificate for it: it was not asked.

    Args:
        domain: the name.
        reason: what the DNS says, and what to do.
        retry_after: seconds after which the DNS is asked again.
        is_for_all: whether that holds for every account and verification.
    """

    def __init__(self, domain: str, reason: str, *, retry_after: float, is_for_all: bool) -> None:
        super().__init__(f"{domain}: no certificate was ordered, because {reason}", domain)
        self.reason = reason
        self.retry_after = retry_after
        self.is_for_all = is_for_all


class CaaRefusal(PreCheckFailed):
    """The CAA records for a name do not let the CA issue (RFC 8659).

    Args:
        found_at: the domain that has them: the name itself, or one above it, or where its CNAME leads.
        records: the records, as a zone file has them.
        remedy: the record that would allow it, as a line of a zone file; empty where none would.
        known, more: the arguments of `PreCheckFailed`.
    """

    def __init__(self, *known: str, found_at: str, records: Sequence[str], remedy: str, **more: Any) -> None:
        super().__init__(*known, **more)
        self.found_at = found_at
        self.records = tuple(records)
        self.remedy = remedy


class AuthorizationNotYetProcessed(AcmeException):
    """The authorization is being processed by the CA.

    Args:
        wait_until: do not ask again before this time (aware, UTC).
    """

    def __init__(self, wait_until: datetime.datetime) -> None:
        super().__init__(f"the CA is still deciding; ask again after {wait_until.isoformat()}")
        self.wait_until = wait_until


class AuthorizationNotYetRequested(AcmeException):
    """A challenge is installed, but no CA has asked for it yet.

    Args:
        event: set as soon as someone requests the challenge.
    """

    def __init__(self, event: threading.Event) -> None:
        super().__init__("the challenge is installed, but nobody has requested it yet")
        self.event = event


class _Retryable(AcmeException):
    """An error that passes with time.

    Args:
        message: what happened.
        retry_after: seconds after which to ask again, None if nobody said.
    """

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RateLimited(_Retryable):
    """Too many requests.

    Args:
        message: what happened.
        retry_after: seconds after which to ask again, None if nobody said.
        identifiers: the names that the limit is counted for, where the CA says so (RFC 8555 section 6.7.1).
        is_overall: whether it is no limit on certificates but one on all that this server asks.
    """

    def __init__(
        self,
        message: str = "",
        *,
        retry_after: float | None = None,
        identifiers: Sequence[str] = (),
        is_overall: bool = False,
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.identifiers = tuple(identifiers)
        self.is_overall = is_overall


class LimitReached(RateLimited):
    """A limit of the CA lets nothing through, so that the CA was not asked.

    Args:
        message: what happened.
        limit: the name of the limit.
        subject: what it counts, such as a registered domain; empty for the whole account.
        used: how many places are taken.
        most: how many there are.
        retry_after: seconds until there is room.
    """

    def __init__(
        self, message: str, *, limit: str, subject: str, used: int, most: int, retry_after: float
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.limit = limit
        self.subject = subject
        self.used = used
        self.most = most


class NamesPaused(RateLimited):
    """The CA takes no orders of this account for some names, until a person has visited a page of it.

    Args:
        names: those that the CA tells of; there may be others. None where it tells of none.
        visit: the page. It is for the operator only: whoever has its URL can end the pause.

    Attributes:
        advice: what the operator should do, for the log only.
    """

    def __init__(self, names: Sequence[str], visit: str) -> None:
        told = ", ".join(names) or "some of these names"
        super().__init__(
            f"the CA takes no orders of this server for {told}, which it could not validate too often: mend "
            f"that, then have the administrator of this server end the pause at the CA",
            identifiers=names,
        )
        self.names = tuple(names)
        self.visit = visit
        self.advice = f"once it is mended, end the pause at {visit}"


class QueueFull(RateLimited):
    """Too many requests wait for their order already, and nobody has more of them than this one's client."""


class ClientGone(_Retryable):
    """The client seems to have hung up before its order began, so that it was not placed."""


class ActFailed(AcmeException):
    """What an operator has asked for by a command could not be done; the message says why and what to do."""


class AccountError(_Retryable):
    """The account cannot be used: key not readable, unknown to the CA, deactivated."""


class NeedToAgreeToTOS(AccountError):
    """The account is registered, but the terms of service must be accepted before it can be used.

    Args:
        url: where the terms can be read.
        detail: what the CA says about it, one line.
        visit: the CA's page on which a person accepts them, where it wants that (RFC 8555 section 7.3.3).
    """

    def __init__(self, url: str, *, detail: str = "", visit: str = "") -> None:
        words = f" ({detail})" if detail else ""
        there = f", accept them at {visit}" if visit else ""
        super().__init__(
            f"the CA's terms of service must be accepted{words}: read {url}{there}, then add "
            f"'accept-terms-of-service = {url}' to [account]"
        )
        self.url = url
        self.detail = detail
        self.visit = visit


class DeadlinePassed(_Retryable):
    """The time for an answer is over; whatever runs goes on, and asking again continues it."""


class ValidatorUnavailable(_Retryable):
    """A DNS server or program that is needed to prove a name fails.

    Args:
        message: what happened, for the client too: it names the server and the record.
        retry_after: seconds after which to ask again, None if nobody said.
        advice: what the operator should do, for the log only.
    """

    def __init__(self, message: str = "", *, retry_after: float | None = None, advice: str = "") -> None:
        super().__init__(message, retry_after=retry_after)
        self.advice = advice


class StorageUnavailable(_Retryable):
    """Chains cannot be read or kept at the moment."""


class StateUnavailable(StorageUnavailable):
    """What must survive a crash cannot be read or kept at the moment, so that nothing is ordered."""


class LeaseLost(_Retryable):
    """Another server that shares the state has taken over what this one was at, since it seemed to be dead.

    Args:
        name: what this was: the name of the lease.
    """

    def __init__(self, name: str) -> None:
        super().__init__("another server goes on with this order: ask again", retry_after=10.0)
        self.name = name


class CAError(_Retryable):
    """The CA fails, or cannot be understood."""


class CAUnavailable(CAError):
    """The CA cannot be reached, does not answer in time, or says that it is overloaded."""


class FateUnknown(CAUnavailable):
    """A request that must not be repeated was sent, and its answer was lost.

    The CA may have done what was asked; find out before asking again.
    """


class ClocksDiffer(CAUnavailable):
    """This server's clock and the CA's are too far apart to judge certificates: nothing is ordered.

    Args:
        ours: the time by this server's clock (aware).
        theirs: the time by the CA's (aware).
    """

    def __init__(self, ours: datetime.datetime, theirs: datetime.datetime) -> None:
        here, there = (time.astimezone(datetime.UTC) for time in (ours, theirs))
        super().__init__(
            f"the clock of this server is at {here:%Y-%m-%d %H:%M:%S} UTC, and that of the CA at "
            f"{there:%Y-%m-%d %H:%M:%S} UTC: nothing is ordered until the wrong one is set right"
        )
        self.ours = ours
        self.theirs = theirs


class CAProblem(CAError):
    """The CA answered with a problem document (RFC 9457; error types of RFC 8555 section 6.7).

    Its words are those of the document and of all that is within.

    Args:
        status: the HTTP status of the answer.
        type: the problem type; ACME's carry the prefix `urn:ietf:params:acme:error:`.
        detail: the CA's words, one line, safe to log.
        subproblems: the problem documents within, as `(identifier, type, detail)`.
        retry_after: seconds after which to ask again, None if the CA did not say.
        visit: a page that tells a person what to do, empty if there is none (`instance`; section 7.3.3).
        terms: the URL of the terms of service that the answer links to, empty if it does not.
        algorithms: the JWS algorithms that the CA takes, where it lists them (RFC 8555 section 6.2).
    """

    PREFIX = "urn:ietf:params:acme:error:"

    def __init__(
        self,
        status: int,
        type: str,  # noqa: A002 - the field's name in RFC 9457
        detail: str,
        *,
        subproblems: Sequence[tuple[str, str, str]] = (),
        retry_after: float | None = None,
        visit: str = "",
        terms: str = "",
        algorithms: Sequence[str] = (),
    ) -> None:
        within = "; ".join(
            f"{name}: {words or kind}" if name else words or kind for name, kind, words in subproblems
        )
        super().__init__(
            f"{detail or type} ({within})" if within else detail or type, retry_after=retry_after
        )
        self.status = status
        self.type = type
        self.detail = detail
        self.subproblems = tuple(subproblems)
        self.visit = visit
        self.terms = terms
        self.algorithms = tuple(algorithms)

    @property
    def is_acme(self) -> bool:
        """Whether its type is one of ACME's; otherwise a proxy before the ACME server may have said it."""
        return self.type.startswith(self.PREFIX)

    @property
    def code(self) -> str:
        """The ACME error code, such as `badCSR`; the whole type where it is not one of ACME's."""
        return self.type.removeprefix(self.PREFIX)


class CAProtocolError(CAError):
    """The CA answered something that RFC 8555 does not allow, or that is unsafe to act on."""


class DirectoryUnusable(CAProtocolError):
    """What is at the URL of the CA's directory is none.

    Args:
        url: the URL, which is `acme-server` in the configuration.
        reason: what is there instead, one line.
    """

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"there is no ACME directory at {url} ({reason}): correct 'acme-server' in [account]"
        )
        self.url = url
        self.reason = reason


class ChallengesUnknownStatus(CAProtocolError):
    """The status of an authorization or challenge is none that RFC 8555 knows."""


class CertificateUnusable(CAError):
    """The certificate that the CA issued is not the one that was asked for."""
