"""Which failures another CA may not have: those of one CA, and not of the request or of this server."""

from __future__ import annotations

from typing import Final

from acmems.exceptions import (
    AccountError,
    AcmeException,
    CaaRefusal,
    CAProblem,
    CAProtocolError,
    CAUnavailable,
    InvalidDomainName,
    NoChallengeMethodsSupported,
    PayloadInvalid,
    QueueFull,
    RateLimited,
)

_OF_ONE_CA: Final = (
    CAUnavailable,  # it is down, its clock differs, or an answer was lost
    CAProtocolError,
    CAProblem,
    RateLimited,  # by the CA, or by a limit of the CA before it is asked
    QueueFull,  # too many wait for this CA
    AccountError,
    InvalidDomainName,  # it does not issue for a name
    CaaRefusal,  # the owner of a name does not want it to issue, but may want another one to
    NoChallengeMethodsSupported,  # it offers no challenge that can be used
    PayloadInvalid,  # it does not take such a key, or an extension
)


def may_go_elsewhere(error: Exception) -> bool:
    """Tell whether what has failed at one CA may work at another.

    A name that a CA has tried to validate and could not is none of these: what is wrong there is wrong for
    all CAs, and each failed validation is counted by the CA that tried.
    """
    return isinstance(error, _OF_ONE_CA)


def in_one(errors: dict[str, AcmeException]) -> AcmeException:
    """Return one error for a request that no CA has issued.

    It is of the kind of the one that passes first, and tells of all.

    Args:
        errors: why each CA did not, by what it is called.
    """
    first = min(errors.values(), key=_seconds)
    if len(errors) == 1:
        return first
    return first.with_words("; ".join(f"{name}: {error}" for name, error in errors.items()))


def _seconds(error: AcmeException) -> float:
    seconds = getattr(error, "retry_after", None)
    return float("inf") if seconds is None else float(seconds)
