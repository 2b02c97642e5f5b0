"""What a local CA signs: read by cryptography, by its verifier, and by pkilint."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store
from tests.chains import make_request
from tests.linting import lint_certificate, lint_crl
from tests.local_cas import NOW, WEEK, authority, permits

from acmems.exceptions import InvalidDomainName, LocalCaUnusable, PayloadInvalid
from acmems.issuers.local.authority import IssuingAuthority, RootAuthority
from acmems.issuers.local.profiles import RevokedCertificate
from acmems.x509 import chain, csr
from acmems.x509.csr import CertificateRequest

SECOND = datetime.timedelta(seconds=1)
PERMITS = ("internal.example", "printer", "10.0.0.0/8")
URL = "http://acmems.internal.example:1313/ca/office.crl"


@pytest.fixture(scope="module")
def office() -> IssuingAuthority:
    return authority(*PERMITS)


def issued(
    ca: IssuingAuthority, request: CertificateRequest, url: str | None = URL
) -> list[x509.Certificate]:
    pem = ca.issue(request, NOW, permits=permits(*PERMITS), lifetime=WEEK, crl_url=url)
    return x509.load_pem_x509_certificates(pem)


def rsa_request(name: str) -> CertificateRequest:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    san = x509.SubjectAlternativeName([x509.DNSName(name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(san, False)
    return csr.parse(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))


@pytest.mark.parametrize("texts", [PERMITS, ("internal.example",), ("10.0.0.0/8",), ("any",)])
def test_a_linter_finds_nothing_in_cas(texts: tuple[str, ...]) -> None:
    """Root and intermediate keep the rules of RFC 5280, whatever they permit."""
    ca = authority(*texts)
    for certificate in (ca.root, ca.certificate):
        assert lint_certificate(certificate.public_bytes(Encoding.DER)) == []


@pytest.mark.parametrize("url", [URL, None])
def test_a_linter_finds_nothing_in_leaves(office: IssuingAuthority, url: str | None) -> None:
    """Leaves keep the rules of RFC 5280, for EC and for RSA keys, with a list of revoked ones or without."""
    for request in (make_request("printer", "*.a.internal.example"), rsa_request("b.internal.example")):
        leaf, _ = issued(office, request, url)
        assert lint_certificate(leaf.public_bytes(Encoding.DER)) == []


def test_a_linter_finds_nothing_in_lists(office: IssuingAuthority) -> None:
    """Lists of revoked certificates keep the rules of RFC 5280 and of the CA/Browser Forum."""
    revoked = [
        RevokedCertificate(number, NOW - WEEK, reason)
        for number, reason in enumerate(
            ("unspecified", "keyCompromise", "superseded", "of another version"), 1
        )
    ]
    for entries in ([], revoked):
        assert lint_crl(office.crl(entries, 7, NOW)) == []


def test_the_linter_can_find_something(office: IssuingAuthority) -> None:
    """A leaf whose names are not critical beside an empty subject is found (RFC 5280 section 4.2.1.6)."""
    key = ec.generate_private_key(ec.SECP256R1())
    san = x509.SubjectAlternativeName([x509.DNSName("printer")])
    builder = (
        x509.CertificateBuilder(office.certificate.subject, x509.Name([]), key.public_key(), 1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + WEEK)
        .add_extension(san, critical=False)
    )
    found = lint_certificate(builder.sign(office.key, hashes.SHA256()).public_bytes(Encoding.DER))
    assert any("pkix.san_extension_not_critical_empty_subject" in each for each in found)


def test_a_verifier_accepts_leaf_and_intermediate(office: IssuingAuthority) -> None:
    """The chain that is sent, without the root, is verified by a client that trusts the root."""
    leaf, intermediate = issued(office, make_request("a.internal.example"))
    store = Store([office.root])
    verifier = (
        PolicyBuilder().store(store).time(NOW).build_server_verifier(x509.DNSName("a.internal.example"))
    )
    assert verifier.verify(leaf, [intermediate]) == [leaf, intermediate, office.root]


def test_dates_of_a_leaf(office: IssuingAuthority) -> None:
    """It begins some minutes ago, and its lifetime is what is configured, both ends included."""
    leaf, _ = issued(office, make_request("printer"))
    assert NOW - leaf.not_valid_before_utc == datetime.timedelta(minutes=5)
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc + SECOND == WEEK


def test_no_leaf_outlives_its_intermediate(office: IssuingAuthority) -> None:
    """Near the end of the intermediate, leaves end with it; in its last hour there are none."""
    end = office.certificate.not_valid_after_utc
    request = make_request("printer")
    pem = office.issue(request, end - WEEK / 2, permits=office.permits, lifetime=WEEK)
    assert chain.parse(pem).not_after == end
    with pytest.raises(LocalCaUnusable, match="'acmems ca init' makes another one"):
        office.issue(request, end - WEEK / 500, permits=office.permits, lifetime=WEEK)


def test_no_intermediate_outlives_its_root() -> None:
    """An intermediate that is made late ends with its root."""
    root = RootAuthority.make("office", permits("any"), NOW)
    late = root.intermediate(root.certificate.not_valid_after_utc - WEEK)
    assert late.certificate.not_valid_after_utc == root.certificate.not_valid_after_utc


def test_an_intermediate_makes_no_ca(office: IssuingAuthority) -> None:
    """Below it are leaves only, which a path length of 0 says; the root has none."""
    lengths = [
        each.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
        for each in (office.root, office.certificate)
    ]
    assert lengths == [None, 0]


def test_serial_numbers_are_random(office: IssuingAuthority) -> None:
    """They are positive, of 16 octets at most, and never the same."""
    request = make_request("printer")
    serials = {issued(office, request)[0].serial_number for _ in range(20)}
    assert len(serials) == 20
    assert all(120 < each.bit_length() <= 127 for each in serials)


def test_usages(office: IssuingAuthority) -> None:
    """Keys of EC sign; those of RSA may also encipher keys. Both are for servers and for clients."""
    for request, enciphers in ((make_request("printer"), False), (rsa_request("printer"), True)):
        leaf, _ = issued(office, request)
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
        assert usage.critical
        assert (usage.value.digital_signature, usage.value.key_encipherment) == (True, enciphers)
        extended = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert [each._name for each in extended] == ["serverAuth", "clientAuth"]


def test_names_that_are_not_permitted(office: IssuingAuthority) -> None:
    """Nothing is signed if the configuration or the certificates of the CA do not permit one name."""
    request = make_request("printer", "www.example.com", "b.example.com")
    for configured in (permits("any"), permits(*PERMITS)):
        with pytest.raises(InvalidDomainName) as raised:
            office.issue(request, NOW, permits=configured, lifetime=WEEK)
        assert [each.domain for each in raised.value.each] == ["b.example.com", "www.example.com"]
    with pytest.raises(
        InvalidDomainName, match="printer is not accepted: no 'permit' of the local CA covers"
    ):
        office.issue(make_request("printer"), NOW, permits=permits("internal.example"), lifetime=WEEK)


def test_must_staple(office: IssuingAuthority) -> None:
    """It is refused, since no client could ever connect."""
    with pytest.raises(PayloadInvalid, match="no OCSP responder"):
        issued(office, make_request("printer", must_staple=True))


def test_chains_are_what_was_asked_for(office: IssuingAuthority) -> None:
    """What is signed passes the checks that chains of any CA have to pass."""
    request = make_request("*.a.internal.example", "printer")
    pem = office.issue(request, NOW, permits=office.permits, lifetime=WEEK)
    assert chain.read_issued(pem, request).identifiers == request.identifiers


def test_entries_of_a_list(office: IssuingAuthority) -> None:
    """A list says what is revoked since when and why, by the key that signed the certificates."""
    revoked = [RevokedCertificate(3, NOW - WEEK, "keyCompromise"), RevokedCertificate(4, NOW, "unspecified")]
    read = x509.load_der_x509_crl(office.crl(revoked, 9, NOW))
    assert read.is_signature_valid(office.key.public_key())
    assert read.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 9
    first, second = read
    assert (first.serial_number, first.revocation_date_utc) == (3, NOW - WEEK)
    assert first.extensions.get_extension_for_class(x509.CRLReason).value.reason.value == "keyCompromise"
    assert len(second.extensions) == 0
    assert read.next_update_utc == NOW + WEEK
