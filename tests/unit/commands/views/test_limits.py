"""`acmems limits`."""

from __future__ import annotations

import pytest
from tests.viewing import StateToLookAt

from acmems.commands.views.documents import rfc3339

SUBJECT = 'block:["web", ["www.example.org"], "limit", "https://ca"]'
WORDS = "too many certificates already issued"


def test_nothing(state: StateToLookAt) -> None:
    """That is said, and no failure."""
    assert state.run("limits") == (0, [], "")
    assert state.document("limits") == (0, {"pauses": [], "refusals": []})


def test_nothing_at_a_terminal(state: StateToLookAt, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person reads it in words."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert state.run("limits")[1] == [
        "Nothing is paused: all that is granted is ordered.",
        "",
        "Nothing was refused because of a rate limit in the last 7 days.",
    ]


def test_a_pause(state: StateToLookAt) -> None:
    """What is not ordered, until when, why, and who caused it."""
    state.pause(SUBJECT, WORDS)
    state.happen(1, "refused", 9, client="192.0.2.9", block="web", names=("www.example.org",), reason="no")
    state.happen(2, "refused", 5, client="192.0.2.8", block="mail", names=("www.example.org",), reason="no")
    code, document = state.document("limits")
    assert (code, document["refusals"]) == (0, [])
    (pause,) = document["pauses"]
    until = pause.pop("until")
    assert until == rfc3339(state.now.fromtimestamp(state.now.timestamp() + 1800, state.now.tzinfo))
    assert pause == {
        "subject": "block",
        "paused": "www.example.org of this block",
        "names": ["www.example.org"],
        "limited": True,
        "failures": 2,
        "reason": WORDS,
        "block": "web",
        "client": "192.0.2.9",
    }


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        ('name:["a.example.org", "https://ca"]', "a.example.org"),
        ('names:[["a.example.org", "b.example.org"], "https://ca"]', "exactly a.example.org, b.example.org"),
        (
            'verification:["a.example.org", ["dns", "http"], "https://ca"]',
            "a.example.org by verification http",
        ),
        ('domain:["example.org", "https://ca"]', "example.org and all below it"),
        ('everything:["https://ca"]', "everything"),
        ('csr:["0123", "https://ca"]', "one CSR"),
        ("csr:0123456789abcdef", "csr:0123456789abcdef"),
        ('name:"x"', 'name:"x"'),
        ("verification:[1, 2]", "verification:[1, 2]"),
        ("something\x1b[31m new", "something [31m new"),
    ],
    ids=str,
)
def test_what_is_paused(state: StateToLookAt, subject: str, words: str) -> None:
    """In words; a text that this version does not know is shown as it is."""
    state.pause(subject, WORDS, "ChallengeFailed")
    ((kind, paused, _, after, *_),) = state.fields("limits")
    assert (kind, paused, after) == ("pause", words, "a failure")


def test_an_error_that_is_not_known(state: StateToLookAt) -> None:
    """It is shown as it is."""
    state.pause(SUBJECT, WORDS)
    state.database.write(
        lambda transaction: transaction.execute("UPDATE pauses SET error = 'oops'").rowcount
    ).result()
    _, document = state.document("limits")
    assert (document["pauses"][0]["reason"], document["pauses"][0]["limited"]) == ("oops", False)


def test_refusals(state: StateToLookAt) -> None:
    """Those that a rate limit was the reason for, of the last days."""
    state.happen(1, "refused", 60, status=429, block="web", reason=WORDS, count=3)
    state.happen(2, "refused", 30, status=403, reason="no block")
    state.happen(3, "refused", 60 * 24 * 8, status=429, block="web", reason=WORDS)
    _, document = state.document("limits")
    assert [(each["status"], each["count"], each["reason"]) for each in document["refusals"]] == [
        (429, 3, WORDS)
    ]
    ((kind, *_, count, reason),) = state.fields("limits")
    assert (kind, count, reason) == ("refusal", "3", WORDS)
