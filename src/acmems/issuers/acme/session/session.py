"""Signed requests to one CA: nonces, retries, Retry-After, deadlines (RFC 8555 section 6)."""

from __future__ import annotations

import json
import logging
import random
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from acme import messages
from josepy.jwk import JWK

from acmems import __version__
from acmems.exceptions import CAProblem, CAProtocolError
from acmems.issuers.acme.session.answers import Response
from acmems.issuers.acme.session.jws import Signer
from acmems.issuers.acme.session.nonces import NoncePool, well_formed
from acmems.issuers.acme.session.origin import Origin
from acmems.issuers.acme.session.retries import Retries, judge
from acmems.issuers.acme.session.transport import CAConnection, Failure, Transport
from acmems.system.clock import SYSTEM, Clock, Deadline
from acmems.text import one_line

__all__ = ["Response", "Session"]

NONCE_TRIES = 100
"""How often a request is made whose nonce is refused: against a CA that refuses nine in ten, one in
forty thousand requests fails."""
DIRECTORY_AGE = 3600.0
"""Seconds after which the directory is read anew."""
MAX_ANSWER = 1024 * 1024
MAX_DIRECTORY = 64 * 1024

_BAD_NONCE = CAProblem.PREFIX + "badNonce"
_ENTRANCES = ("newNonce", "newAccount", "newOrder")
_META: Mapping[str, type] = {"termsOfService": str, "externalAccountRequired": bool, "profiles": dict}

_log = logging.getLogger(__name__)


