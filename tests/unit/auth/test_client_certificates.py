"""Client certificates: what they are good for."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import hashlib
import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.auth_blocks import block
from tests.client_certificates import ClientAuthority

from acmems.auth import Authenticator, Caller
from acmems.auth.methods import ClientCertificateMethod
from acmems.auth.processor import client_certificate
from acmems.exceptions import ConfigurationError
from acmems.net.address import parse_network
from acmems.system.clock import SYSTEM
from acmems.x509.identifiers import Glob, Identifier

AUTHORITY = ClientAuthority()


def showing(*names: str) -> Caller:
    return Caller(None, None, certificate=AUTHORITY.der(*names))


def dns(*names: str) -> list[Identifier]:
    return [Identifier.dns(name) for name in names]


class TestGlobs:
    @pytest.mark.parametrize(
        ("names", "accepted"),
        [
            (["a.hosts.example.org"], True),
            (["other.example.net", "a.hosts.example.org"], True),
            (["a.b.hosts.example.org"], False),
            (["hosts.example.org"], False),
            (["*.hosts.example.org"], True),
        ],
    )
    def test_one_name_must_match(self, names: list[str], accepted: bool) -> None:
        """Who shows a certificate of which a name matches is accepted, for whatever the block grants."""
        method = ClientCertificateMethod((Glob.parse("*.hosts.example.org"),))
        assert method.accepts(showing(*names), b"") is accepted
        assert method.names_refusal(showing(*names), dns("www.example.org")) is None

    def test_no_certificate(self) -> None:
        """Who shows none is refused before the body is read."""
        method = ClientCertificateMethod((Glob.parse("**"),))
        assert not method.may_accept(Caller(None, None))
        assert not ClientCertificateMethod().may_accept(Caller(None, None))

    @pytest.mark.parametrize("names", [[], [x509.RFC822Name("a@example.org")]])
    def test_other_kinds_of_names(self, names: list[x509.GeneralName]) -> None:
        """A certificate without names, or with others than those of machines, is good for nothing."""
        made = AUTHORITY.certificate(ec.generate_private_key(ec.SECP256R1()), names)
        der = made.public_bytes(serialization.Encoding.DER)
        assert not ClientCertificateMethod().may_accept(Caller(None, None, certificate=der))


class TestCoverage:
    @pytest.mark.parametrize(
        ("shown", "asked", "granted"),
        [
            (["a.example.org"], ["a.example.org"], True),
            (["a.example.org", "b.example.org"], ["b.example.org"], True),
            (["a.example.org"], ["a.example.org", "b.example.org"], False),
            (["a.example.org"], ["*.example.org"], False),
            (["*.example.org"], ["*.example.org", "a.example.org"], True),
            (["*.example.org"], ["a.b.example.org"], False),
            (["*.example.org"], ["example.org"], False),
            (["a.example.org"], ["b.a.example.org"], False),
        ],
    )
    def test_names_must_be_covered(self, shown: list[str], asked: list[str], granted: bool) -> None:
        """A block with `yes` grants what a server could show the client's certificate for, no more."""
        client, found = showing(*shown), block(("client-certificate", "yes"), ("domain", "**"))
        assert found.accepts(client, b"")
        assert (ClientCertificateMethod().names_refusal(client, dns(*asked)) is None) is granted
        if not any(each.startswith("*") for each in asked):  # which http-01 cannot prove anyway
            assert (found.refusal(dns(*asked), client) is None) is granted

    def test_addresses(self) -> None:
        """An address is covered by itself."""
        address = Identifier.ip("192.0.2.1")
        key = ec.generate_private_key(ec.SECP256R1())
        made = AUTHORITY.certificate(key, [x509.IPAddress(ipaddress.ip_address(address.value))])
        client = Caller(None, None, certificate=made.public_bytes(serialization.Encoding.DER))
        assert ClientCertificateMethod().names_refusal(client, [address]) is None
        assert ClientCertificateMethod().names_refusal(showing("a.example.org"), [address]) is not None

    def test_what_was_granted_is_renewed(self) -> None:
        """Where nobody asks now, what the block grants counts."""
        found = block(("client-certificate", "yes"), ("domain", "**"))
        assert found.refusal(dns("a.example.org"), None) is None
        assert found.refusal(dns("a.example.org"), Caller(None, None)) is not None


def test_it_must_be_valid_now() -> None:
    """A certificate that expires while its connection is open is not accepted any more."""
    now = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    shown = Caller(None, None, certificate=AUTHORITY.der("a.example.org", now=now))
    for moved, accepted in ((0, True), (59, True), (61, False), (-61, False)):
        at = now + datetime.timedelta(minutes=moved)
        clock = dataclasses.replace(SYSTEM, now=functools.partial(_same, at))
        assert ClientCertificateMethod(clock=clock).accepts(shown, b"") is accepted, moved


@pytest.mark.threat("http", "revoked client certificates")
def test_it_must_not_be_revoked() -> None:
    """A stolen one would be renewed for ever otherwise; whoever accepts all does not mind."""
    certificate, other = AUTHORITY.der("a.example.org"), AUTHORITY.der("a.example.org")
    revoked = {hashlib.sha256(certificate).hexdigest()}
    auth = Authenticator(is_revoked=revoked.__contains__)
    for method in (ClientCertificateMethod(), ClientCertificateMethod((Glob.parse("**"),))):
        assert method.accepts(auth.caller("192.0.2.1", {}, other), b"")
        caller = auth.caller("192.0.2.1", {}, certificate)
        assert not method.may_accept(caller)
        assert method.refusal(caller, b"") == "the client certificate is revoked"
        bound = caller.of_account("kid")
        assert not method.accepts(bound, b"")


def _same(moment: datetime.datetime) -> datetime.datetime:
    return moment


@pytest.mark.threat("http", "X-Forwarded-For")
def test_a_proxy_shows_its_own() -> None:
    """What a trusted proxy shows does not count for the client that it speaks for."""
    proxies = (parse_network("192.0.2.1"),)
    forwarded = {"X-Forwarded-For": "198.51.100.7"}
    assert client_certificate("192.0.2.1", forwarded, proxies, b"shown") is None
    assert client_certificate("192.0.2.1", {}, proxies, b"shown") == b"shown"
    assert client_certificate("192.0.2.2", forwarded, proxies, b"shown") == b"shown"
    assert client_certificate("192.0.2.1", {}, (), None) is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["no"], "remove the line"),
        (["yes", "*.example.org"], "cannot be combined"),
        (["a.**.b"], "first label"),
    ],
)
def test_mistakes(values: list[str], words: str) -> None:
    """What makes no sense is a configuration error."""
    with pytest.raises(ConfigurationError, match=words):
        block(*(("client-certificate", value) for value in values), ("domain", "**"))
