"""What is wrong with a configuration, with what a client sends, or with what an operator asks for."""

from __future__ import annotations

from collections.abc import Sequence

from acmems.exceptions.base import AcmeException, RetryableError


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


class ClientGone(RetryableError):
    """The client seems to have hung up before its order began, so that it was not placed."""


class ActFailed(AcmeException):
    """What an operator has asked for by a command could not be done; the message says why and what to do."""
