"""What an issued certificate may hold beside its names: what policy has looked at, and nothing else."""

from __future__ import annotations

import datetime
from typing import get_args

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier
from tests import der
from tests.chains import CA_KEY, CA_NAME
from tests.der import Draft

from acmems.exceptions import CertificateUnusable
from acmems.x509 import chain, csr
from acmems.x509.chain import Chain
from acmems.x509.leaf import SubjectPolicy

NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
VENDOR = "1.3.6.1.4.1.311.25.2"  # who somebody is in Microsoft's directory
ORGANIZATION = (NameOID.ORGANIZATION_NAME, "system:masters")
COMMON_NAME = (NameOID.COMMON_NAME, "A.example.org")
REQUEST = csr.parse(
    Draft(
        subject=der.sequence(
            der.relative_name(der.ORGANIZATION, b"system:masters", 0x13),
            der.relative_name("2.5.4.45", b"\0\x01\x02", 0x03),
        ),
        extensions=(der.dns_san(b"a.example.org"), der.extension(VENDOR, der.NULL)),
    ).pem
)


def usage(*, cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(True, False, True, False, False, cert_sign, crl_sign, False, False)


def issued(
    *extensions: x509.ExtensionType,
    subject: tuple[tuple[ObjectIdentifier, str], ...] = (),
    policy: SubjectPolicy = "dropped",
) -> Chain:
    """Have a certificate issued for the request, and read it as it comes from the CA."""
    name = x509.Name([x509.NameAttribute(kind, text) for kind, text in subject])
    end = NOW + datetime.timedelta(days=90)
    builder = x509.CertificateBuilder(CA_NAME, name, der.ec_key().public_key(), 1, NOW, end)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("a.example.org")]), False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    pem = builder.sign(CA_KEY, hashes.SHA256()).public_bytes(Encoding.PEM)
    return chain.read_issued(pem, REQUEST, subject=policy)


def refusal(
    *extensions: x509.ExtensionType,
    subject: tuple[tuple[ObjectIdentifier, str], ...] = (),
    policy: SubjectPolicy = "dropped",
) -> CertificateUnusable:
    with pytest.raises(CertificateUnusable) as caught:
        issued(*extensions, subject=subject, policy=policy)
    return caught.value


class TestUsages:
    def test_a_leaf_as_public_cas_issue_it(self) -> None:
        """What every leaf has is fine, and so is what the CA adds that no CSR asked for."""
        issued(
            x509.BasicConstraints(ca=False, path_length=None),
            usage(),
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            x509.SubjectKeyIdentifier(b"1"),
            x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.37476.9000.64.1"), der.NULL),
        )

    @pytest.mark.threat("ca", "another certificate")
    @pytest.mark.parametrize(
        ("extension", "reason"),
        [
            pytest.param(x509.BasicConstraints(True, None), "certificate of a CA", id="CA"),
            pytest.param(usage(cert_sign=True), "keyCertSign", id="keyCertSign"),
            pytest.param(usage(crl_sign=True), "cRLSign", id="cRLSign"),
            pytest.param(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CODE_SIGNING]),
                "1.3.6.1.5.5.7.3.3 (codeSigning)",
                id="codeSigning",
            ),
            pytest.param(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]),
                "anyExtendedKeyUsage",
                id="any usage",
            ),
            pytest.param(
                x509.UnrecognizedExtension(ObjectIdentifier(VENDOR), der.NULL),
                "extension 1.3.6.1.4.1.311.25.2 (security identifier of Microsoft) as the CSR asks",
                id="copied from the CSR",
            ),
        ],
    )
    def test_refused(self, extension: x509.ExtensionType, reason: str) -> None:
        """More than a server or client needs is refused whatever the subject may hold, and for long."""
        for policy in get_args(SubjectPolicy):
            error = refusal(extension, policy=policy)
            assert reason in str(error)
            assert error.retry_after == chain.LONG_PAUSE


class TestSubject:
    @pytest.mark.parametrize("policy", ["dropped", "names", "copied", "any"])
    @pytest.mark.parametrize("subject", [(), (COMMON_NAME,)], ids=["empty", "a name"])
    def test_names(self, subject: tuple[tuple[ObjectIdentifier, str], ...], policy: SubjectPolicy) -> None:
        """A subject that is empty, or holds a granted name in any case, is always fine."""
        issued(subject=subject, policy=policy)

    @pytest.mark.threat("ca", "another certificate")
    @pytest.mark.parametrize(
        ("policy", "subject"),
        [
            ("dropped", (ORGANIZATION,)),
            ("names", (ORGANIZATION,)),
            ("dropped", (COMMON_NAME, ORGANIZATION)),
            ("dropped", ((NameOID.COMMON_NAME, "admin"),)),
            ("copied", ((NameOID.COMMON_NAME, "admin"),)),
            ("copied", (ORGANIZATION, (NameOID.ORGANIZATION_NAME, "another"))),
            ("copied", ((NameOID.ORGANIZATIONAL_UNIT_NAME, "system:masters"),)),
        ],
    )
    def test_refused(self, policy: SubjectPolicy, subject: tuple[tuple[ObjectIdentifier, str], ...]) -> None:
        """What is no granted name is refused, and for long, unless it may be copied and was."""
        error = refusal(subject=subject, policy=policy)
        assert "its subject holds more than granted names: " in str(error)
        assert error.retry_after == chain.LONG_PAUSE

    def test_copied(self) -> None:
        """What the CSR holds may stand there where that is allowed, in whatever type of string."""
        issued(subject=(COMMON_NAME, ORGANIZATION), policy="copied")

    def test_any(self) -> None:
        """An organisation that the CA has verified may stand there where anything may."""
        issued(subject=(COMMON_NAME, (NameOID.ORGANIZATION_NAME, "Example Ltd")), policy="any")

    def test_the_reason_is_one_line(self) -> None:
        """A subject cannot break the lines of a log."""
        assert str(refusal(subject=((NameOID.ORGANIZATION_NAME, "a\r\nb\x1b"),))).isprintable()


class TestRequest:
    def test_what_it_asks_for_beside_names(self) -> None:
        """A request tells what its subject holds beside common names, and which extensions no leaf needs."""
        assert REQUEST.subject == {("2.5.4.10", "system:masters"), ("2.5.4.45", "000102")}
        assert REQUEST.further_extensions == {VENDOR}

    def test_what_every_leaf_has(self) -> None:
        """Usages of a leaf are nothing further, and a common name is a name."""
        draft = Draft(
            subject=der.subject(b"a.example.org"),
            extensions=(der.extension(der.KEY_USAGE, b"\3\2\5\xa0"),),
        )
        request = csr.parse(draft.pem)
        assert (request.subject, request.further_extensions) == (frozenset(), frozenset())
