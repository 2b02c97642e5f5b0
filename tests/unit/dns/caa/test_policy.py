"""What sets of CAA records say: RFC 8659 sections 4.2 to 4.5, RFC 8657."""

from __future__ import annotations

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest

from acmems.dns.authority.statement import Statement
from acmems.dns.caa.climbing import relevant_policy
from acmems.dns.caa.policy import Applicant, CaaPolicy, CaaRecord, CaaVerdict, Obstacle, climb, listed
from acmems.exceptions import ValidatorUnavailable

ACCOUNT = "https://example.net/account/1234"
METHODS = ("http-01", "dns-01")
BOTH = frozenset(METHODS)


def policy(*texts: str) -> CaaPolicy:
    """Return the policy of records, each given as in a zone file without quotes."""
    records = []
    for text in texts:
        flags, tag, value = [*text.split(" ", 2), ""][:3]
        records.append(CaaRecord(int(flags), tag, value))
    return CaaPolicy("example.com", tuple(records))


def judged(found: CaaPolicy, issuer: str = "ca1.example.net", *, wildcard: bool = False) -> CaaVerdict:
    return found.judge(Applicant((issuer,), ACCOUNT), METHODS, wildcard=wildcard)


@pytest.mark.parametrize(
    ("records", "who", "who_for_wildcards"),
    [
        (["0 issue ca1.example.net"], {"ca1"}, {"ca1"}),
        (["0 issue ca1.example.net", "0 issue ca2.example.net"], {"ca1", "ca2"}, {"ca1", "ca2"}),
        (["0 issue ca1.example.net; account=230123"], {"ca1"}, {"ca1"}),
        (["0 issue ;"], set(), set()),
        (["0 issue %%%%%"], set(), set()),
        (["0 issue ;", "0 issue ca1.example.net"], {"ca1"}, {"ca1"}),
        (["0 issue ca1.example.net", "0 issue ca2.example.net; a b"], {"ca1"}, {"ca1"}),
        (["0 issue ca1.example.net", "0 issuewild ca2.example.net"], {"ca1"}, {"ca2"}),
        (["0 issue ca1.example.net", "0 issuewild ;"], {"ca1"}, set()),
        (["0 issuewild ca2.example.net"], {"ca1", "ca2", "ca3"}, {"ca2"}),
        (["0 issue ;", "0 issuewild ca2.example.net"], set(), {"ca2"}),
        (["0 iodef mailto:security@example.com"], {"ca1", "ca2", "ca3"}, {"ca1", "ca2", "ca3"}),
        (["0 tbs Unknown"], {"ca1", "ca2", "ca3"}, {"ca1", "ca2", "ca3"}),
        (["0 issue ca1.example.net", "128 tbs Unknown"], set(), set()),
        (["255 tbs Unknown"], set(), set()),
        (["128 issue ca1.example.net"], {"ca1"}, {"ca1"}),
        (["128 iodef mailto:x@example.com", "128 issue ca2.example.net"], {"ca2"}, {"ca2"}),
        (["0 issuemail ;", "128 issuevmc ;"], {"ca1", "ca2", "ca3"}, {"ca1", "ca2", "ca3"}),
        (["64 tbs Unknown"], {"ca1", "ca2", "ca3"}, {"ca1", "ca2", "ca3"}),
    ],
    ids=lambda value: " + ".join(value) if isinstance(value, list) else "",
)
def test_who_may_issue(records: list[str], who: set[str], who_for_wildcards: set[str]) -> None:
    """`issuewild` counts for wildcards alone, in the place of `issue`; what no CA knows may stop all."""
    found = policy(*records)
    for wildcard, wanted in ((False, who), (True, who_for_wildcards)):
        allowed = {
            ca
            for ca in ("ca1", "ca2", "ca3")
            if judged(found, f"{ca}.example.net", wildcard=wildcard).methods == BOTH
        }
        assert allowed == wanted


