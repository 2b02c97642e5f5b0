"""What CAs say of their limits where they refuse an order, read from their words.

RFC 8555 has a type for it (`rateLimited`), which says neither which limit it is nor how much of it there is:
only the words do. Those of Let's Encrypt and of Google are known; whatever else a CA says means nothing here.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from acmems.exceptions import CAProblem, NamesPaused, RateLimited

StatedCount = Literal["orders", "certificates-per-domain", "certificates-per-names", "failures-per-name"]
"""What a limit counts, by the words of `counts` in `[limit]`."""

_MOST_COUNT: Final = 10**9
_LONGEST: Final = datetime.timedelta(days=400)  # that a period or a wait may have
_SECONDS: Final[Mapping[str, int]] = {"h": 3600, "m": 60, "s": 1, "hours": 3600, "days": 86400}

# In the order in which they are tried. Boulder's, since 2015 (its texts have changed often), then Google's.
_COUNTS: Final[tuple[tuple[re.Pattern[str], StatedCount, bool], ...]] = (
    (re.compile(r"\btoo many new orders\b", re.IGNORECASE), "orders", True),
    (
        re.compile(
            r'\btoo many failed authorizations\b(?: \(\d+\) for "(?P<subject>[^"\s]+)")?', re.IGNORECASE
        ),
        "failures-per-name",
        False,
    ),
    (
        re.compile(
            r"\btoo many certificates (?:\(\d+\) )?already issued for (?:this )?exact set of\b", re.IGNORECASE
        ),
        "certificates-per-names",
        False,
    ),
    (
        re.compile(
            r"\btoo many certificates (?:\(\d+\) )?already issued\b"
            r'(?: for:? "?(?P<subject>[a-z0-9_*.:-]*[a-z0-9]))?',
            re.IGNORECASE,
        ),
        "certificates-per-domain",
        True,
    ),
    (
        re.compile(r"\bis over quota \([^()]*\) for the given ACME resource: new-?order\b", re.IGNORECASE),
        "orders",
        False,
    ),
)
_COUNT: Final = re.compile(r"\btoo many [a-z ]{1,40}\((\d{1,10})\)", re.IGNORECASE)
_PERIOD: Final = re.compile(
    r"\bin the last (?:(\d{1,6}) (hours|days)\b|((?:\d{1,6}[hms]){1,3})(?![0-9a-z]))", re.IGNORECASE
)
_UNTIL: Final = re.compile(
    r"\bretry after (\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.\d{1,9})?(?:Z| UTC\b)", re.IGNORECASE
)
_QUOTA: Final = re.compile(r"\bover quota \((\d{1,10}) requests in (\d{1,8}) seconds\)", re.IGNORECASE)
_AGAIN_IN: Final = re.compile(r"\btry again in (\d{1,8}(?:\.\d{1,12})?)s\b", re.IGNORECASE)
_PAUSED: Final = re.compile(
    r"\bprevented from requesting certificates for (?P<names>[^\s,]+(?:, [^\s,]+)*?)"
    r"(?: and possibly others)?\. .*?\bPlease visit:? (?P<visit>https://\S+)",
    re.IGNORECASE,
)
_UNPAUSING: Final = re.compile(r"https://\S+/unpause\S*")  # whatever stands around it


@dataclass(frozen=True, slots=True)
class StatedLimit:
    """A limit that an order was refused for.

    Args:
        counts: what it counts.
        subject: the registered domain or the name that it is counted for; empty where the CA does not say,
            and where it is the account or the names of the order.
        count: how many there may be, None where the CA does not say.
        period: in which time, None where the CA does not say.
        until: when the CA takes such an order again (aware), None where it does not say.
        words: the CA's.
        exempts_renewals: whether a certificate for names that had one lately does not count, as software is
            known to do it that uses such words.
    """

    counts: StatedCount
    subject: str
    count: int | None
    period: datetime.timedelta | None
    until: datetime.datetime | None
    words: str
    exempts_renewals: bool = False


def stated_limit(limited: RateLimited, now: datetime.datetime) -> StatedLimit | None:
    """Return the limit that a CA has refused an order for, None where its words are not known.

    Args:
        limited: its answer.
        now: the time (aware).
    """
    words = str(limited)
    for pattern, counts, exempts_renewals in _COUNTS:
        if limited.is_overall or (match := pattern.search(words)) is None:
            continue
        subject = (match.groupdict().get("subject") or "").lower()
        if not subject and counts == "certificates-per-domain" and len(limited.identifiers) == 1:
            subject = limited.identifiers[0].lower().rstrip(".")
        count, period = _rate(words)
        until = _until(words, limited.retry_after, now)
        return StatedLimit(counts, subject, count, period, until, words, exempts_renewals)
    return None


def names_paused(refusal: RateLimited | CAProblem) -> NamesPaused | None:
    """Return what a CA means that takes no orders of the account for some names; None: another thing.

    Boulder says `rateLimited`, but it is the words that tell. Where only the URL
    of the page is known from them, no name is told: clients must not read that.

    Args:
        refusal: its answer to a new order.
    """
    words = str(refusal)
    if (match := _PAUSED.search(words)) is not None:
        return NamesPaused(match["names"].lower().split(", "), match["visit"])
    page = _UNPAUSING.search(words)
    return None if page is None else NamesPaused((), page[0])


def _rate(words: str) -> tuple[int | None, datetime.timedelta | None]:
    """Return how much there may be, and in which time; both or nothing."""
    if (quota := _QUOTA.search(words)) is not None:
        count, period = int(quota[1]), datetime.timedelta(seconds=int(quota[2]))
    else:
        stated, lasting = _COUNT.search(words), _PERIOD.search(words)
        if stated is None or lasting is None:
            return None, None
        count, period = int(stated[1]), _duration(lasting)
    if not (0 < count <= _MOST_COUNT and datetime.timedelta() < period <= _LONGEST):
        return None, None
    return count, period


def _duration(match: re.Match[str]) -> datetime.timedelta:
    """Return the time that "168 hours" or "168h0m0s" stands for."""
    if match[1] is not None:
        return datetime.timedelta(seconds=int(match[1]) * _SECONDS[match[2].lower()])
    parts = re.findall(r"(\d+)([hms])", match[3].lower())
    return datetime.timedelta(seconds=sum(int(number) * _SECONDS[unit] for number, unit in parts))


def _until(words: str, retry_after: float | None, now: datetime.datetime) -> datetime.datetime | None:
    """Return when to ask again: the words may tell a time that is later than what `Retry-After` is cut to."""
    until = None if retry_after is None else now + datetime.timedelta(seconds=retry_after)
    if (match := _UNTIL.search(words)) is not None:
        try:
            until = datetime.datetime.fromisoformat(f"{match[1]}T{match[2]}+00:00")
        except ValueError:
            return until
    elif (again := _AGAIN_IN.search(words)) is not None:
        until = now + datetime.timedelta(seconds=float(again[1]))
    return None if until is None else min(max(until, now), now + _LONGEST)
