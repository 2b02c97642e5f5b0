"""When clients should renew (RFC 9773), by the same plans by which this server renews ahead."""

from __future__ import annotations

import base64
import binascii
import datetime
import re
from collections.abc import Callable
from concurrent.futures import Future

from acmems.frontends.acme.answers import AcmeAnswer
from acmems.frontends.acme.orders.documents import time_text
from acmems.frontends.acme.orders.parts import OrderParts
from acmems.frontends.acme.problems import AcmeProblem
from acmems.frontends.acme.requests import PlainRequest
from acmems.issuers.acme.certificates.renewal_info import certificate_id
from acmems.issuing.renewal.due import Window, by_lifetime
from acmems.issuing.renewal.plan import window_of
from acmems.issuing.running import stopping
from acmems.net.http import Exchange
from acmems.state.chains import ChainRecord
from acmems.state.chains.renewals import RenewalRecord
from acmems.system.steps import OWNER, Steps

RETRY_AFTER = 6 * 3600
"""Seconds after which clients should ask again: a certificate may have to be replaced early."""
_NAME = re.compile(r"([A-Za-z0-9_-]{1,100})\.([A-Za-z0-9_-]{1,40})", re.ASCII)
_SHARE = 3  # the part of the time from when renewal is due to the end, in which it is to happen
_HOUR = datetime.timedelta(hours=1)


class RenewalInfoResource:
    """Tells when certificates are to be renewed.

    Args:
        parts: what it works with.
        client_of: returns whose share of the threads a request takes.
    """

    def __init__(self, parts: OrderParts, client_of: Callable[[Exchange], str]) -> None:
        self._parts = parts
        self._client_of = client_of

    def __call__(self, request: PlainRequest, exchange: Exchange) -> Future[AcmeAnswer]:
        """Return the window in which a certificate is to be renewed.

        Raises:
            AcmeProblem: no certificate can be called so.
            CAUnavailable: the server is stopping.
        """
        serial, client = _serial(request.parameters[0]), self._client_of(exchange)
        try:
            return self._parts.loop.submit(self._answer(request.parameters[0], serial, client))
        except RuntimeError:  # the loop is closed
            raise stopping() from None

    def _answer(self, name: str, serial: int, client: str) -> Steps[AcmeAnswer]:
        OWNER.set(("renewal-info", client))
        parts = self._parts

        def look() -> tuple[ChainRecord, RenewalRecord | None] | None:
            for chain in parts.chains.with_serial(serial):
                if certificate_id(chain.pem) == name:
                    return chain, parts.plans.of(chain.fingerprint)
            return None

        found = yield from parts.threads.call(look)
        if found is None:
            raise AcmeProblem("malformed", "no such certificate was issued here", status=404)
        chain, plan = found
        window = suggested_window(chain, plan, parts.clock.now())
        document: dict[str, object] = {
            "suggestedWindow": {
                "start": time_text(int(window.start.timestamp())),
                "end": time_text(int(window.end.timestamp())),
            }
        }
        if plan is not None and plan.explanation:
            document["explanationURL"] = plan.explanation
        return AcmeAnswer(200, document, {"Retry-After": str(RETRY_AFTER)})


def suggested_window(chain: ChainRecord, plan: RenewalRecord | None, now: datetime.datetime) -> Window:
    """Return when a client should renew a certificate.

    That is the window of the CA outside, where it has told one, and else a part of the time from when its
    renewal is due. A certificate that is revoked, or being revoked, is to be replaced at once.

    Args:
        chain: the certificate.
        plan: when it is to be renewed, None where nothing is planned.
        now: the time (aware).
    """
    if chain.reason is not None:
        return Window(now - 2 * _HOUR, now - _HOUR)
    told = None if plan is None else window_of(plan)
    if told is not None:
        return told
    due = by_lifetime(chain.not_before, chain.not_after, 1.0) if plan is None else plan.due
    due = min(due, chain.not_after - datetime.timedelta(seconds=2))
    return Window(due, due + (chain.not_after - due) / _SHARE)


def _serial(name: str) -> int:
    """Return the serial number in what a certificate is called (RFC 9773 section 4.1).

    Raises:
        AcmeProblem: it is no such name.
    """
    match = _NAME.fullmatch(name)
    try:
        octets = b"" if match is None else base64.urlsafe_b64decode(match[2] + "=" * (-len(match[2]) % 4))
    except binascii.Error:
        octets = b""
    if not octets:
        words = (
            "a certificate is called by its authority key identifier and serial number (RFC 9773 section 4.1)"
        )
        raise AcmeProblem("malformed", words, status=404)
    return int.from_bytes(octets, "big")
