"""Revoking certificates (RFC 8555 section 7.6)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Final

from acmems.exceptions import CAProblem, CAProtocolError
from acmems.issuers.acme.session import Session
from acmems.system.clock import Deadline
from acmems.system.steps import Steps

UNSPECIFIED = "unspecified"
REASONS: Final[Mapping[str, int]] = {
    UNSPECIFIED: 0,
    "keyCompromise": 1,
    "affiliationChanged": 3,
    "superseded": 4,
    "cessationOfOperation": 5,
}
"""The reasons that whoever has a certificate may give, and their codes (RFC 5280 section 5.3.1)."""


def revoke(session: Session, certificate: bytes, reason: str, deadline: Deadline) -> Steps[bool]:
    """Revoke a certificate, and tell whether it was not revoked before.

    Args:
        session: the way to the CA, by the account that ordered it.
        certificate: the certificate in DER.
        reason: one of `REASONS`.
        deadline: when to give up.

    Raises:
        CAProblem: the CA refuses.
        CAError, RateLimited, DeadlinePassed: the CA did not answer usably.
    """
    directory = yield from session.directory(deadline)
    if "revokeCert" not in directory:
        raise CAProtocolError(
            f"this CA takes no revocations by ACME: {session.directory_url} has no revokeCert; ask it how "
            f"certificates are revoked"
        )
    payload: dict[str, object] = {
        "certificate": base64.urlsafe_b64encode(certificate).rstrip(b"=").decode("ascii")
    }
    if reason != UNSPECIFIED:  # which is not to be written down (RFC 5280 section 5.3.1)
        payload["reason"] = REASONS[reason]
    try:
        # Repeating it does no harm: the second answer is that it is revoked already.
        yield from session.post(directory["revokeCert"], payload, deadline=deadline)
    except CAProblem as problem:
        if problem.code != "alreadyRevoked":
            raise
        return False
    return True