@pytest.mark.parametrize(
    ("parameters", "methods", "obstacle"),
    [
        (f"accounturi={ACCOUNT}", BOTH, None),
        ("accounturi=https://example.net/account/1", set(), Obstacle.ACCOUNT),
        ("accounturi=https://old.example.net/reg/1234", BOTH, None),
        ("accounturi=https://old.example.net/reg/12345", set(), Obstacle.ACCOUNT),
        ("accounturi=https://EXAMPLE.net/account/12345", set(), Obstacle.ACCOUNT),
        ("accounturi=", set(), Obstacle.ACCOUNT),
        (f"accounturi={ACCOUNT}; accounturi={ACCOUNT}", set(), Obstacle.ISSUER),
        ("validationmethods=dns-01", {"dns-01"}, Obstacle.METHOD),
        ("validationmethods=DNS-01", set(), Obstacle.METHOD),
        ("validationmethods=dns-01,xyz-01", {"dns-01"}, Obstacle.METHOD),
        ("validationmethods=http-01,dns-01", BOTH, None),
        ("validationmethods=tls-alpn-01", set(), Obstacle.METHOD),
        ("validationmethods=", set(), Obstacle.METHOD),
        (f"accounturi={ACCOUNT}; validationmethods=dns-01", {"dns-01"}, Obstacle.METHOD),
        ("unknown=1", BOTH, None),
    ],
)
def test_for_whom_and_how(parameters: str, methods: set[str], obstacle: Obstacle | None) -> None:
    """A record may be for one account, and for some types of challenge (RFC 8657)."""
    verdict = judged(policy(f"0 issue ca1.example.net; {parameters}"))
    assert verdict.methods == methods
    assert verdict.obstacle is obstacle


def test_several_records_for_one_ca() -> None:
    """Each record counts by itself: their accounts and methods are not mixed."""
    found = policy(
        "0 issue ca1.example.net; accounturi=https://example.net/account/9; validationmethods=http-01",
        f"0 issue ca1.example.net; accounturi={ACCOUNT}; validationmethods=dns-01",
    )
    assert judged(found).methods == {"dns-01"}


def test_an_account_that_is_not_known() -> None:
    """Before the account is known, the CA decides on accounts."""
    verdict = policy("0 issue ca.example; accounturi=x").judge(
        Applicant(("ca.example",)), METHODS, wildcard=False
    )
    assert verdict.methods == BOTH


@pytest.mark.parametrize("issuers", [("CA1.example.net",), ("ca1.example.net.",), ("x", "ca1.example.net")])
def test_the_names_of_a_ca(issuers: tuple[str, ...]) -> None:
    """A CA may have several names, in any case."""
    assert policy("0 issue ca1.example.net").judge(Applicant(issuers), METHODS, wildcard=False).methods


def test_an_empty_name_of_a_ca() -> None:
    """A CA without a name is not the nobody of a record."""
    assert not policy("0 issue ;").judge(Applicant(("", "ca")), METHODS, wildcard=False).methods


@pytest.mark.parametrize(
    ("records", "wildcard", "remedy"),
    [
        (["0 issue other.example"], False, '0 issue "ca1.example.net"'),
        (["0 issue other.example"], True, '0 issue "ca1.example.net"'),
        (["0 issue ca1.example.net", "0 issuewild ;"], True, '0 issuewild "ca1.example.net"'),
        (
            ["0 issue ca1.example.net; accounturi=x/1"],
            False,
            f'0 issue "ca1.example.net; accounturi={ACCOUNT}"',
        ),
        (
            ["0 issue ca1.example.net; validationmethods=x"],
            False,
            '0 issue "ca1.example.net; validationmethods=http-01,dns-01"',
        ),
        (["0 issue other.example; accounturi=x/1"], False, '0 issue "ca1.example.net"'),
        (["128 tbs x"], False, ""),
    ],
)
def test_the_remedy(records: list[str], wildcard: bool, remedy: str) -> None:
    """The record to add is as narrow as those for the CA are; against what no CA knows, none helps."""
    verdict = judged(policy(*records), wildcard=wildcard)
    assert verdict.remedy == remedy
    if remedy:
        tag, value = remedy.split(" ", 2)[1:]
        mended = policy(*records, f"0 {tag} {value.strip(chr(34))}")
        assert judged(mended, wildcard=wildcard).methods == BOTH


