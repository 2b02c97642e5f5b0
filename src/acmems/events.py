"""What happens to requests, as frozen values, told to whoever listens.

The core emits these and imports none of its listeners: log, audit, metrics and notices subscribe.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal

from acmems.exceptions import AcmeException

logger = logging.getLogger(__name__)

Source = Literal["stored", "issued", "joined", "stale"]
FrontEndName = Literal["sign", "http01", "metrics", "acme", "est"]
AcmeAccountAct = Literal["made", "changed", "key changed", "deactivated"]

NOT_LOGGED: Final = {"logged": False}
"""Metadata of a field that the log does without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to one request.

    Args:
        reference: names the request in the log, and to the client if there was a bug.
        client: the address that asked.
        names: what a certificate was asked for; empty while that is not known.
        block: the auth block that accepted the request, None while none did.
        account: the URL of the ACME account, None while none is involved.
        front_end: what answers the request, None for what happens behind the front ends.
    """

    word: ClassVar[str] = "event"
    """What it is called in the log."""
    is_logged: ClassVar[bool] = True
    """Whether it is one line of the log; what is not is only counted."""

    reference: str
    client: str
    names: tuple[str, ...] = ()
    block: str | None = None
    account: str | None = None
    front_end: FrontEndName | None = field(default=None, metadata=NOT_LOGGED)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredEvent(Event):
    """A request that asks for no certificate was answered: a challenge, a look at the metrics.

    Strangers make as many of them as they like, so the log does not tell.

    Args:
        status: the HTTP status answered.
    """

    word = "answered"
    is_logged = False

    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedEvent(Event):
    """A request was accepted: somebody who may asks for a certificate."""

    word = "requested"


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedEvent(Event):
    """A request was refused for what it is.

    Args:
        status: the HTTP status answered.
        reason: why, in words for the operator; the client may have been told less.
        seconds: from the request's arrival to the refusal.
    """

    word = "refused"

    status: int
    reason: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedEvent(Event):
    """The CA issued a certificate, and it was found to be what was asked for.

    Args:
        directory: the URL of the CA's ACME directory.
        not_after: when the certificate expires (aware, UTC).
        seconds: from the first step at the CA to the verified chain.
    """

    word = "issued"

    directory: str
    not_after: datetime.datetime
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NotIssuedEvent(Event):
    """The CA was asked for a certificate, and there is none that can be used.

    The log tells it once for each client that waits, as the answer that this client gets.

    Args:
        directory: the URL of the CA's ACME directory.
        error: why.
        seconds: from the first step at the CA to the failure.
    """

    word = "not issued"
    is_logged = False

    directory: str
    error: Exception = field(repr=False, compare=False)
    seconds: float

    @property
    def reason(self) -> str:
        """Why, in words for the operator."""
        if not isinstance(self.error, AcmeException):
            return f"a bug: {type(self.error).__name__}"
        advice = getattr(self.error, "advice", "")
        return f"{self.error}; {advice}" if advice else str(self.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveredEvent(Event):
    """A chain was sent.

    Args:
        status: the HTTP status answered.
        source: `stored`, newly `issued`, `joined` to an issuance that was running already, or
            `stale`: stored, due for renewal, and still valid while the CA is failing.
        seconds: from the request's arrival to the answer.
        fingerprint: SHA-256 of the leaf, in hex.
    """

    word = "delivered"

    status: int
    source: Source
    seconds: float
    fingerprint: str | None = field(default=None, metadata=NOT_LOGGED)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredEvent(Event):
    """A client was told to fetch its chain later.

    Args:
        status: the HTTP status answered.
    """

    word = "deferred"

    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedEvent(Event):
    """An acceptable request was not served, or something around it went wrong.

    Args:
        stage: what was being done: `order`, `validate`, `finalize`, `store` and so on.
        status: the HTTP status answered.
        reason: why, in words for the operator.
        seconds: from the request's arrival to the failure.
        bug: the exception, only where it is one that nobody foresaw; its traceback is logged.
    """

    word = "failed"

    stage: str
    status: int
    reason: str
    seconds: float | None = None
    bug: BaseException | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdministeredEvent(Event):
    """A command has acted, or tried to: on the account, or on certificates.

    Args:
        act: what was asked for, such as `revoke`.
        who: the number and the name of the user who asked.
        outcome: `done` or `failed`.
        reason: why, as far as somebody said: of a revocation, or of a failure.
    """

    word = "administered"

    act: str
    who: str
    outcome: Literal["done", "failed"]
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcmeAccountEvent(Event):
    """An ACME client has made, changed or ended its account at this server.

    Args:
        act: what it has done.
        acme_account: what the URL of the account ends with.
        external_account: the key identifier that the account is bound to, None if it is bound to none.
    """

    word = "account"

    act: AcmeAccountAct
    acme_account: str
    external_account: str | None = None


Subscriber = Callable[[Event], None]


class Bus:
    """Passes events on to subscribers, in the order of their subscription, in the emitter's thread."""

    def __init__(self) -> None:
        self._subscribers: tuple[Subscriber, ...] = ()

    def subscribe(self, subscriber: Subscriber) -> None:
        """Tell a subscriber every event from now on.

        Args:
            subscriber: called with each event; SHOULD return soon, as a request waits meanwhile.
                Called from many threads at once.
        """
        # A new tuple, so that emitting needs no lock.
        self._subscribers = (*self._subscribers, subscriber)

    def emit(self, event: Event) -> None:
        """Tell every subscriber; one that fails is logged and hurts neither the others nor the caller.

        Args:
            event: what happened.
        """
        for subscriber in self._subscribers:
            try:
                subscriber(event)
            except Exception:  # whatever a listener does, the request goes on
                logger.exception(
                    "a subscriber failed",
                    extra={"fields": {"ref": event.reference, "event": event.word}},
                )
