"""`acmems limits`."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from tests.chains import make_request
from tests.issuing import House
from tests.viewing import DIRECTORY, StateToLookAt

from acmems.commands.views.documents import rfc3339
from acmems.exceptions import NamesPaused
from acmems.issuing.limits.charges import Renewal
from acmems.issuing.limits.gcra import Rate
from acmems.issuing.limits.ledger import Ledger
from acmems.issuing.limits.limit import LETSENCRYPT, Counted, Limit
from acmems.issuing.requests import AcceptedRequest
from acmems.state.limits.buckets import BucketRecord, BucketRecords
from acmems.state.limits.learnt import LearntRecord, LearntRecords
from acmems.state.limits.pauses import PauseRecords
from acmems.system.clock import Clock
from acmems.x509.identifiers import Identifier

ACCOUNT = "https://ca.example/account/1"

SECOND = """
[account "b"]
dir = {folder}/b
acme-server = https://b.example/directory
limits = new orders per account
[limit "new orders per account"]
count = 3
per = 1h
counts = orders
"""
SUBJECT = 'block:["web", ["www.example.org"], "limit", "https://ca"]'
WORDS = "too many certificates already issued"


def test_nothing(state: StateToLookAt) -> None:
    """That is said, and no failure."""
    assert state.run("limits") == (0, [], "")
    assert state.document("limits") == (0, {"limits": [], "pauses": [], "refusals": []})


def test_nothing_at_a_terminal(state: StateToLookAt, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person reads it in words."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert state.run("limits")[1] == [
        "No limits of the CA are counted, or none is used.",
        "",
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
        "visit": None,
        "block": "web",
        "client": "192.0.2.9",
    }


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        ('name:["a.example.org", "https://ca"]', "a.example.org"),
        (
            'account:["a.example.org", "https://ca/account/1", "https://ca"]',
            "a.example.org for the account, by the CA",
        ),
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


def test_names_that_the_ca_has_paused(state: StateToLookAt) -> None:
    """The page is shown on which a person can end that, here and with the certificate."""
    page = "https://portal.example/unpause?jwt=abc.def.ghi"
    house = House(pauses=PauseRecords(state.database))
    asked = AcceptedRequest(make_request("*.example.org"), (), house.storage)
    house.issuance.pauses.note(asked, NamesPaused(["example.org"], page))
    house.close()
    state.keep("1", "*.example.org")
    _, document = state.document("limits")
    _, shown = state.document("show", "*.example.org")
    for pause in (*document["pauses"], *shown["found"][0]["pauses"]):
        assert (pause["subject"], pause["names"]) == ("account", ["example.org"])
        assert (pause["visit"], pause["limited"]) == (page, True)
        assert page in pause["reason"]
    assert len(shown["found"][0]["pauses"]) == 1
    assert page in "\n".join(state.run("limits")[1])


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


class TestCounted:
    """What is counted of the limits of the CA."""

    @pytest.fixture
    def state(self, state: StateToLookAt) -> StateToLookAt:
        """One whose account has the limits of Let's Encrypt, and has used some."""
        text = state.config.read_text()
        ours = f"[account]\nacme-server = {DIRECTORY}\nlimits = letsencrypt\n"
        state.config.write_text(text.replace("[account]\n", ours))
        return state

    def use(self, state: StateToLookAt, *names: str, block: str = "web", client: str = "192.0.2.7") -> None:
        """Reserve what an order for some names needs."""
        clock = Clock(now=lambda: state.now)
        ledger = Ledger(LETSENCRYPT, f"{DIRECTORY} {ACCOUNT}", BucketRecords(state.database), clock)
        ledger.reserve([Identifier.dns(name) for name in names], Renewal(), block, client).result(20)

    def test_what_is_used(self, state: StateToLookAt) -> None:
        """How much, how much is left, until when, and by whom; the fullest first."""
        self.use(state, "a.example.org")
        self.use(state, "a.example.org", block="mail", client="192.0.2.8")
        code, document = state.document("limits")
        assert code == 0
        names, domain, orders = document["limits"]
        assert names == {
            "limit": "certificates per exact set of names",
            "counts": "certificates-per-names",
            "source": "published",
            "subject": "a.example.org",
            "account": ACCOUNT,
            "count": 5,
            "used": 2,
            "left": 3,
            "kept": 0,
            "next_free": rfc3339(state.now + timedelta(hours=33.6)),
            "block": "mail",
            "client": "192.0.2.8",
            "learnt": None,
        }
        assert (domain["subject"], domain["used"], domain["left"]) == ("example.org", 2, 48)
        assert (orders["subject"], orders["used"], orders["left"]) == (None, 2, 298)

    def test_a_mistake_that_is_corrected(self, state: StateToLookAt) -> None:
        """Whatever has filled a bucket, the next place is free within the period that holds now."""
        limit, clock = Limit("new orders per account", Counted.ORDERS, Rate(1, 10**11)), state.now
        ledger = Ledger(
            [limit], f"{DIRECTORY} {ACCOUNT}", BucketRecords(state.database), Clock(now=lambda: clock)
        )
        ledger.reserve([Identifier.dns("a.example.org")], Renewal(), "web").result(20)
        _, document = state.document("limits")
        (orders,) = document["limits"]
        assert datetime.fromisoformat(orders["next_free"]) - state.now < timedelta(hours=3.1)

    def test_in_plain_lines(self, state: StateToLookAt) -> None:
        """A program reads fields."""
        self.use(state, "a.example.org")
        line = state.fields("limits")[0]
        assert line[:5] == ["limit", "certificates per exact set of names", "a.example.org", "1", "4"]
        assert line[5] == "0"
        assert line[7:] == ["web", "192.0.2.7", "published"]

    def test_two_accounts(self, state: StateToLookAt) -> None:
        """Each has its own limits, whatever the other's are called."""
        other = "https://b.example/directory https://b.example/account/7"
        text = state.config.read_text()
        state.config.write_text(f"{text}{SECOND.format(folder=state.config.parent)}")
        few = Limit("new orders per account", Counted.ORDERS, Rate(3, 3_600_000))
        clock = Clock(now=lambda: state.now)
        Ledger([few], other, BucketRecords(state.database), clock).reserve(
            [Identifier.dns("b.example.org")], Renewal(), "b"
        ).result(20)
        self.use(state, "a.example.org")
        _, document = state.document("limits")
        orders = {
            each["account"]: (each["source"], each["used"], each["left"])
            for each in document["limits"]
            if each["counts"] == "orders"
        }
        assert orders == {
            ACCOUNT: ("published", 1, 299),
            "https://b.example/account/7": ("configured", 1, 2),
        }
        assert {fields[1] for fields in state.fields("limits") if fields[2] == "the account"} == {
            "new orders per account of [account]",
            'new orders per account of [account "b"]',
        }

    def test_nothing_used(self, state: StateToLookAt) -> None:
        """The limit of the account is shown all the same."""
        ((*fields,),) = state.fields("limits")
        assert fields == [
            *("limit", "new orders per account", "the account", "0", "300"),
            *("0", "", "", "", "published"),
        ]


