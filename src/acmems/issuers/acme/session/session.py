"""Signed requests to one CA: nonces, retries, Retry-After, deadlines (RFC 8555 section 6)."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from acmems import __version__
from acmems.exceptions import (
    AcmeException,
    CAError,
    CAProblem,
    CAProtocolError,
    DeadlinePassed,
    DirectoryUnusable,
)
from acmems.issuers.acme.directory import Directory
from acmems.issuers.acme.key import AccountKey
from acmems.issuers.acme.session.connection import CAConnection, Failure
from acmems.issuers.acme.session.jws import Signer
from acmems.issuers.acme.session.nonces import NoncePool, well_formed
from acmems.issuers.acme.session.origin import Origin
from acmems.issuers.acme.session.rates import RequestRates
from acmems.issuers.acme.session.responses import Response
from acmems.issuers.acme.session.retries import Retries, judge
from acmems.issuers.acme.session.transport import Transport
from acmems.system.clock import Deadline
from acmems.system.steps import Signal, StepLoop, Steps

NONCE_TRIES = 100
"""How often a request is made whose nonce is refused: against a CA that refuses nine in ten, one in
forty thousand requests fails."""
DIRECTORY_AGE = 3600.0
"""Seconds after which the directory is read anew."""
MAX_BODY = 1024 * 1024
MAX_DIRECTORY = 64 * 1024
MOST_REDIRECTS = 5
"""How many redirects of the directory are followed, one after the other."""
REFRESH = 10.0
"""Seconds that reading the directory anew may take; where it fails, the old one goes on for `STALE`."""
STALE = 300.0

_REDIRECTS = frozenset({301, 302, 303, 307, 308})  # those with a Location (RFC 9110 section 15.4)
_WITHOUT_HEAD = frozenset({400, 401, 403, 404, 405, 406, 411, 415, 501})

_BAD_NONCE = CAProblem.PREFIX + "badNonce"

_log = logging.getLogger(__name__)


class Session:
    """Speaks to one CA; its steps run in one loop, and its other methods are for that loop's thread.

    Args:
        directory_url: where the CA's directory is; every other URL must have its origin, or one of `hosts`.
        key: the account key; None until there is one.
        loop: runs the steps.
        ca_file: PEM file with trust anchors for the CA's own HTTPS, beside those of the system.
        hosts: further origins of the same CA.
        random: numbers in [0, 1), which spread the retries of many.
        connections: how many connections are made at most to one origin.
        try_limit: seconds that one request may take, however slowly its response drips.
        processes: that speak to the CA from the same address.

    Raises:
        ValueError: the directory URL is not https, or the file cannot be used.
    """

    def __init__(
        self,
        directory_url: str,
        key: AccountKey | None,
        loop: StepLoop,
        *,
        ca_file: Path | None = None,
        hosts: Sequence[Origin] = (),
        random: Callable[[], float] = random.random,
        connections: int = 64,
        try_limit: float = 30.0,
        processes: int = 1,
    ) -> None:
        self.kid: str | None = None
        """The account URL, once known."""
        self.directory_url = directory_url
        self._origin = Origin.of(directory_url)
        self._transports = {
            origin: Transport(origin, loop, ca_file=ca_file, connections=connections, try_limit=try_limit)
            for origin in dict.fromkeys((self._origin, *hosts))
        }
        self._clock = loop.clock
        self._loop = loop
        self._retries = Retries(loop.clock, random)
        self._signer = None if key is None else Signer(key)
        self._nonces = NoncePool(monotonic=loop.clock.monotonic)
        self._rates = RequestRates(directory_url, processes)
        self._nonce_method = "HEAD"
        self._requests = 0
        self._directory: Directory | None = None
        self._directory_until = 0.0  # of the monotonic clock; then it is read anew
        self._directory_read: Signal | None = None  # set when the reading of it that goes on has ended

    @property
    def requests(self) -> int:
        """How many requests were sent to the CA, repeated ones included."""
        return self._requests

    @property
    def silence(self) -> float:
        """Seconds for which nothing that was asked is answered; 0 while nothing is. For any thread."""
        return self._retries.silence

    def close(self) -> None:
        """End all that goes on with the CA, now and from now on, with `CAUnavailable` or `FateUnknown`.

        For any thread.
        """
        for transport in self._transports.values():
            transport.close()
        self._loop.soon(self._retries.stop)

    def directory(self, deadline: Deadline) -> Steps[Directory]:
        """Return the CA's directory (RFC 8555 section 7.1.1), read anew each hour as far as the CA gives it.

        Args:
            deadline: when to give up.

        Raises:
            CAError: there is none, as for `get`, or it lacks what every CA must offer.
            DeadlinePassed: the time is over.
        """
        while True:
            known, reading = self._directory, self._directory_read
            fresh = self._clock.monotonic() < self._directory_until
            if known is not None and (fresh or reading is not None):
                return known  # an old one while it is read anew
            if reading is None:
                return (yield from self._read_directory(deadline, known))
            if not (yield reading.wait(deadline.remaining)):
                raise DeadlinePassed("the CA's directory was not read in time")

    def get(self, url: str, *, deadline: Deadline, max_size: int = MAX_BODY) -> Steps[Response]:
        """Fetch what needs no signature: the directory, renewal information.

        Args:
            url: a URL of the CA.
            deadline: when to give up.
            max_size: bytes that the response's body may have.

        Raises:
            As `post`, but for FateUnknown.
        """
        self._origin_of(url)

        kind = self._kind(url)

        def fetch() -> Steps[Response]:
            yield from self._take_turn(kind, deadline)
            return (yield from self._fetch(url, deadline, max_size))

        return (yield from self._retries.run(fetch, deadline, repeatable=True, kind=kind))

    def post(
        self,
        url: str,
        payload: Mapping[str, Any] | None,
        *,
        deadline: Deadline,
        repeatable: bool = True,
        use_jwk: bool = False,
        max_size: int = MAX_BODY,
        accept: str = "application/json",
    ) -> Steps[Response]:
        """Send a signed request and return the CA's response, which has a status of 200 to 299.

        Args:
            url: a URL of the CA.
            payload: what to sign; None for a POST-as-GET (RFC 8555 section 6.3).
            deadline: when to give up.
            repeatable: whether it does no harm if the CA gets the request twice.
            use_jwk: sign as the key, not as the account (newAccount; RFC 8555 section 6.2).
            max_size: bytes that the response's body may have.
            accept: the media type wanted.

        Raises:
            RateLimited: the CA has had enough of us for now.
            CAUnavailable: it cannot be reached, fails, or wants to be asked after the deadline.
            FateUnknown: the request is not repeatable, was sent, and its response was lost.
            CAProblem: the CA refuses.
            CAProtocolError: its response is nonsense, or the URL is not one of its own.
            DeadlinePassed: the time is over.
            ValueError: there is no key or no account yet to sign with.
        """
        origin = self._origin_of(url)
        signer, kid = self._identity(use_jwk=use_jwk)
        data = b"" if payload is None else json.dumps(payload).encode("ascii")
        headers = {"Content-Type": "application/jose+json", "Accept": accept}
        new_nonce = (yield from self.directory(deadline))["newNonce"]

        def send_signed(connection: CAConnection) -> Steps[Response]:
            # Only now: a nonce that is taken before would age in the queue for a connection.
            nonce = self._nonces.take()
            for _ in range(NONCE_TRIES):
                nonce = nonce or (yield from self._new_nonce(connection, origin, new_nonce, deadline))
                body = signer.sign(url, nonce, data, kid)
                response = yield from self._send(
                    connection, "POST", url, deadline, headers=headers, body=body, max_size=max_size
                )
                if response.problem_type != _BAD_NONCE:
                    self._keep_nonce(response)
                    return response
                nonce = well_formed(response.headers.field("Replay-Nonce"))
            raise Failure(f"the CA refused {NONCE_TRIES} nonces in a row", sent=False, final=True)

        kind = self._kind(url, payload)

        def attempt() -> Steps[Response]:
            yield from self._take_turn(kind, deadline)
            return (yield from self._transports[origin].use(deadline, send_signed))

        return (yield from self._retries.run(attempt, deadline, repeatable=repeatable, kind=kind))

    def _identity(self, *, use_jwk: bool) -> tuple[Signer, str | None]:
        """Return what signs, and the URL of the account that signs, None where the key itself does."""
        if self._signer is None:
            raise ValueError("there is no account key yet")
        if not use_jwk and self.kid is None:
            raise ValueError("there is no account yet")
        return self._signer, None if use_jwk else self.kid

    def _origin_of(self, url: str) -> Origin:
        """Return where a URL leads, unless it leads elsewhere: requests go to the CA only.

        Raises:
            CAProtocolError: it is not one of this CA.
        """
        for origin in self._transports:
            if origin.has(url):
                return origin
        try:
            origin = Origin.of(url)
        except ValueError as error:
            raise CAProtocolError(f"the CA sent an unusable URL: {error}") from None
        if origin not in self._transports:
            raise CAProtocolError(
                f"the CA sent a URL of {origin}, not of {self._origin}; if that is the same CA, add "
                f"'acme-host = {origin.authority}' to [account]"
            )
        return origin

    def _kind(self, url: str, payload: Mapping[str, Any] | None = None) -> str:
        """Return what is asked for: a resource of the directory, `finalize`, or what lies beside the URL.

        CAs keep orders in one place, authorizations in another; finalize URLs often lie below the order's.
        """
        if url == self.directory_url:
            return "directory"
        if payload is not None and "csr" in payload:
            return "finalize"
        named = {} if self._directory is None else self._directory.urls
        beside = url.partition("?")[0].rpartition("/")[0]
        if beside == named.get("renewalInfo", "").rstrip("/"):
            return "renewalInfo"
        return next((name for name, place in named.items() if place == url), beside)

    def _read_directory(self, deadline: Deadline, known: Directory | None) -> Steps[Directory]:
        """Read the directory; where that fails, an old one serves on."""
        ended = self._directory_read = Signal()
        limit = deadline if known is None else deadline.within(REFRESH)
        try:
            directory = yield from self._fetch_directory(limit)
            self._directory_until = self._clock.monotonic() + DIRECTORY_AGE
        except AcmeException as error:
            if known is None or deadline.passed:
                raise
            _log.warning("the CA's directory cannot be read anew, so the old one is used: %s", error)
            directory = known
            self._directory_until = self._clock.monotonic() + STALE
        finally:
            self._directory_read = None
            ended.set()
        self._directory = directory
        return directory

    def _fetch_directory(self, deadline: Deadline) -> Steps[Directory]:
        def fetch() -> Steps[Response]:
            yield from self._take_turn("directory", deadline)
            response = yield from self._fetch(self.directory_url, deadline, MAX_DIRECTORY)
            for _ in range(MOST_REDIRECTS):
                if response.status not in _REDIRECTS or response.location is None:
                    break
                response = yield from self._fetch(response.location, deadline, MAX_DIRECTORY)
            return response

        try:
            response = yield from self._retries.run(
                fetch, deadline, repeatable=True, kind=self._kind(self.directory_url)
            )
        except CAProblem as problem:
            raise self._no_directory(problem) from problem
        try:
            directory = Directory.parse(response.json())
        except CAProtocolError as error:
            raise self._no_directory(error) from error
        for url in directory.required:
            self._origin_of(url)
        return directory

    def _no_directory(self, error: CAError) -> DirectoryUnusable:
        words = str(error).replace(f" from {self.directory_url}", "")
        return DirectoryUnusable(self.directory_url, words)

    def _take_turn(self, kind: str, deadline: Deadline) -> Steps[None]:
        """Wait until the CA takes one more request of a kind from this address, or to the deadline."""
        seconds = self._rates.reserve(kind, self._clock.monotonic())
        if seconds:
            yield self._retries.stopped.wait(min(seconds, deadline.remaining))

    def _fetch(self, url: str, deadline: Deadline, max_size: int) -> Steps[Response]:
        """Send one unsigned request; the nonce that may come with the answer is kept."""
        response = yield from self._transports[self._origin_of(url)].use(
            deadline, lambda connection: self._send(connection, "GET", url, deadline, max_size=max_size)
        )
        self._keep_nonce(response)
        return response

    def _new_nonce(
        self, connection: CAConnection, origin: Origin, url: str, deadline: Deadline
    ) -> Steps[str]:
        """Ask for a nonce (RFC 8555 section 7.2); whatever fails here, the request proper was not sent.

        Args:
            connection: one to `origin`, used unless newNonce is elsewhere.
            origin: where the request proper goes.
            url: the CA's newNonce.
            deadline: when to give up.
        """
        place = self._origin_of(url)
        try:
            self._retries.refuse_held("newNonce")
            yield from self._take_turn("newNonce", deadline)
            if place == origin:
                return (yield from self._ask_for_nonce(connection, url, deadline))
            return (
                yield from self._transports[place].use(
                    deadline, lambda other: self._ask_for_nonce(other, url, deadline)
                )
            )
        except Failure as failure:
            failure.sent = False
            failure.kind = "newNonce"
            raise

    def _ask_for_nonce(self, connection: CAConnection, url: str, deadline: Deadline) -> Steps[str]:
        """Ask by HEAD, or by GET where the CA, or what stands before it, gives nothing for a HEAD."""
        response = yield from self._send(connection, self._nonce_method, url, deadline, max_size=MAX_BODY)
        nonce = well_formed(response.headers.field("Replay-Nonce"))
        if self._nonce_method == "HEAD" and _lacks(response, nonce):
            response = yield from self._send(connection, "GET", url, deadline, max_size=MAX_BODY)
            nonce = well_formed(response.headers.field("Replay-Nonce"))
            if nonce is not None:
                self._nonce_method = "GET"
        judge(response, self._clock.now())
        if nonce is None:
            raise CAProtocolError("the CA's newNonce gives no usable nonce")
        return nonce

    def _send(
        self,
        connection: CAConnection,
        method: str,
        url: str,
        deadline: Deadline,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        max_size: int = 0,
    ) -> Steps[Response]:
        self._requests += 1
        started = self._clock.monotonic()
        fields = {"User-Agent": f"acmems/{__version__}", **(headers or {})}
        response = yield from connection.exchange(
            method, url, headers=fields, body=body, deadline=deadline, max_size=max_size
        )
        if _log.isEnabledFor(logging.DEBUG):
            milliseconds = (self._clock.monotonic() - started) * 1000
            _log.debug("%s %s: %d in %.0f ms", method, url, response.status, milliseconds)
        return response

    def _keep_nonce(self, response: Response) -> None:
        nonce = well_formed(response.headers.field("Replay-Nonce"))
        if nonce is not None:
            self._nonces.put(nonce)


def _lacks(response: Response, nonce: str | None) -> bool:
    """Tell whether a GET may bring what this answer to a HEAD did not (RFC 8555 section 7.2)."""
    return response.status in _WITHOUT_HEAD or (nonce is None and response.status < 300)  # noqa: PLR2004 - HTTP's own
