"""Whether a certificate that a front end shows is at its end."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from acmems.net.tls import TlsMaterial

_SHARE = 6  # of the lifetime: when so much is left, whoever renews it has not done so


@dataclass(frozen=True, slots=True)
class Expiry:
    """A certificate that is at its end, or not what it should be.

    Args:
        words: what is wrong, for anybody.
        is_over: whether clients do not accept it any more.
    """

    words: str
    is_over: bool


def expiry_of(section: str, material: TlsMaterial, now: datetime.datetime) -> Expiry | None:
    """Return what is wrong with a certificate that is shown, None if nothing is.

    Args:
        section: the kind of the section that it is for.
        material: the certificate.
        now: the time (aware).
    """
    until = f"{material.not_after:%Y-%m-%d %H:%M} UTC"
    if now > material.not_after:
        return Expiry(f"the certificate that [{section}] shows has expired at {until}", is_over=True)
    if material.is_self_signed:
        return None  # no CA has issued it: a stand-in, which the log tells of, or what somebody wants
    if now > material.not_after - (material.not_after - material.not_before) / _SHARE:
        return Expiry(f"the certificate that [{section}] shows expires at {until}", is_over=False)
    return None
