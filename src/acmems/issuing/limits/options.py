"""The keys of `[limit "NAME"]`, and which limits an account has."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Final

from acmems.issuing.limits.gcra import Rate
from acmems.issuing.limits.limit import BY_DIRECTORY, BY_NAME, Counted, Limit
from acmems.settings import values
from acmems.settings.findings import hint
from acmems.settings.options import Options

_MILLISECOND: Final = datetime.timedelta(milliseconds=1)


def read_limit(name: str, options: Options) -> Limit | None:
    """Read the limit that a section describes; what is wrong becomes findings, and the limit None.

    Args:
        name: the section's name, which clients and operators read.
        options: its keys.
    """
    count = options.required("count", values.positive_int, meaning="how many are allowed in a period")
    period = options.required("per", values.period, meaning="the period, such as `3h` or `7d`")
    counts = options.required(
        "counts",
        values.choice(*Counted),
        meaning="what is counted: `orders` of the account, `certificates-per-domain` (registered domain), "
        "`certificates-per-names` (exact set of names) or `failures-per-name` (failed validations)",
    )
    if count is None or period is None or counts is None:
        return None
    if count > period / _MILLISECOND:
        options.report(f"count: {count} in {period} are more than one each millisecond", "count")
        return None
    return Limit(name, Counted(counts), Rate(count, period // _MILLISECOND))


def limits_of(
    wanted: Sequence[str], directory: str, sections: Mapping[str, Limit | None], options: Options
) -> tuple[Limit, ...]:
    """Return the limits that an account has; a name that means nothing becomes a finding.

    Args:
        wanted: the values of `limits` in the account's section; none: those that are known of its CA.
        directory: the URL of the CA's directory.
        sections: the limits that `[limit]` sections describe, by name; None for those that have mistakes.
        options: the account's section.
    """
    if not wanted:
        return BY_DIRECTORY.get(directory, ())
    found: list[Limit] = []
    for name in wanted:
        if (limit := sections.get(name)) is not None:
            found.append(limit)
        elif name in sections:
            continue  # it has mistakes, which are findings already
        elif name in BY_NAME:
            found += BY_NAME[name]
        else:
            options.report(
                f'limits: there is no [limit "{name}"]{hint(name, {**sections, **BY_NAME})}', "limits"
            )
    return tuple(dict.fromkeys(found))
