"""What CAs say of their limits, in the words that they have really used."""

from __future__ import annotations

import datetime
from datetime import timedelta

import pytest

from acmems.exceptions import CAProblem, RateLimited
from acmems.issuers.acme.orders.statements import names_paused, stated_limit

NOW = datetime.datetime(2026, 11, 26, 12, 0, tzinfo=datetime.UTC)
DAY, HOUR, WEEK = timedelta(days=1), timedelta(hours=1), timedelta(days=7)
DOCS = "see https://letsencrypt.org/docs/rate-limits/"
Stated = tuple[str, str, int | None, timedelta | None, datetime.datetime | None]


def at(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC)


SAID: list[tuple[str, Stated]] = [
    # Let's Encrypt, from 2024 on.
    (
        (
            'too many certificates (50) already issued for "example.com" in the last 168h0m0s, retry after '
            f"2026-11-29 04:27:29 UTC: {DOCS}#new-certificates-per-registered-domain"
        ),
        ("certificates-per-domain", "example.com", 50, WEEK, at("2026-11-29 04:27:29")),
    ),
    (
        (
            "too many certificates (5) already issued for this exact set of identifiers in the last "
            "168h0m0s, "
            f"retry after 2026-11-27 09:13:16 UTC: {DOCS}#new-certificates-per-exact-set-of-identifiers"
        ),
        ("certificates-per-names", "", 5, WEEK, at("2026-11-27 09:13:16")),
    ),
    (
        (
            "too many new orders (300) from this account in the last 3h0m0s, retry after 2026-11-26 "
            "12:00:36 UTC: "
            f"{DOCS}#new-orders-per-account"
        ),
        ("orders", "", 300, 3 * HOUR, at("2026-11-26 12:00:36")),
    ),
    (
        (
            'too many failed authorizations (5) for "www.example.net" in the last 1h0m0s, retry '
            "after 2026-11-26 "
            f"12:12:45 UTC: {DOCS}#authorization-failures-per-identifier-per-account"
        ),
        ("failures-per-name", "www.example.net", 5, HOUR, at("2026-11-26 12:12:45")),
    ),
    # Boulder of 2015 to 2024, which others have run since.
    (
        (
            f"Error creating new order :: too many certificates (5) already issued for this exact "
            f"set of domains in "
            f"the last 168 hours: *.example.cc,example.cc, retry after 2026-11-26T20:39:07Z: {DOCS}"
        ),
        ("certificates-per-names", "", 5, WEEK, at("2026-11-26 20:39:07")),
    ),
    (
        (
            f'Error creating new order :: too many certificates already issued for "sslip.io". Retry after '
            f"2026-11-26T21:00:00Z: {DOCS}"
        ),
        ("certificates-per-domain", "sslip.io", None, None, at("2026-11-26 21:00:00")),
    ),
    (
        (
            f"Error creating new order :: too many certificates already issued. Retry after "
            f"2026-11-27T03:00:00Z: {DOCS}"
        ),
        ("certificates-per-domain", "", None, None, at("2026-11-27 03:00:00")),
    ),
    (
        (
            f"Error creating new cert :: too many certificates already issued for exact set of domains: "
            f"www.example.com.br: {DOCS}"
        ),
        ("certificates-per-names", "", None, None, None),
    ),
    (
        "Error creating new cert :: Too many certificates already issued for: example.co.uk",
        ("certificates-per-domain", "example.co.uk", None, None, None),
    ),
    (
        f"Error creating new order :: too many failed authorizations recently: {DOCS}",
        ("failures-per-name", "", None, None, None),
    ),
    (
        f"Error creating new order :: too many new orders recently: {DOCS}",
        ("orders", "", None, None, None),
    ),
    # Google
    (
        (
            "'default@gcp.api.pki.goog' is over quota (100 requests in 3600 seconds) for the given "
            "ACME resource: "
            "newOrder. Try again in 52.5s."
        ),
        ("orders", "", 100, HOUR, NOW + timedelta(seconds=52.5)),
    ),
]
NOT_SAID = [
    "Service busy; retry later.",
    "HTTP status 429 Too Many Requests from https://acme.zerossl.com/v2/DV90/newOrder",
    "Rate limit exceeded",
    (
        "too many new registrations (10) from this IP address in the last 3h0m0s, retry after "
        "2026-11-26 15:00:00 UTC"
    ),
    (
        "'default@gcp.api.pki.goog' is over quota (30 requests in 60 seconds) for the given ACME "
        "resource: challenge. "
        "Try again in 12.476542291s."
    ),
    "",
]


