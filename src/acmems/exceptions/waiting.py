"""What has to wait: for limits, for others, or for what this server needs."""

from __future__ import annotations

from collections.abc import Sequence

from acmems.exceptions.base import RetryableError


class RateLimited(RetryableError):
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


class DeadlinePassed(RetryableError):
    """The time for an answer is over; whatever runs goes on, and asking again continues it."""


class ValidatorUnavailable(RetryableError):
    """A DNS server or program that is needed to prove a name fails.

    Args:
        message: what happened, for the client too: it names the server and the record.
        retry_after: seconds after which to ask again, None if nobody said.
        advice: what the operator should do, for the log only.
    """

    def __init__(self, message: str = "", *, retry_after: float | None = None, advice: str = "") -> None:
        super().__init__(message, retry_after=retry_after)
        self.advice = advice


class StorageUnavailable(RetryableError):
    """Chains cannot be read or kept at the moment."""


class StateUnavailable(StorageUnavailable):
    """What must survive a crash cannot be read or kept at the moment, so that nothing is ordered."""


class LeaseLost(RetryableError):
    """Another server that shares the state has taken over what this one was at, since it seemed to be dead.

    Args:
        name: what this was: the name of the lease.
    """

    def __init__(self, name: str) -> None:
        super().__init__("another server goes on with this order: ask again", retry_after=10.0)
        self.name = name
