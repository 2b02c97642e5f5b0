"""What a CA says of when a certificate should be renewed (ACME Renewal Information, RFC 9773)."""

from __future__ import annotations

import base64
import datetime
from dataclasses import dataclass

from cryptography import x509

from acmems.exceptions import CAProtocolError
from acmems.issuers.acme.session import Response, Session
from acmems.system.clock import Deadline
from acmems.system.steps import Steps
from acmems.text import one_line
from acmems.x509 import der
from acmems.x509.chain import leaf_of

RENEWAL_INFO = "renewalInfo"
"""What the CA's directory calls it."""

_LARGEST = 64 * 1024  # bytes of a response
_LONGEST_PAUSE = 86400.0  # seconds


@dataclass(frozen=True, slots=True)
class RenewalInfo:
    """What a CA says about one certificate: make it with `parse` or `fetch`.

    Args:
        start: when renewal may begin (aware).
        end: until when it should have happened (aware).
        explanation: the URL of a page that says why, empty where there is none.
        retry_after: seconds after which the CA wants to be asked again, None where it does not say.
    """

    start: datetime.datetime
    end: datetime.datetime
    explanation: str = ""
    retry_after: float | None = None

    @property
    def said(self) -> tuple[int, int, str | None]:
        """What is compared with an earlier answer: the window in seconds since 1970, and the URL, if any."""
        return int(self.start.timestamp()), int(self.end.timestamp()), self.explanation or None


def certificate_id(chain: bytes) -> str | None:
    """Return what names a certificate at its CA (RFC 9773 section 4.1), None if nothing can.

    Args:
        chain: certificates in PEM, leaf first.

    Raises:
        ValueError: it is no chain.
    """
    leaf = leaf_of(chain)
    with der.reading("the certificate chain", ValueError):
        try:
            authority = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        except x509.ExtensionNotFound:
            return None
    if authority.key_identifier is None:
        return None
    # The contents of the INTEGER in DER: a leading zero octet keeps the number positive.
    serial = leaf.serial_number.to_bytes(leaf.serial_number.bit_length() // 8 + 1, "big")
    return f"{_base64url(authority.key_identifier)}.{_base64url(serial)}"


def serial_of(certificate: str) -> int | None:
    """Return the serial number in what names a certificate at its CA, None where it cannot be read."""
    _, _, serial = certificate.partition(".")
    try:
        octets = base64.b64decode(serial + "=" * (-len(serial) % 4), b"-_", validate=True)
    except ValueError:
        return None
    return int.from_bytes(octets, "big") or None


def fetch(
    session: Session, identifier: str, deadline: Deadline, now: datetime.datetime
) -> Steps[RenewalInfo | None]:
    """Ask the CA about a certificate; None where the CA offers no such information.

    Args:
        session: the way to the CA.
        identifier: as `certificate_id` returns it.
        deadline: when to give up.
        now: the time (aware), which a `Retry-After` date is compared with.

    Raises:
        CAProblem: the CA knows no such certificate, or refuses.
        CAProtocolError: its answer is nonsense.
        CAUnavailable, RateLimited, DeadlinePassed: not now.
    """
    directory = yield from session.directory(deadline)
    if RENEWAL_INFO not in directory:
        return None
    url = f"{directory[RENEWAL_INFO].rstrip('/')}/{identifier}"
    response = yield from session.get(url, deadline=deadline, max_size=_LARGEST)
    return parse(response, now)


def parse(response: Response, now: datetime.datetime) -> RenewalInfo:
    """Read a CA's answer (section 4.2).

    Args:
        response: the response.
        now: the time (aware), which a `Retry-After` date is compared with.

    Raises:
        CAProtocolError: it has no window, or one that ends before it begins.
    """
    document = response.json()
    window = document.get("suggestedWindow")
    times = [_time(window.get(name)) for name in ("start", "end")] if isinstance(window, dict) else [None]
    start, end = times[0], times[-1]
    if start is None or end is None or end <= start:
        raise CAProtocolError("the CA's renewal information has no window that can be used")
    explanation = document.get("explanationURL")
    return RenewalInfo(
        start,
        end,
        one_line(explanation) if isinstance(explanation, str) else "",
        response.retry_after(now, longest=_LONGEST_PAUSE),
    )


def _time(value: object) -> datetime.datetime | None:
    """Return a time of RFC 3339 in UTC, None where it is none, or there is none such in UTC."""
    try:
        time = datetime.datetime.fromisoformat(value.upper()) if isinstance(value, str) else None
        return None if time is None or time.tzinfo is None else time.astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        return None


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")