WORDS_OF_CA = "too many new orders (100) from this account in the last 3h0m0s"


class TestLearnt:
    """Limits that the CA has told of."""

    def learn(self, state: StateToLookAt, *, ago: timedelta = timedelta()) -> None:
        """Keep what the CA has said some time ago, and use one place of that."""
        text = state.config.read_text()
        state.config.write_text(text.replace("[account]\n", f"[account]\nacme-server = {DIRECTORY}\n"))
        said = state.now - ago
        limit = LearntRecord(
            f"{DIRECTORY} {ACCOUNT}", "orders", 100, 3 * 3_600_000, True, said, said, WORDS_OF_CA
        )
        LearntRecords(state.database).put(limit).result(20)
        bucket = BucketRecord("a", f"{DIRECTORY} {ACCOUNT}", "new orders per account", "")
        instant = int(state.now.timestamp() * 1000) + 5 * 108_000
        BucketRecords(state.database).update([bucket], lambda _: ({"a": instant}, None)).result(20)

    def test_it_is_shown_with_the_words_of_the_ca(self, state: StateToLookAt) -> None:
        """Since when, until when, and why."""
        self.learn(state)
        _, document = state.document("limits")
        (limit,) = document["limits"]
        assert (limit["limit"], limit["source"], limit["used"], limit["left"]) == (
            *("new orders per account", "learnt"),
            *(5, 95),
        )
        now = rfc3339(state.now)
        ends = rfc3339(state.now + timedelta(hours=6))
        assert limit["learnt"] == {"since": now, "confirmed": now, "ends": ends, "words": WORDS_OF_CA}
        (fields,) = state.fields("limits")
        assert fields[9] == "learnt"
        assert WORDS_OF_CA in fields[10]

    def test_its_end(self, state: StateToLookAt) -> None:
        """It is not counted any more two periods after the CA has said so last."""
        self.learn(state, ago=timedelta(hours=6, seconds=1))
        assert state.document("limits")[1]["limits"] == []

    def test_a_configuration_that_names_limits(self, state: StateToLookAt) -> None:
        """That counts alone."""
        text = state.config.read_text()
        state.config.write_text(text.replace("[account]\n", "[account]\nlimits = none\n"))
        self.learn(state)
        assert state.document("limits")[1]["limits"] == []
