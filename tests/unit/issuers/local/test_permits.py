"""Rules of what a local CA may issue for."""

from __future__ import annotations

import pytest
from cryptography import x509
from tests.local_cas import NOW, permits

from acmems.issuers.local.authority import RootAuthority
from acmems.issuers.local.permits import Permits, parse_permit
from acmems.x509.identifiers import Glob, named


@pytest.mark.parametrize(
    ("permit", "name", "is_covered"),
    [
        ("internal.example", "internal.example", True),
        ("internal.example", "a.b.internal.example", True),
        ("internal.example", "*.internal.example", True),
        (".internal.example", "a.internal.example", True),
        ("internal.example", "notinternal.example", False),
        ("internal.example", "example", False),
        ("Internal.Example", "a.internal.example", True),
        ("printer", "printer", True),
        ("printer", "my-printer", False),
        ("internal.example", "10.0.0.1", False),
        ("10.0.0.0/8", "10.255.0.1", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("10.0.0.0/8", "::1", False),
        ("10.0.0.0/8", "a.internal.example", False),
        ("fd00::/8", "fd00::1", True),
        ("192.0.2.7", "192.0.2.7", True),
        ("any", "www.example.com", True),
        ("any", "::1", True),
    ],
)
def test_names_that_a_permit_covers(permit: str, name: str, is_covered: bool) -> None:
    """A domain covers itself and what is below it, a network its addresses, and neither the other kind."""
    assert permits(permit).covers(named(name)) is is_covered


def test_nothing_is_covered_by_no_permit() -> None:
    """A CA without any permit may issue for nothing."""
    assert not Permits().covers(named("a.example"))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("*.internal.example", "write internal.example, which stands for all names below it as well"),
        ("10.0.0.1/8", "is one address within a network: write 10.0.0.0/8"),
        ("a b", "write a domain such as internal.example"),
        ("", "write a domain such as internal.example"),
    ],
)
def test_what_is_no_permit(value: str, words: str) -> None:
    """It is refused in words that say what to write."""
    with pytest.raises(ValueError, match=words):
        parse_permit(value)


@pytest.mark.parametrize(
    "texts", [("internal.example", "10.0.0.0/8", "fd00::/8"), ("a.example",), ("10.0.0.0/8",), ("any",)]
)
def test_certificates_say_what_is_permitted(texts: tuple[str, ...]) -> None:
    """What the certificates of a CA say is read again as what it was made for."""
    root = RootAuthority.make("office", permits(*texts), NOW)
    for certificate in (root.certificate, root.intermediate(NOW).certificate):
        assert Permits.of(certificate) == permits(*texts)


@pytest.mark.parametrize(
    ("texts", "excluded"),
    [
        (("a.example",), ["0.0.0.0/0", "::/0"]),
        (("10.0.0.0/8",), [""]),
        (("a.example", "10.0.0.0/8"), []),
    ],
)
def test_kinds_without_a_permit_are_excluded(texts: tuple[str, ...], excluded: list[str]) -> None:
    """A kind of name of which none is permitted is excluded, since it would be allowed otherwise."""
    constraints = permits(*texts).constraints()
    assert constraints is not None
    assert [str(each.value) for each in constraints.excluded_subtrees or ()] == excluded
    certificate = RootAuthority.make("office", permits(*texts), NOW).certificate
    assert certificate.extensions.get_extension_for_class(x509.NameConstraints).critical


@pytest.mark.parametrize(
    ("held", "other", "holds"),
    [
        (("example",), ("a.example", "example"), True),
        (("a.example",), ("example",), False),
        (("10.0.0.0/8",), ("10.1.0.0/16",), True),
        (("10.0.0.0/8",), ("0.0.0.0/0",), False),
        (("10.0.0.0/8",), ("fd00::/8",), False),
        (("any",), ("fd00::/8", "a.example"), True),
        (("any",), ("any",), True),
        (("example", "10.0.0.0/8"), ("any",), False),
    ],
)
def test_permits_within_others(held: tuple[str, ...], other: tuple[str, ...], holds: bool) -> None:
    """Permits hold others if all that these cover is covered."""
    assert permits(*held).holds(permits(*other)) is holds


@pytest.mark.parametrize(
    ("glob", "meets"),
    [
        ("**", True),
        ("*.internal.example", True),
        ("a.b.internal.example", True),
        ("**.example", True),
        ("*.example", True),
        ("internal.example", True),
        ("example", False),
        ("*.example.org", False),
        ("www.example.org", False),
    ],
)
def test_globs_that_may_match_what_is_permitted(glob: str, meets: bool) -> None:
    """A glob that ends otherwise than every permitted domain grants nothing."""
    assert permits("internal.example").meets(Glob.parse(glob)) is meets