class Session:
    """Speak to one CA, from any number of threads.

    Args:
        directory_url: where the CA's directory is; every other URL must have the same origin.
        key: the account key; None until there is one.
        ca_file: PEM file with trust anchors for the CA's own HTTPS, beside those of the system.
        clock: time.
        random: numbers in [0, 1), which spread the retries of many.
        connections: how many connections are made at most.
        try_limit: seconds that one request may take, however slowly its answer drips.

    Raises:
        ValueError: the directory URL is not https, or the file or the key cannot be used.
    """

    def __init__(
        self,
        directory_url: str,
        key: JWK | None = None,
        *,
        ca_file: Path | None = None,
        clock: Clock = SYSTEM,
        random: Callable[[], float] = random.random,
        connections: int = 16,
        try_limit: float = 30.0,
    ) -> None:
        self.kid: str | None = None
        """The account URL, once known."""
        self.directory_url = directory_url
        self._origin = Origin.of(directory_url)
        self._transport = Transport(
            self._origin,
            ca_file=ca_file,
            connections=connections,
            try_limit=try_limit,
            monotonic=clock.monotonic,
        )
        self._clock = clock
        self._retries = Retries(clock, random)
        self._signer = None if key is None else Signer(key)
        self._nonces = NoncePool(monotonic=clock.monotonic)
        self._lock = threading.Lock()  # guards what follows; never held while the CA is asked
        self._requests = 0
        self._directory: messages.Directory | None = None
        self._directory_at = 0.0
        self._directory_awaited = False

    @property
    def requests(self) -> int:
        """How many requests were sent to the CA, repeated ones included."""
        return self._requests

    def use_key(self, key: JWK) -> None:
        """Sign with another account key from now on, and forget the account URL.

        Raises:
            ValueError: the key is none that ACME accounts have here.
        """
        self._signer = Signer(key)
        self.kid = None

    def close(self) -> None:
        """End all that goes on with the CA, now and from now on, with `CAUnavailable` or `FateUnknown`."""
        self._retries.stop()
        self._transport.close()

    def directory(self, deadline: Deadline) -> messages.Directory:
        """Return the CA's directory, at most an hour old (RFC 8555 section 7.1.1).

        Args:
            deadline: when to give up.

        Raises:
            CAError: there is none, as for `get`, or it lacks what every CA must offer.
            DeadlinePassed: the time is over.
        """
        with self._lock:
            fresh = self._clock.monotonic() - self._directory_at < DIRECTORY_AGE
            if self._directory is not None and (fresh or self._directory_awaited):
                return self._directory  # old, but someone is reading it anew: no stampede
            self._directory_awaited = True
        try:
            answer = self.get(self.directory_url, deadline=deadline, max_size=MAX_DIRECTORY)
            directory = self._parse_directory(answer)
        finally:
            with self._lock:
                self._directory_awaited = False
        with self._lock:
            self._directory, self._directory_at = directory, self._clock.monotonic()
        return directory

    def get(self, url: str, *, deadline: Deadline, max_size: int = MAX_ANSWER) -> Response:
        """Fetch what needs no signature: the directory, renewal information.

        Args:
            url: a URL of the CA.
            deadline: when to give up.
            max_size: bytes that the answer's body may have.

        Raises:
            As `post`, but for FateUnknown.
        """
        self._check_url(url)

        def fetch() -> Response:
            with self._transport.channel(deadline) as channel:
                answer = self._send(channel, "GET", url, deadline, max_size=max_size)
            self._keep_nonce(answer)
            return answer

        return self._retries.run(fetch, deadline, repeatable=True)

    def post(
        self,
        url: str,
        payload: Mapping[str, Any] | None,
        *,
        deadline: Deadline,
        repeatable: bool = True,
        use_jwk: bool = False,
        max_size: int = MAX_ANSWER,
        accept: str = "application/json",
    ) -> Response:
        """Send a signed request and return the CA's answer, which has a status of 200 to 299.

        Args:
            url: a URL of the CA.
            payload: what to sign; None for a POST-as-GET (RFC 8555 section 6.3).
            deadline: when to give up.
            repeatable: whether it does no harm if the CA gets the request twice.
            use_jwk: sign as the key, not as the account (newAccount; RFC 8555 section 6.2).
            max_size: bytes that the answer's body may have.
            accept: the media type wanted.

        Raises:
            RateLimited: the CA has had enough of us for now.
            CAUnavailable: it cannot be reached, fails, or wants to be asked after the deadline.
            FateUnknown: the request is not repeatable, was sent, and its answer was lost.
            CAProblem: the CA refuses.
            CAProtocolError: its answer is nonsense, or the URL is not one of its own.
            DeadlinePassed: the time is over.
            ValueError: there is no key or no account yet to sign with.
        """
        self._check_url(url)
        signer, protected = self._identity(use_jwk=use_jwk)
        protected["url"] = url
        data = b"" if payload is None else json.dumps(payload).encode("ascii")
        headers = {"Content-Type": "application/jose+json", "Accept": accept}
        new_nonce: str = self.directory(deadline)["newNonce"]

        def send_signed() -> Response:
            # The connection comes first: a nonce that is taken before would age in the queue for one.
            with self._transport.channel(deadline) as channel:
                nonce = self._nonces.take()
                for _ in range(NONCE_TRIES):
                    nonce = nonce or self._fetch_nonce(channel, new_nonce, deadline)
                    body = signer.sign({**protected, "nonce": nonce}, data)
                    answer = self._send(
                        channel, "POST", url, deadline, headers=headers, body=body, max_size=max_size
                    )
                    if answer.problem_type != _BAD_NONCE:
                        self._keep_nonce(answer)
                        return answer
                    nonce = well_formed(answer.headers.get("Replay-Nonce"))
            raise Failure(f"the CA refused {NONCE_TRIES} nonces in a row", sent=False, final=True)

        return self._retries.run(send_signed, deadline, repeatable=repeatable)

    def _identity(self, *, use_jwk: bool) -> tuple[Signer, dict[str, Any]]:
        """Return what signs, and what the protected header says about who signs."""
        if self._signer is None:
            raise ValueError("there is no account key yet")
        if use_jwk:
            return self._signer, {"jwk": self._signer.public_jwk}
        if self.kid is None:
            raise ValueError("there is no account yet")
        return self._signer, {"kid": self.kid}

    def _check_url(self, url: str) -> None:
        """Refuse URLs elsewhere: requests signed with the account key go to its CA only."""
        try:
            origin = Origin.of(url)
        except ValueError as error:
            raise CAProtocolError(f"the CA sent an unusable URL: {error}") from None
        if origin != self._origin:
            raise CAProtocolError(f"the CA sent a URL of {origin}, not of {self._origin}")

    def _fetch_nonce(self, channel: CAConnection, url: str, deadline: Deadline) -> str:
        """Ask for a nonce (RFC 8555 section 7.2); whatever fails here, the request proper was not sent."""
        try:
            answer = self._send(channel, "HEAD", url, deadline)
            judge(answer, self._clock.now())
        except Failure as failure:
            failure.sent = False
            raise
        nonce = well_formed(answer.headers.get("Replay-Nonce"))
        if nonce is None:
            raise CAProtocolError("the CA's newNonce gives no usable nonce")
        return nonce

    def _send(
        self,
        channel: CAConnection,
        method: str,
        url: str,
        deadline: Deadline,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        max_size: int = 0,
    ) -> Response:
        with self._lock:
            self._requests += 1
        started = self._clock.monotonic()
        fields = {"User-Agent": f"acmems/{__version__}", **(headers or {})}
        answer = channel.exchange(
            method, url, headers=fields, body=body, deadline=deadline, max_size=max_size
        )
        if _log.isEnabledFor(logging.DEBUG):
            milliseconds = (self._clock.monotonic() - started) * 1000
            _log.debug("%s %s: %d in %.0f ms", method, url, answer.status, milliseconds)
        return answer

    def _keep_nonce(self, answer: Response) -> None:
        nonce = well_formed(answer.headers.get("Replay-Nonce"))
        if nonce is not None:
            self._nonces.put(nonce)

    def _parse_directory(self, answer: Response) -> messages.Directory:
        # Whatever else is no text is none of the entrances that a CA may offer besides.
        members = {k: v for k, v in answer.json().items() if k == "meta" or isinstance(v, str)}
        for name in _ENTRANCES:
            if name not in members:
                raise CAProtocolError(f"the CA's directory lacks {name}")
            self._check_url(members[name])
        meta = members.setdefault("meta", {})
        if not isinstance(meta, dict) or not all(
            isinstance(meta.get(name, kind()), kind) for name, kind in _META.items()
        ):
            raise CAProtocolError("the CA's directory has a broken 'meta'")
        if "termsOfService" in meta:
            meta["termsOfService"] = one_line(meta["termsOfService"])
        return messages.Directory.from_json(members)
