"""dns-persist-01: which records allow what, what is missing, and what ends soon."""

from __future__ import annotations

import datetime

import dns.name
import pytest

from acmems.challenges import Proof, ValidatorContext
from acmems.challenges.dns_persist01 import DnsPersist, PersistRecord, record_name, record_text
from acmems.dns.client.resolver import Resolver
from acmems.exceptions import NoChallengeMethodsSupported, ValidatorUnavailable
from acmems.settings.findings import NOWHERE, Finding
from acmems.settings.grammar import Option, Section
from acmems.settings.options import Options
from acmems.system.clock import Clock
from acmems.x509.identifiers import Identifier

ACCOUNT = "https://ca.example/acct/1"
NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)
DAY = 86400
GOOD = f"ca.example; accounturi={ACCOUNT}"


class Records(Resolver):
    """Has records, and notes who is asked for."""

    def __init__(self, **records: str) -> None:
        super().__init__()
        self.records = records
        self.asked: list[str] = []

    def texts(self, name: dns.name.Name) -> frozenset[str]:
        text = name.to_text(omit_final_dot=True).removeprefix("_validation-persist.")
        self.asked.append(text)
        found = self.records.get(text.replace(".", "_"))
        return frozenset() if found is None else frozenset({"v=spf1 -all", *found.splitlines()})


def proof(name: str, *, wildcard: bool = False) -> Proof:
    return Proof(
        Identifier.dns(name),
        "",
        "",
        lambda: None,
        account_url=ACCOUNT,
        is_wildcard=wildcard,
        issuers=("ca.example", "other.example"),
    )


def validator(records: Records, now: datetime.datetime = NOW, **options: object) -> DnsPersist:
    return DnsPersist("persist", records, records=records, clock=Clock(now=lambda: now), **options)  # type: ignore[arg-type]  # as the test says


@pytest.mark.parametrize(
    ("text", "authorized"),
    [
        (GOOD, PersistRecord("ca.example", ACCOUNT)),
        (f"CA.Example.;accounturi={ACCOUNT};", PersistRecord("ca.example", ACCOUNT)),
        (
            f"ca.example; accounturi={ACCOUNT}; policy=Wildcard",
            PersistRecord("ca.example", ACCOUNT, wildcard=True),
        ),
        (f"ca.example ; AccountURI={ACCOUNT} ; policy=else", PersistRecord("ca.example", ACCOUNT)),
        (
            f"ca.example; accounturi={ACCOUNT}; persistUntil=1800000000",
            PersistRecord("ca.example", ACCOUNT, until=1800000000),
        ),
        ("ca.example", None),
        ("v=spf1 -all", None),
        (f"ca.example; accounturi={ACCOUNT}; accounturi=https://ca.example/acct/2", None),
        (f"ca.example; accounturi={ACCOUNT}; persistUntil=tomorrow", None),
        (f"ca.example; accounturi={ACCOUNT}; two words=x", None),
        ("", None),
    ],
)
def test_records_are_read_as_issue_values(text: str, authorized: PersistRecord | None) -> None:
    """A record is read as an issue-value of CAA is, and what is malformed allows nothing."""
    assert PersistRecord.parse(text) == authorized


@pytest.mark.parametrize("until", [None, 1800000000])
@pytest.mark.parametrize("wildcard", [False, True])
def test_a_printed_record_is_read_as_it_was_made(wildcard: bool, until: int | None) -> None:
    """The text of a new record is read as what it was made for."""
    text = record_text("ca.example", ACCOUNT, wildcard=wildcard, until=until)
    assert PersistRecord.parse(text) == PersistRecord("ca.example", ACCOUNT, wildcard, until)


