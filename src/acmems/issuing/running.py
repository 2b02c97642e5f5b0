"""An issuance on its way, and the clients that wait for it."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from acmems.exceptions import CAUnavailable, CertificateUnusable, ClientGone, DeadlinePassed, QueueFull
from acmems.issuing.requests import AcceptedRequest, Delivery, IssuanceKey
from acmems.storages import Storage
from acmems.system.clock import Deadline
from acmems.system.shares import Share
from acmems.system.steps import Signal
from acmems.x509.chain import LONG_PAUSE, Chain

_CROWD = 256
"""Clients that may wait for one issuance until it is looked who of them has hung up."""


@dataclass(frozen=True, slots=True, eq=False)
class WaitingClient:
    """A client that waits for an issuance, and how long it does."""

    accepted: AcceptedRequest
    future: Future[Delivery]
    deadline: Deadline

    @property
    def owner(self) -> tuple[str | None, str]:
        """Whose share of the places it would take: auth block and client."""
        return self.accepted.owner

    @property
    def is_gone(self) -> bool:
        """Whether it has hung up."""
        return self.accepted.gone()

    def waits(self, seconds: float) -> bool:
        """Tell whether it has not hung up, and has so many seconds left."""
        return not self.is_gone and self.deadline.remaining >= seconds

    @property
    def is_late(self) -> bool:
        """Whether its time is over."""
        return self.deadline.passed


@dataclass(slots=True, eq=False)
class RunningIssuance:
    """An issuance that runs or waits for its turn, who waits for it, and who has been told to ask again.

    It is tried with one request, whoever has joined since. Where that fails by what belongs to this request,
    it ends for those like it, and begins again for the others.

    Args:
        key: what makes others the same.
        accepted: the request that it is tried with.
        looks_again: whether a chain for the same may have been stored since the storage was asked.
        waiting: who waits for it.
        gave_up: of those who stopped waiting, one for each storage.
        began: when it began, on the monotonic clock; None while it waits for its turn.
        takes_turn: False once nobody waits for it: then another one may begin.
        ended: set when it ends.
    """

    key: IssuanceKey
    accepted: AcceptedRequest
    looks_again: bool
    waiting: list[WaitingClient] = field(default_factory=list)
    gave_up: dict[Storage, AcceptedRequest] = field(default_factory=dict)
    began: float | None = None
    takes_turn: bool = True
    ended: Signal = field(default_factory=Signal)
    _crowd: int = _CROWD

    @property
    def share(self) -> Share:
        """Whose share of the places it takes: that of the request that it is tried with."""
        accepted = self.accepted
        return Share(*accepted.owner, accepted.request.names, accepted.most_orders)

    @property
    def next_deadline(self) -> float:
        """Seconds until the time of the first of its clients is over; infinite if there is none."""
        return min((each.deadline.remaining for each in self.waiting), default=float("inf"))

    @property
    def is_waited_for(self) -> bool:
        """Whether a client that has not hung up waits for it."""
        return any(not each.is_gone for each in tuple(self.waiting))

    def again(self, others: list[WaitingClient]) -> RunningIssuance:
        """Return one like this for some of its clients, tried with the request of the first of them."""
        return RunningIssuance(
            self.key, others[0].accepted, looks_again=True, waiting=others, gave_up=self.gave_up
        )

    def leave(self, is_over: Callable[[WaitingClient], bool]) -> list[WaitingClient]:
        """Return the clients that wait no longer, and remember where they keep their chains."""
        over = [each for each in self.waiting if is_over(each)]
        if over:
            left = set(over)
            self.waiting = [each for each in self.waiting if each not in left]
            self.gave_up |= {each.accepted.storage: each.accepted for each in over}
        return over

    def join(self, client: WaitingClient) -> list[WaitingClient]:
        """Have one more client wait, and return those that have hung up, if there are very many."""
        self.waiting.append(client)
        if len(self.waiting) <= self._crowd:
            return []
        gone = self.leave(lambda each: each.is_gone)
        self._crowd = max(_CROWD, 2 * len(self.waiting))
        return gone


def tell(waiting: Sequence[WaitingClient], outcome: Delivery | Exception) -> None:
    """Tell all who wait for an issuance how it ended."""
    for number, each in enumerate(waiting):
        refusal = outcome if isinstance(outcome, Exception) else each.accepted.refusal(outcome.chain)
        if isinstance(outcome, Exception) or refusal is not None:
            each.future.set_exception(refusal)
        else:
            joined = number > 0 and outcome.source == "issued"
            each.future.set_result(Delivery(outcome.chain, "joined") if joined else outcome)


def stopping() -> CAUnavailable:
    """Return what whoever asks a server that stops is told."""
    return CAUnavailable("this server is stopping; ask again", retry_after=5.0)


def late(accepted: AcceptedRequest, seconds: float) -> DeadlinePassed:
    """Return what a client is told whose time is over while its order goes on."""
    return _no_certificate(accepted, seconds, "the order goes on, and the same request gets its certificate")


def not_begun(accepted: AcceptedRequest, seconds: float) -> DeadlinePassed:
    """Return what a client is told whose time is over before its order has begun."""
    return _no_certificate(
        accepted, seconds, "its turn has not come: too many others were before it; ask again"
    )


def _no_certificate(accepted: AcceptedRequest, seconds: float, reason: str) -> DeadlinePassed:
    names = ", ".join(accepted.request.names)
    return DeadlinePassed(f"no certificate for {names} after {seconds:.0f} s; {reason}", retry_after=10.0)


def hung_up() -> ClientGone:
    """Return what a client is told that seems to have hung up: it may have stopped sending only."""
    return ClientGone("the connection had ended before the order began: ask again", retry_after=5.0)


def queue_full() -> QueueFull:
    """Return what a client is told for which there is no room."""
    words = "too many requests wait for a certificate already: ask again later"
    return QueueFull(words, retry_after=60.0)


def not_valid(chain: Chain, now: datetime.datetime) -> CertificateUnusable:
    """Return what is wrong with a chain that was issued just now, and is not valid.

    Args:
        chain: the chain.
        now: the time by this server's clock (aware).
    """
    return CertificateUnusable(
        f"the CA issued a certificate that is valid from {chain.not_before} to {chain.not_after}, and by "
        f"this server's clock it is {now:%Y-%m-%d %H:%M:%S} UTC: one of the clocks is wrong",
        retry_after=LONG_PAUSE,
    )
