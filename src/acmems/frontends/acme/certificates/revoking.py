"""Revoking certificates (RFC 8555 section 7.6), in the same way as `acmems revoke` does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from acmems.auth.names import judge_names
from acmems.exceptions import ActFailed, CAProblem
from acmems.frontends.acme.answers import AcmeAnswer
from acmems.frontends.acme.envelope.members import decoded
from acmems.frontends.acme.orders.parts import OrderParts
from acmems.frontends.acme.problems import AcmeProblem, malformed
from acmems.frontends.acme.rates import ClientRates
from acmems.frontends.acme.requests import SignedRequest
from acmems.issuers.acme.certificates.revocation import REASONS
from acmems.issuing.limits.gcra import Rate
from acmems.net.http import Exchange
from acmems.state.acme.statuses import ClientAuthorizationStatus
from acmems.state.chains import ChainRecord
from acmems.state.chains.records import KEY_COMPROMISE
from acmems.system.steps import SharedThreads, Signal, Steps
from acmems.x509.identifiers import named

HOLD_SECONDS = 25.0
"""How long the answer is held back. What takes longer goes on: several servers wait for each other."""
_LARGEST = 64 * 1024  # bytes of a certificate
_THREADS = 2
_PAGE, _MOST_PAGES = 100, 20  # of an account's orders that are looked through
LOOK_RATE: Final = Rate(60, 3_600_000)
"""Looks through an account's orders for one address: as many at once, and as many in each hour. Each may take
a second."""
_NAMES = {code: name for name, code in REASONS.items()}

Revoke = Callable[[ChainRecord, str, str], None]
"""Revokes a chain for one of `REASONS` at the wish of a client whose address is given; it blocks.

It raises an `AcmeException` that says why the chain was not revoked.
"""


class RevocationResource:
    """Revokes certificates.

    Whoever has the key of a certificate may have it revoked; so may the account that has got it, and one
    whose authorizations for all of its names are valid, as long as policy grants it these names.

    Args:
        parts: what it works with.
        revoke: revokes chains.
    """

    def __init__(self, parts: OrderParts, revoke: Revoke) -> None:
        self._parts = parts
        self._revoke = revoke
        self._rates = ClientRates(LOOK_RATE, "revocations of certificates of others", parts.clock)
        self._threads = SharedThreads(_THREADS, "acmems-acme-revoking")

    def __call__(self, request: SignedRequest, exchange: Exchange) -> Steps[AcmeAnswer]:  # noqa: ARG002 - the contract
        """Revoke a certificate.

        Raises:
            AcmeProblem: it is not known, may not be revoked by whoever asks, or is revoked already.
            AcmeException: the CA refuses or does not answer; from then on it is not delivered, though.
            StateUnavailable: it cannot be known.
        """
        parts = self._parts
        members = request.json()
        text = members.get("certificate")
        if not isinstance(text, str):
            raise malformed("'certificate' must be a certificate: its DER in base64url")
        encoded = decoded(text, "'certificate'")
        if len(encoded) > _LARGEST:
            raise malformed("'certificate' is larger than certificates are")
        reason = _reason(members.get("reason"))
        fingerprint = hashlib.sha256(encoded).hexdigest()
        found = yield from parts.threads.call(lambda: parts.chains.of([fingerprint]))
        if not found:
            raise AcmeProblem("malformed", "no such certificate was issued here", status=404)
        chain = found[0]
        yield from self._check_right(request, chain, reason)
        if chain.revoked is not None:
            raise AcmeProblem("alreadyRevoked", "this certificate is revoked already")
        yield from self._act(chain, reason, request.client)
        return AcmeAnswer(200)

    def _check_right(self, request: SignedRequest, chain: ChainRecord, reason: str) -> Steps[None]:
        """See that whoever asks may have a chain revoked for a reason.

        Raises:
            AcmeProblem: not so.
        """
        parts, account = self._parts, request.account
        if account is None:
            if hashlib.sha256(request.key.public_octets).hexdigest() == chain.key_digest:
                return
            raise AcmeProblem("unauthorized", "this request is not signed by the key of the certificate")
        is_owned = yield from parts.threads.call(
            lambda: parts.certificates.is_owned(chain.fingerprint, account.id)
        )
        if is_owned:
            return
        self._rates.require_room(request.client)
        self._rates.count(request.client)
        if self._grants(request, chain) and (
            yield from parts.threads.call(lambda: self._may_have(account.id, chain))
        ):
            if reason == KEY_COMPROMISE:  # after which nobody gets a certificate for the key any more
                raise AcmeProblem(
                    "badRevocationReason",
                    "only the key of the certificate, or the account that has got it, can tell that the key "
                    "is compromised: give another reason",
                )
            return
        raise AcmeProblem(
            "unauthorized",
            "this account has not got the certificate, and has no valid authorizations for its names",
        )

    def _grants(self, request: SignedRequest, chain: ChainRecord) -> bool:
        """Tell whether today's policy grants all names of a chain: authorizations may be older."""
        blocks = self._parts.policy().auth.blocks
        names = map(named, chain.names)
        return all(judge_names(blocks, request.caller, [each]).block is not None for each in names)

    def _may_have(self, account: str, chain: ChainRecord) -> bool:
        """Tell whether an account has valid authorizations for all names of a chain; it blocks."""
        left, last, now = set(chain.names), "", self._parts.now
        for _ in range(_MOST_PAGES):
            page = self._parts.orders.of_account(account, now, last, _PAGE)
            for order in page:
                left -= {
                    each.name.identifier.value
                    for each in order.authorizations
                    if each.status is ClientAuthorizationStatus.VALID
                }
            if not left or len(page) < _PAGE:
                break
            last = page[-1].id
        return not left

    def _act(self, chain: ChainRecord, reason: str, client: str) -> Steps[None]:
        """Revoke a chain, and wait for that for a while.

        Raises:
            AcmeException: it was refused, or failed.
        """
        ended, acted = Signal(), Future[None]()

        def act() -> Steps[None]:
            try:
                yield from self._threads.call(lambda: self._revoke(chain, reason, client))
            except Exception as error:  # noqa: BLE001 - whoever waits is told, and the operator was
                acted.set_exception(error)
            else:
                acted.set_result(None)
            finally:
                ended.set()

        self._parts.loop.submit(act())
        if not (yield ended.wait(HOLD_SECONDS)):
            return
        error = acted.exception()
        if isinstance(error, ActFailed) and isinstance(error.__cause__, CAProblem):
            raise _told(error.__cause__, str(error))
        if error is not None:
            raise error


def _reason(code: object) -> str:
    """Return the reason of a code (RFC 5280 section 5.3.1).

    Raises:
        AcmeProblem: none that a client may give.
    """
    if code is None:
        return _NAMES[0]
    if isinstance(code, bool) or not isinstance(code, int) or code not in _NAMES:
        known = ", ".join(f"{number} ({name})" for number, name in _NAMES.items())
        raise AcmeProblem("badRevocationReason", f"give one of the reasons {known}")
    return _NAMES[code]


def _told(problem: CAProblem, words: str) -> AcmeProblem:
    """Return what a CA's refusal to revoke is to the client."""
    if problem.code == "badRevocationReason":
        return AcmeProblem("badRevocationReason", problem.detail or words)
    return AcmeProblem("serverInternal", words, status=502)
