"""When a stored chain is to be replaced, as a section says."""

from __future__ import annotations

import datetime

from acmems.settings import values
from acmems.settings.options import Options


def renews_ahead(options: Options, *, default: bool) -> bool:
    """Return whether chains that are due are renewed before their clients ask."""
    usual = "ahead" if default else "asked"
    found = options.one(
        "renew",
        values.choice("ahead", "asked"),
        usual,
        meaning="`ahead`: a certificate that is due is renewed before a client asks, if one has in the last "
        "lifetime; `asked`: when a client asks",
    )
    return found == "ahead"


def renew_within(options: Options) -> datetime.timedelta | None:
    """Return how long before its end a chain is to be replaced, None for the share of its lifetime."""
    return options.one(
        "renew-within",
        values.days,
        None,
        meaning="how many days before it expires a certificate is replaced; at most, and without this "
        "key, a third of its lifetime (half for lifetimes under ten days)",
    )
