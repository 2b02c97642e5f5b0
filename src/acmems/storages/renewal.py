"""When a stored chain is to be replaced, as a section says."""

from __future__ import annotations

import datetime

from acmems.settings import values
from acmems.settings.options import Options


def renew_within(options: Options) -> datetime.timedelta | None:
    """Return how long before its end a chain is to be replaced, None for the share of its lifetime."""
    return options.one(
        "renew-within",
        values.days,
        None,
        meaning="how many days before it expires a certificate is replaced; at most, and without this "
        "key, a third of its lifetime (half for lifetimes under ten days)",
    )
