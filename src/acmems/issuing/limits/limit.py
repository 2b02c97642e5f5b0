"""Limits as data: what a CA counts, and how much of it an account may have."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from acmems.issuing.limits.gcra import Rate

_MINUTE = 60_000
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR


class Counted(enum.StrEnum):
    """What CAs count, by the words of `counts` in `[limit]`."""

    ORDERS = "orders"
    """New orders of the account."""
    DOMAIN = "certificates-per-domain"
    """Certificates with names below one registered domain."""
    NAMES = "certificates-per-names"
    """Certificates for exactly one set of names."""
    FAILURES = "failures-per-name"
    """Failed validations of one name."""


LimitSource = Literal["configured", "published", "learnt"]
"""How a limit is known: by a `[limit]` section, by what its CA publishes, or by what the CA has answered."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of a CA.

    Args:
        name: what operators and clients read.
        counts: what it counts.
        rate: how much of that, in milliseconds.
        exempts_renewals: whether a certificate for names that had one lately does not count.
        source: how it is known.
    """

    name: str
    counts: Counted
    rate: Rate
    exempts_renewals: bool = False
    source: LimitSource = "configured"


NAMES: Final[Mapping[Counted, str]] = {
    Counted.ORDERS: "new orders per account",
    Counted.DOMAIN: "certificates per registered domain",
    Counted.NAMES: "certificates per exact set of names",
    Counted.FAILURES: "failed validations per name",
}
"""What limits are called that nobody has named."""


def _published(counts: Counted, count: int, period: int, *, exempts_renewals: bool = False) -> Limit:
    return Limit(NAMES[counts], counts, Rate(count, period), exempts_renewals, "published")


LETSENCRYPT: Final = (
    _published(Counted.ORDERS, 300, 3 * _HOUR, exempts_renewals=True),
    _published(Counted.DOMAIN, 50, 7 * _DAY, exempts_renewals=True),
    _published(Counted.NAMES, 5, 7 * _DAY),
    _published(Counted.FAILURES, 5, _HOUR),
)
"""Those of Let's Encrypt (November 2026). A renewal that names its predecessor, inside its ARI window, counts
for none of them."""

BY_DIRECTORY: Final[Mapping[str, tuple[Limit, ...]]] = {
    "https://acme-v02.api.letsencrypt.org/directory": LETSENCRYPT,
}
"""The limits of CAs by the URLs of their directories. Those of Let's Encrypt's staging environment are high
enough not to be counted."""

BY_NAME: Final[Mapping[str, tuple[Limit, ...]]] = {"letsencrypt": LETSENCRYPT, "none": ()}
"""What `limits` in `[account]` may name."""