@pytest.mark.parametrize(("words", "stated"), SAID, ids=[words[:60] for words, _ in SAID])
def test_words_that_are_known(words: str, stated: Stated) -> None:
    """Which limit, what it is counted for, how much of it there is, in which time, and until when."""
    found = stated_limit(RateLimited(words), NOW)
    assert found is not None
    assert (found.counts, found.subject, found.count, found.period, found.until) == stated
    assert found.words == words


@pytest.mark.parametrize("words", NOT_SAID)
def test_words_that_are_not(words: str) -> None:
    """They mean nothing but to wait."""
    assert stated_limit(RateLimited(words, retry_after=60), NOW) is None


def test_retry_after_where_the_words_have_no_time() -> None:
    """It is all there is."""
    found = stated_limit(RateLimited("too many new orders recently", retry_after=90), NOW)
    assert found is not None
    assert found.until == NOW + timedelta(seconds=90)


def test_the_words_count_before_retry_after() -> None:
    """No `Retry-After` is believed that is longer than an hour, but a time in the words is."""
    words = (
        'too many certificates (50) already issued for "example.com" in the last '
        "168h0m0s, retry after 2026-11-29 04:27:29 UTC"
    )
    found = stated_limit(RateLimited(words, retry_after=3600), NOW)
    assert found is not None
    assert found.until == at("2026-11-29 04:27:29")


@pytest.mark.parametrize(
    ("said", "until"),
    [
        ("2020-01-01 00:00:00 UTC", NOW),
        ("9999-12-31 23:59:59 UTC", NOW + timedelta(days=400)),
        ("2026-13-41 00:00:00 UTC", None),
        ("2026-11-27 00:00:00 CET", None),
    ],
)
def test_absurd_times(said: str, until: datetime.datetime | None) -> None:
    """One that is over, or that is no time, holds nobody up for ever."""
    found = stated_limit(RateLimited(f"too many new orders recently, retry after {said}"), NOW)
    assert found is not None
    assert found.until == until


@pytest.mark.parametrize(
    "rate",
    ["(0) in the last 3h0m0s", "(300) in the last 0s", "(300) in the last 99999h", "(300) in the last x"],
)
def test_absurd_rates(rate: str) -> None:
    """They are none."""
    found = stated_limit(RateLimited(f"too many new orders {rate}"), NOW)
    assert found is not None
    assert (found.count, found.period) == (None, None)


def test_a_domain_beside_the_words() -> None:
    """A CA may name it as the identifier of a subproblem (RFC 8555 section 6.7.1)."""
    limited = RateLimited("too many certificates already issued", identifiers=["Example.com."])
    found = stated_limit(limited, NOW)
    assert found is not None
    assert found.subject == "example.com"


def test_what_stands_before_the_ca() -> None:
    """It knows no certificates, whatever it says."""
    assert stated_limit(RateLimited("too many new orders", is_overall=True), NOW) is None


PAGE = "https://portal.letsencrypt.org/sfe/v1/unpause?jwt=abc.def.ghi"


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (
            (
                "Your account is temporarily prevented from requesting certificates for "
                "a.example.org and possibly "
                f"others. Please visit: {PAGE}"
            ),
            ("a.example.org",),
        ),
        (
            (
                "Your account is temporarily prevented from requesting certificates for a.example.org, "
                f"B.example.org and possibly others. Please visit: {PAGE}"
            ),
            ("a.example.org", "b.example.org"),
        ),
        (
            (
                "Your account is temporarily prevented from requesting certificates for 192.0.2.1. "
                "These identifiers "
                f"failed too often. Please visit {PAGE}"
            ),
            ("192.0.2.1",),
        ),
    ],
)
def test_names_that_are_paused(words: str, names: tuple[str, ...]) -> None:
    """Whatever the type of the problem, it is told which names, and where a person can end it."""
    for refusal in (RateLimited(words), CAProblem(403, CAProblem.PREFIX + "unauthorized", words)):
        found = names_paused(refusal)
        assert found is not None
        assert (found.names, found.visit) == (names, PAGE)


def test_names_that_are_paused_in_other_words() -> None:
    """Whatever the CA says around it: its page is for the operator, so that no client may read the words."""
    found = names_paused(RateLimited(f"Issuance for your identifiers is on hold, see {PAGE}"))
    assert found is not None
    assert (found.names, found.visit) == ((), PAGE)
    assert "jwt" not in str(found)


@pytest.mark.parametrize(
    "words",
    [
        "Your account is deactivated",
        "Your account is temporarily prevented from requesting certificates for a.example.org.",
        "too many new orders. Please visit: https://letsencrypt.org/docs/rate-limits/",
        *NOT_SAID,
    ],
)
def test_names_that_are_not(words: str) -> None:
    """Anything else is another refusal."""
    assert names_paused(RateLimited(words)) is None
