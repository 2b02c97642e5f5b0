"""What a certificate is counted for, as Let's Encrypt counts."""

from __future__ import annotations

import pytest

from acmems.issuing.limits.charges import Renewal, charges, failures
from acmems.issuing.limits.domains import registered_domain
from acmems.issuing.limits.gcra import Rate
from acmems.issuing.limits.limit import LETSENCRYPT
from acmems.x509.identifiers import Identifier

ACCOUNT = "https://ca.example/account/1"


def dns(*names: str) -> list[Identifier]:
    return [Identifier.dns(name) for name in names]


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("example.org", "example.org"),
        ("a.b.example.org", "example.org"),
        ("*.a.example.org", "example.org"),
        ("shop.example.co.uk", "example.co.uk"),
        ("co.uk", "co.uk"),
        ("user.github.io", "user.github.io"),
        ("a.user.github.io", "user.github.io"),
        ("host.internal", "host.internal"),
        ("a.b.xn--55qx5d.cn", "b.xn--55qx5d.cn"),
    ],
)
def test_the_registered_domain_of_a_name(name: str, domain: str) -> None:
    """Public suffixes count, those of companies that sell names below theirs as well."""
    assert registered_domain(Identifier.dns(name)) == domain


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
    ],
)
def test_the_registered_domain_of_an_address(address: str, domain: str) -> None:
    """An IPv4 address counts by itself, an IPv6 address with its network."""
    assert registered_domain(Identifier.ip(address)) == domain


def subjects(names: list[Identifier], renewal: Renewal) -> set[tuple[str, str]]:
    return {(each.limit.counts.value, each.subject) for each in charges(LETSENCRYPT, ACCOUNT, names, renewal)}


def test_a_new_certificate() -> None:
    """It counts for the account, for each registered domain once, and for its set of names."""
    assert subjects(dns("b.example.org", "a.example.org", "example.com"), Renewal()) == {
        ("orders", ""),
        ("certificates-per-domain", "example.org"),
        ("certificates-per-domain", "example.com"),
        ("certificates-per-names", "a.example.org b.example.org example.com"),
    }


def test_a_renewal_of_the_same_names() -> None:
    """It counts for its set of names only."""
    assert subjects(dns("a.example.org"), Renewal(is_known=True)) == {
        ("certificates-per-names", "a.example.org")
    }


def test_a_renewal_that_names_its_predecessor() -> None:
    """It counts for nothing."""
    assert subjects(dns("a.example.org"), Renewal(is_announced=True, is_known=True)) == set()


def test_failures() -> None:
    """A wildcard name fails as the name below which it is proved; all of an account share the bucket."""
    found = failures(LETSENCRYPT, ACCOUNT, dns("*.example.org", "example.org", "a.example.org"))
    assert {each.subject for each in found} == {"example.org", "a.example.org"}


def test_buckets() -> None:
    """The same names in another order share a bucket; another account does not."""
    one = charges(LETSENCRYPT, ACCOUNT, dns("a.example.org", "b.example.org"), Renewal())
    two = charges(LETSENCRYPT, ACCOUNT, dns("b.example.org", "a.example.org"), Renewal())
    other = charges(LETSENCRYPT, f"{ACCOUNT}0", dns("b.example.org", "a.example.org"), Renewal())
    assert one == two
    assert not {each.bucket for each in one} & {each.bucket for each in other}
    assert [each.bucket for each in one] == sorted(each.bucket for each in one)


@pytest.mark.parametrize(("count", "period"), [(0, 10), (-1, 10), (11, 10), (1, 0)])
def test_rates_that_are_none(count: int, period: int) -> None:
    """A limit that lets nothing through, or more than one each millisecond, is a mistake."""
    with pytest.raises(ValueError, match="a rate is"):
        Rate(count, period)
