"""What is wrong with a name that is to be certified, or with its proof."""

from __future__ import annotations

import copy
import datetime
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Self

from acmems.exceptions.base import AcmeException


class NamedError(AcmeException):
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
        self.others: tuple[NamedError, ...] = ()

    def together(self, others: Iterable[NamedError]) -> Self:
        """Return this error as that of several names; its class says what the answer is."""
        error = copy.copy(self)
        error.others = tuple(each for other in others for each in other.each)
        return error

    def with_words(self, words: str) -> Self:
        """Return an error like this one, in other words, which tell of the other names, too."""
        return super(NamedError, self.together(())).with_words(words)

    @property
    def each(self) -> tuple[NamedError, ...]:
        """One error for each name."""
        return (self.together(()), *self.others)

    def __str__(self) -> str:
        return "; ".join([super().__str__(), *map(str, self.others)])


class InvalidDomainName(NamedError):
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


class ChallengeFailed(NamedError):
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


class PreCheckFailed(NamedError):
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
