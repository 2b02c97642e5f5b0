"""What the figure of ACME servers does without servers: answers of its name server, and its sums."""

from __future__ import annotations

import base64
import hashlib
from typing import cast

import dns.message
import dns.rcode
import pytest
from scripts.benchmark.acme.answers import Answers
from scripts.benchmark.acme.client import failure_kind
from scripts.benchmark.acme.figure import Contestant, beside_one, note_of, rates
from scripts.benchmark.jobs import Client, Outcome
from tests.peers import Peer, PeerFailed

QUESTION = "_acme-challenge.a.example.org"


def contestant(name: str, *outcomes: Outcome) -> Contestant:
    """Return a server that has had turns with one order at once."""
    made = Contestant(name, Peer(), cast("Client", None))
    made.outcomes[1] += outcomes
    return made


@pytest.mark.parametrize("asked", [QUESTION, QUESTION.upper()])
def test_an_answer_to_a_challenge(asked: str) -> None:
    """The name server tells the digest of the key authorization (RFC 8555 section 8.4), in any case."""
    answers = Answers()
    answers.show("a.example.org", "token.thumbprint")
    reply = dns.message.from_wire(answers.answer(dns.message.make_query(asked, "TXT", use_edns=0).to_wire()))
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"token.thumbprint").digest()).rstrip(b"=")
    assert [rdata.strings for rrset in reply.answer for rdata in rrset] == [(digest,)]


def test_no_answer_to_another_name() -> None:
    """It knows no other name."""
    reply = dns.message.from_wire(Answers().answer(dns.message.make_query(QUESTION, "TXT").to_wire()))
    assert (reply.rcode(), reply.answer) == (dns.rcode.NXDOMAIN, [])


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (
            PeerFailed(
                'the CA answered HTTP/1.1 500 Oops: {"type": "urn:ietf:params:acme:error:serverInternal"}'
            ),
            "500 serverInternal",
        ),
        (PeerFailed("the CA answered HTTP/1.1 502 Bad Gateway: "), "502"),
        (PeerFailed("it became invalid"), "it became invalid"),
        (ConnectionResetError(104, "reset"), "ConnectionResetError"),
    ],
)
def test_kinds_of_failures(error: Exception, kind: str) -> None:
    """Failures are counted by the status and the problem, whatever else was said."""
    assert failure_kind(error) == kind


def test_rates_and_losses() -> None:
    """The rate is the median of the turns; what is lost is lost in any of them."""
    ours = contestant("acmems", Outcome(30, 120, 1.0), Outcome(20, 80, 1.0, failures={"500": 2}))
    rows = list(rates(ours, [contestant("Caddy", Outcome(20, 100, 1.0))], 1))
    assert [(row.ours, row.theirs, row.met) for row in rows] == [(25.0, 20.0, True), (2, 0.0, False)]


def test_two_processes_beside_one() -> None:
    """Two processes are compared with one, and have losses of their own."""
    two, one = (
        contestant("two", Outcome(30, 120, 1.0, failures={"500": 1})),
        contestant("one", Outcome(20, 80, 1.0)),
    )
    rows = list(beside_one(two, one, 1))
    assert [(row.ours, row.theirs, row.met) for row in rows] == [(30.0, 20.0, None), (1, 0.0, False)]


def test_note_of_losses() -> None:
    """The note says what was lost and how, and counts requests by the orders that were tried."""
    server = contestant("Caddy", Outcome(18, 100, 1.0, failures={"500": 2}))
    assert note_of(server) == "Caddy: 5.0 requests an order, lost 2 of 20: 2 x 500 (1 at once)"
