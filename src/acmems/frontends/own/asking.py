"""The certificates of the server's own names: it asks for them as its clients do for theirs."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from acmems.auth import Block, Caller
from acmems.exceptions import AcmeException, PolicyRefusal
from acmems.frontends.delivery import Issuing, SigningPolicy
from acmems.frontends.own.files import ensure, keep_chain
from acmems.frontends.tls.files import UnusableTls
from acmems.frontends.tls.options import TlsOptions
from acmems.issuing.requests import AcceptedRequest, Delivery
from acmems.net.tls import TlsMaterial
from acmems.system.clock import SYSTEM, Clock
from acmems.x509 import csr
from acmems.x509.chain import renewal_time
from acmems.x509.identifiers import Identifier

logger = logging.getLogger(__name__)

LOCAL = "local"
"""What the log calls the server as a client of its own."""
FIRST_PAUSE, LONGEST_PAUSE = 60.0, 3600.0
"""Seconds between two attempts at a certificate that cannot be had; each pause is twice the one before."""
LOOK_SECONDS = 3600.0
"""Between two looks whether what the server keeps for clients is newer than what it shows."""
_CALLERS = tuple(Caller(ipaddress.ip_address(address), None) for address in ("127.0.0.1", "::1"))


def granting_block(blocks: Sequence[Block], identifier: Identifier) -> Block | None:
    """Return the auth block that grants the server a name of its own, None if none does.

    It is judged as a client of this machine that shows nothing but its address.

    Args:
        blocks: the auth blocks, in order.
        identifier: the name.
    """
    for block in blocks:
        for caller in _CALLERS:
            if block.proof.is_required or not block.accepts(caller, b""):
                continue
            if block.refusal([identifier], caller) is None:
                return block
    return None


@dataclass(slots=True)
class _OwnName:
    """What goes on for a name.

    Args:
        options: the name and its files.
        due: when there is something to do next, on the monotonic clock.
        pause: seconds until the attempt after the next one that fails.
        running: the issuance, if one goes on.
    """

    options: TlsOptions
    due: float = 0.0
    pause: float = FIRST_PAUSE
    running: Future[Delivery] | None = None


class OwnCertificates:
    """Gets and renews the certificates of the server's own names.

    Args:
        wanted: returns the TLS of front ends, some of which have such a name.
        policy: returns what holds now.
        issuances: turn accepted requests into chains.
        show: has a chain shown that was put into its file.
        clock: time.
    """

    def __init__(
        self,
        wanted: Callable[[], Iterable[TlsOptions]],
        policy: Callable[[], SigningPolicy],
        issuances: Issuing,
        show: Callable[[], None],
        clock: Clock = SYSTEM,
    ) -> None:
        self._wanted = wanted
        self._policy = policy
        self._issuances = issuances
        self._show = show
        self._clock = clock
        self._attempts: dict[Path, _OwnName] = {}

    def run(self) -> None:
        """Do what there is to do; to be called from time to time."""
        wanted = {each.key: each for each in self._wanted() if each.name is not None and each.key is not None}
        self._attempts = {key: each for key, each in self._attempts.items() if key in wanted}
        for key, options in wanted.items():
            attempt = self._attempts.setdefault(key, _OwnName(options))
            attempt.options = options
            if attempt.running is not None:
                self._look_at(attempt, attempt.running)
            elif self._clock.monotonic() >= attempt.due:
                self._begin(attempt)

    def _begin(self, attempt: _OwnName) -> None:
        """Ask for a certificate, where the one that is shown is not good for long."""
        options = attempt.options
        try:
            material = ensure(options, self._clock.now())
            accepted = self._accepted(options)
            if self._is_due(material, accepted) or accepted.storage.is_durable:
                attempt.running = self._issuances.issue(accepted)
            attempt.due = self._clock.monotonic() + LOOK_SECONDS
        except (AcmeException, UnusableTls) as error:
            self._put_off(attempt, error)

    def _look_at(self, attempt: _OwnName, running: Future[Delivery]) -> None:
        """Show what has come of an issuance, if it has ended."""
        if not running.done():
            return
        attempt.running = None
        error = running.exception()
        if error is not None:
            self._put_off(attempt, error)
            return
        chain, options = running.result().chain, attempt.options
        try:
            before = ensure(options, self._clock.now())
            is_newer = before.is_self_signed or chain.not_before > before.not_before
            if is_newer and chain.is_valid(self._clock.now()):
                keep_chain(options, chain.pem)
                self._show()
        except (OSError, UnusableTls) as failure:
            self._put_off(attempt, failure)
            return
        attempt.pause = FIRST_PAUSE
        attempt.due = self._clock.monotonic() + LOOK_SECONDS

    def _put_off(self, attempt: _OwnName, error: BaseException) -> None:
        pause = max(attempt.pause, getattr(error, "retry_after", None) or 0.0)
        attempt.due = self._clock.monotonic() + pause
        attempt.pause = min(2 * attempt.pause, LONGEST_PAUSE)
        name = attempt.options.name.value if attempt.options.name is not None else "-"
        logger.warning(
            "the certificate of this server for %s cannot be had now: %s; it is tried again in %.0f s",
            *(name, error, pause),
        )

    def _is_due(self, material: TlsMaterial, accepted: AcceptedRequest) -> bool:
        """Tell whether a certificate is to be replaced, as one of a client would be."""
        within = accepted.storage.renew_within
        due = renewal_time(material.not_before, material.not_after, within)
        return material.is_self_signed or self._clock.now() >= due

    def _accepted(self, options: TlsOptions) -> AcceptedRequest:
        """Return what an issuance is asked for.

        Raises:
            PolicyRefusal: no auth block grants the name.
            PayloadInvalid: the CSR is not acceptable any more.
            UnusableTls: it cannot be read.
        """
        policy = self._policy()
        try:
            body = options.request.read_bytes() if options.request is not None else b""
        except OSError as error:
            raise UnusableTls("tls-name", f"{options.request}: {error.strerror or error}") from None
        request = csr.parse(body, policy.auth.rules)
        block = None if options.name is None else granting_block(policy.auth.blocks, options.name)
        if block is None:
            raise PolicyRefusal(f"no auth block grants {', '.join(request.names)} to 127.0.0.1")
        return AcceptedRequest(
            request,
            block.validators,
            block.storage,
            client=LOCAL,
            block=block.name,
            grants=block.grants,
            most_orders=block.max_orders,
            subject=policy.subject,
            issuers=block.issuers,
            takes_stale=False,
        )
