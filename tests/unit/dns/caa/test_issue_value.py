"""The values of `issue` and `issuewild`: the grammar of RFC 8659 section 4.2, the parameters of RFC 8657."""

from __future__ import annotations

import pytest

from acmems.dns.caa.issue_value import IssueValue

NOBODY = IssueValue()
URL = "https://example.net/account/1234"


@pytest.mark.parametrize(
    ("text", "issuer", "parameters"),
    [
        ("ca1.example.net", "ca1.example.net", {}),
        ("CA1.Example.Net", "ca1.example.net", {}),
        ("  ca1.example.net\t", "ca1.example.net", {}),
        ("ca1.example.net;", "ca1.example.net", {}),
        ("ca1.example.net ; ", "ca1.example.net", {}),
        ("ca1.example.net; account=230123", "ca1.example.net", {"account": "230123"}),
        (
            "ca1.example.net;account = 230123 ;policy=ev",
            "ca1.example.net",
            {"account": "230123", "policy": "ev"},
        ),
        (f"example.net; accounturi={URL}", "example.net", {"accounturi": URL}),
        ("example.net; AccountURI=x", "example.net", {"accounturi": "x"}),
        ("example.net; a=", "example.net", {"a": ""}),
        ("example.net; a=b=c:d", "example.net", {"a": "b=c:d"}),
        ("ca-1--2.example", "ca-1--2.example", {}),
        ("", "", {}),
        (";", "", {}),
        (" ; account=230123", "", {"account": "230123"}),
    ],
)
def test_what_follows_the_grammar(text: str, issuer: str, parameters: dict[str, str]) -> None:
    """Blanks around parts do not matter, nor does the case of the CA and of tags; the case of values does."""
    assert IssueValue.parse(text) == IssueValue(issuer, parameters)


@pytest.mark.parametrize(
    "text",
    [
        "%%%%%",
        "ca1.example.net.",
        ".example.net",
        "ca1..example.net",
        "-ca.example.net",
        "ca-.example.net",
        "ca_1.example.net",
        "ca1.example.net ca2.example.net",
        "ca1.example.net,ca2.example.net",
        "ca1.example.net; account",
        "ca1.example.net; =230123",
        "ca1.example.net; account=23 0123",
        "ca1.example.net; account=1; ",
        "ca1.example.net;; account=1",
        "ca1.example.net; -a=1",
        "ca1.example.net; a-=1",
        "ca1.example.net; a=\xe9",
        "c\xe41.example.net",
        "ca1.example.net\n",
        "ca1.example.net; a=1\n",
    ],
)
def test_what_does_not_authorises_nobody(text: str) -> None:
    """A malformed value counts as one without a CA."""
    assert IssueValue.parse(text) == NOBODY


@pytest.mark.parametrize(
    ("parameters", "account_url", "methods"),
    [
        ("", None, None),
        ("; accounturi=a", "a", None),
        ("; validationmethods=dns-01", None, {"dns-01"}),
        ("; validationmethods=dns-01,ca-x", None, {"dns-01", "ca-x"}),
        ("; validationmethods=", None, set()),
        ("; validationmethods=dns-01,,http-01", None, set()),
        ("; validationmethods=dns_01", None, set()),
        ("; accounturi=a; validationmethods=http-01", "a", {"http-01"}),
    ],
)
def test_what_restricts(parameters: str, account_url: str | None, methods: set[str] | None) -> None:
    """A property may be for an account, or for some types of challenge; for none where the list is broken."""
    found = IssueValue.parse(f"example.net{parameters}")
    assert (found.account_url, found.methods) == (account_url, methods)
    assert not found.is_contradictory


@pytest.mark.parametrize(
    ("parameters", "is_contradictory"),
    [
        ("accounturi=a; accounturi=b", True),
        ("accounturi=a; ACCOUNTURI=a", True),
        ("validationmethods=dns-01; validationmethods=http-01", True),
        ("account=1; account=2", False),
    ],
)
def test_what_restricts_twice(parameters: str, is_contradictory: bool) -> None:
    """Nobody can satisfy a property that names two accounts, or two lists."""
    assert IssueValue.parse(f"example.net; {parameters}").is_contradictory is is_contradictory
