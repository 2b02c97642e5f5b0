"""What is wrong with the CA, or with the account there."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from acmems.exceptions.base import RetryableError


class AccountError(RetryableError):
    """The account cannot be used: key not readable, unknown to the CA, deactivated."""


class LocalCaUnusable(AccountError):
    """A local CA cannot issue: its keys or certificates are missing, unreadable, foreign or expired."""


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


class CAError(RetryableError):
    """The CA fails, or cannot be understood."""


class CAUnavailable(CAError):
    """The CA cannot be reached, does not answer in time, or says that it is overloaded."""


class FateUnknown(CAUnavailable):
    """A request that must not be repeated was sent, and no answer says what became of it.

    The CA may have done what was asked; find out before asking again.

    Args:
        message: what happened, one line.
        retry_after: seconds after which to ask again, None if nobody said.
        is_internal: whether the CA itself has answered that it failed (`serverInternal`, RFC 8555
            section 6.7), and not a gateway before it, or nobody.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, is_internal: bool = False) -> None:
        super().__init__(message, retry_after=retry_after)
        self.is_internal = is_internal


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