class TestLooking:
    """Before the CA is asked, the record must be there."""

    def test_the_record_of_the_name_is_enough(self) -> None:
        """The record of the name itself, for any of the CA's names, is enough."""
        records = Records(a_example_org=GOOD)
        validator(records).present([proof("a.example.org")])
        assert records.asked == ["a.example.org"]
        validator(Records(a_example_org=f"other.example; accounturi={ACCOUNT}")).present(
            [proof("a.example.org")]
        )

    def test_a_record_above_counts_where_it_includes_subdomains(self) -> None:
        """A record above counts where it includes what is below."""
        validator(Records(example_org=f"{GOOD}; policy=wildcard")).present([proof("a.b.example.org")])
        with pytest.raises(ValidatorUnavailable):
            validator(Records(example_org=GOOD)).present([proof("a.b.example.org")])

    @pytest.mark.parametrize(
        ("record", "wildcard"),
        [
            (None, False),
            (GOOD, True),
            ("ca.example; accounturi=https://ca.example/acct/2", False),
            (f"rogue.example; accounturi={ACCOUNT}", False),
            (f"{GOOD}; persistUntil={int(NOW.timestamp())}", False),
        ],
    )
    def test_a_missing_record_is_printed_as_it_must_be_created(
        self, record: str | None, wildcard: bool
    ) -> None:
        """Where it is missing, ended or another's, the error tells the record to create, word by word."""
        records = Records(**({} if record is None else {"a_example_org": record}))
        with pytest.raises(ValidatorUnavailable) as caught:
            validator(records).present([proof("a.example.org", wildcard=wildcard)])
        policy = "; policy=wildcard" if wildcard else ""
        assert f'_validation-persist.a.example.org, or it has ended: it must be "{GOOD}{policy}"' in str(
            caught.value
        )
        assert "check --records" in caught.value.advice

    def test_a_chosen_issuer(self) -> None:
        """`issuer` names the CA in new records; those with another of its names still count."""
        with pytest.raises(ValidatorUnavailable, match=r'"other\.example; accounturi'):
            validator(Records(), issuer="other.example").present([proof("a.example.org")])
        validator(Records(a_example_org=GOOD), issuer="other.example").present([proof("a.example.org")])

    def test_the_record_that_ends_is_named(self, caplog: pytest.LogCaptureFixture) -> None:
        """Where a record above counts, it is that one which the warning names, once for all names below."""
        ending = f"{GOOD}; policy=wildcard; persistUntil={int(NOW.timestamp()) + 20 * DAY}"
        checking = validator(Records(example_org=ending))
        checking.present([proof("a.example.org")])
        checking.present([proof("b.example.org")])
        (told,) = caplog.records
        assert "_validation-persist.example.org ends" in told.getMessage()

    def test_the_end_is_near(self, caplog: pytest.LogCaptureFixture) -> None:
        """Weeks before a record ends the log warns, once a day, unless another lasts longer."""
        ending = f"{GOOD}; persistUntil={int(NOW.timestamp()) + 20 * DAY}"
        checking = validator(Records(a_example_org=ending))
        for _ in range(2):
            checking.present([proof("a.example.org")])
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "ends in 20 days" in caplog.text
        caplog.clear()
        validator(Records(a_example_org=f"{GOOD}; persistUntil={int(NOW.timestamp()) + 40 * DAY}")).present(
            [proof("a.example.org")]
        )
        assert caplog.records == []

    def test_records_of_a_name_are_warned_of_separately(self, caplog: pytest.LogCaptureFixture) -> None:
        """A warning of one record does not silence that of another, which stands for the wildcard."""
        start = int(NOW.timestamp())
        longer = f"{GOOD}; persistUntil={start + 20 * DAY}"
        shorter = f"{GOOD}; policy=wildcard; persistUntil={start + 10 * DAY}"
        checking = validator(Records(a_example_org=f"{longer}\n{shorter}"))
        checking.present([proof("a.example.org")])
        checking.present([proof("a.example.org", wildcard=True)])
        assert [record.getMessage().partition(" ends ")[2][:10] for record in caplog.records] == [
            "in 20 days",
            "in 10 days",
        ]

    def test_warnings_are_repeated_each_day(self, caplog: pytest.LogCaptureFixture) -> None:
        """After a day the log warns again, and what it warned of before is forgotten."""
        ending = f"{GOOD}; persistUntil={int(NOW.timestamp()) + 20 * DAY}"
        now = [NOW]
        checking = DnsPersist(
            "persist", Records(a_example_org=ending, b_example_org=ending), clock=Clock(now=lambda: now[0])
        )
        for name in ("a.example.org", "b.example.org", "b.example.org"):
            checking.present([proof(name)])
            now[0] += datetime.timedelta(hours=23)
        assert ["19 days" in record.getMessage() for record in caplog.records] == [False, True]
        now[0] += datetime.timedelta(hours=23)
        checking.present([proof("b.example.org")])
        assert len(caplog.records) == 3
        assert len(checking._warned) == 1

    def test_the_record_stays_after_withdrawal(self) -> None:
        """The record stays."""
        records = Records()
        validator(records).withdraw([proof("a.example.org")])
        assert records.asked == []

    def test_a_name_without_room_for_the_label_is_refused(self) -> None:
        """A name that leaves no room for the label can never be proved so."""
        with pytest.raises(NoChallengeMethodsSupported, match="too long"):
            record_name(".".join(["a" * 60] * 4))


def read(*pairs: tuple[str, str]) -> tuple[DnsPersist, list[Finding]]:
    findings: list[Finding] = []
    section = Section(
        "verification", "p", tuple(Option(key, value, NOWHERE) for key, value in pairs), NOWHERE
    )
    return DnsPersist.from_options("p", Options(section, findings), ValidatorContext()), findings


def test_every_key_is_read() -> None:
    """The keys of the section become what is looked with, printed and warned of."""
    made, findings = read(
        ("resolver", "192.0.2.53"),
        ("issuer", "CA.example."),
        ("persist-until", "2030-12-31"),
        ("warn-before", "10"),
    )
    assert findings == []
    assert [str(server) for server in made.resolver.servers] == ["192.0.2.53:53"]
    assert (made.issuer, made.until) == ("ca.example", 1924991999)
    assert made.warn_before == datetime.timedelta(days=10)
    assert made.proves(Identifier.dns("*.example.org"))
    assert not made.proves(Identifier.ip("192.0.2.1"))


@pytest.mark.parametrize(
    ("key", "value"), [("issuer", "a..b"), ("persist-until", "31.12.2030"), ("warn-before", "x")]
)
def test_bad_values_are_findings_that_name_the_key(key: str, value: str) -> None:
    """What does not parse is a finding that names the key."""
    _, findings = read((key, value))
    assert [finding.message.partition(":")[0] for finding in findings] == [key]