def test_records_in_messages() -> None:
    """Strangers' texts are one printable line, and quoted as in a zone file."""
    assert CaaRecord(0, "issue", 'a"b\\c\x1b[31m\n').presentation == '0 issue "a\\"b\\\\c [31m "'
    found = policy("0 iodef mailto:a@example.com", "0 issue ;", "0 iodef https://b.example/\x07")
    assert found.reports == ("mailto:a@example.com", "https://b.example/")


def test_very_many_records() -> None:
    """A message has room for some of them, and for a few addresses; all of them count."""
    records = [f"0 issue ca{number}.example" for number in range(1000)]
    found = policy(*records, *(f"0 iodef mailto:{number}@example.com" for number in range(1000)))
    assert len(listed(found.records)) == 20
    assert len(found.reports) == 3
    assert judged(found, "ca999.example").methods == BOTH


def test_the_order_in_messages() -> None:
    """Records come in any order, and are told in one."""
    records = policy("0 iodef mailto:a@example.com", "0 issuewild ;", "0 issue b", "0 issue a").records
    assert listed(records) == (
        '0 issue "a"',
        '0 issue "b"',
        '0 issuewild ";"',
        '0 iodef "mailto:a@example.com"',
    )


class TestClimbing:
    """Section 3: the closest domain that has records, but never the root."""

    def test_the_way_up(self) -> None:
        """A name, then each domain above it, the top-level domain included."""
        assert list(climb("a.b.example.com")) == ["a.b.example.com", "b.example.com", "example.com", "com"]

    @pytest.mark.parametrize(
        ("zones", "found_at"),
        [
            ({"x.y.example.com": "x", "example.com": "e"}, "x.y.example.com"),
            ({"y.example.com": "y", "example.com": "e"}, "y.example.com"),
            ({"example.com": "e", "com": "c"}, "example.com"),
            ({"com": "c"}, "com"),
            ({}, None),
        ],
    )
    def test_the_closest_counts(self, zones: dict[str, str], found_at: str | None) -> None:
        """Records further up do not add to those that are closer."""
        asked: list[str] = []

        def look_up(name: dns.name.Name) -> Statement:
            text = name.to_text(omit_final_dot=True)
            asked.append(text)
            value = zones.get(text)
            records = (rdata(f'0 IsSuE "{value}"'),) if value else ()
            return Statement(records, True, name, name, 60.0)

        found = relevant_policy("x.y.example.com", look_up)
        assert (None if found is None else found.domain) == found_at
        assert asked[-1] == (found_at or "com")
        if found is not None and found_at is not None:
            assert found.records == (CaaRecord(0, "issue", zones[found_at]),)
            assert found.seconds == 60.0

    def test_where_a_cname_leads(self) -> None:
        """The records of a CNAME's target are those of the name; what is above the target does not count."""
        target = dns.name.from_text("cdn.example.net")

        def look_up(name: dns.name.Name) -> Statement:
            return Statement((rdata('0 issue ";"'),), True, target, target, 60.0)

        found = relevant_policy("www.example.com", look_up)
        assert found is not None
        assert found.domain == "cdn.example.net"

    def test_what_is_not_known(self) -> None:
        """A step that nobody tells of ends the search: top-level domains are not missed."""
        silent = ["example.com"]

        def look_up(name: dns.name.Name) -> Statement:
            if name.to_text(omit_final_dot=True) in silent:
                raise ValidatorUnavailable("nobody tells")
            return Statement((), True, name, name, 60.0)

        with pytest.raises(ValidatorUnavailable):
            relevant_policy("www.example.com", look_up)
        silent[:] = ["com"]
        assert relevant_policy("www.example.com", look_up) is None


def rdata(text: str) -> dns.rdata.Rdata:
    return dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.CAA, text)
