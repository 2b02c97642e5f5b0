"""A request whose client, after a while, is told where it finds its answer later."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from concurrent.futures import Future

from acmems.events import AnsweredEvent, DeferredEvent
from acmems.exceptions import DeadlinePassed
from acmems.frontends.deferral.deferrals import Deferrals, RunningDeferral
from acmems.frontends.deferral.preferences import Preferences
from acmems.frontends.deferral.waiting import WaitingExchange
from acmems.frontends.delivery import SigningExchange, SigningParts
from acmems.frontends.problems import JSON_TYPES
from acmems.issuing.requests import Delivery
from acmems.net.http import Exchange, HttpResponse
from acmems.storages import Storage

REQUESTS = "/requests/"
"""What the paths of such answers begin with."""
WAIT_SECONDS = 1.0
"""For which an answer is waited for before a client that does not say how long is told to come again."""
LEAST_WAIT = 0.1
"""Seconds for which each of them waits, as what is stored may have to be looked up."""
MOST_WAIT = 0.9
"""The part of the time of a client that it may want to wait for."""


class DeferringExchange(SigningExchange):
    """One request that is answered with a chain, an error, or 202.

    Args:
        parts: what it is answered with.
        exchange: the request.
        deferrals: notes what is fetched later.
    """

    def __init__(self, parts: SigningParts, exchange: Exchange, deferrals: Deferrals) -> None:
        super().__init__(parts, exchange)
        self._deferrals = deferrals
        self._answering = threading.Lock()  # taken by whoever answers, and never released
        self._applied: Mapping[str, str] = {}  # headers of a 202

    def _wait_of(self, preferences: Preferences, usual: float) -> float:
        """Return the seconds for which an answer is waited for.

        Args:
            preferences: what the client prefers.
            usual: the seconds where it does not say.
        """
        wanted = usual if preferences.wait is None else float(preferences.wait)
        return max(LEAST_WAIT, min(MOST_WAIT * self._policy.seconds, wanted))

    def _await(self, running: RunningDeferral, storage: Storage, seconds: float) -> None:
        """Send the outcome of a request; after some seconds, tell where it will be found."""
        if running.future.done():
            self._conclude(running, storage)
            return
        exchange = self._exchange
        waiter = WaitingExchange(
            self._parts.clock.monotonic() + seconds,
            is_over=lambda: exchange.gone or self._answering.locked(),
            on_end=lambda: exchange.hand_over(lambda: self._conclude(running, storage)),
            on_late=lambda: self._defer(running, storage),
        )
        self._deferrals.waiting.add(running.future, waiter)

    def _conclude(self, running: RunningDeferral, storage: Storage) -> None:
        if isinstance(running.future.exception(), DeadlinePassed):  # the work goes on, and nothing is lost
            self._defer(running, storage)
        else:
            self._answer_with(running.future, storage)

    def _answer_with(self, future: Future[Delivery], storage: Storage) -> None:
        if self._answering.acquire(blocking=False):
            self._deliver(future, storage)

    def _defer(self, running: RunningDeferral, storage: Storage) -> None:
        """Have a request noted, and tell where its answer will be found, unless it has its answer."""
        if self._answering.locked():
            return

        def tell(noted: Future[str]) -> None:
            if noted.exception() is None:
                self._tell(running, noted.result())
            elif running.future.done():
                self._answer_with(running.future, storage)
            # Otherwise it is answered as if it had not asked for 202, which RFC 7240 allows.

        hand_over = self._exchange.hand_over
        self._deferrals.defer(running).add_done_callback(lambda noted: hand_over(lambda: tell(noted)))

    def _tell(self, running: RunningDeferral, request: str) -> None:
        if not self._answering.acquire(blocking=False):
            return
        path, seconds = f"{REQUESTS}{request}", self._deferrals.pause(running)
        headers = {
            **self._applied,
            "Location": path,
            "Retry-After": str(seconds),
            "Cache-Control": "no-store",
        }
        if any(kind in str(self._exchange.headers.get("Accept", "")) for kind in JSON_TYPES):
            document = json.dumps({"location": path, "retry_after": seconds}).encode()
            response = HttpResponse(202, document, "application/json", headers)
        else:
            words = f"the certificate is being obtained: fetch it from {path} in {seconds} s\n"
            response = HttpResponse(202, words.encode(), headers=headers)
        kind = DeferredEvent if self._applied else AnsweredEvent
        self._parts.bus.emit(kind(status=response.status, **self._known))
        self._send(response)
