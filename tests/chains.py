"""Requests and chains that fit them, made here and now, without a CA."""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from acmems.x509 import chain, csr
from acmems.x509.chain import Chain
from acmems.x509.csr import CertificateRequest

CA_KEY = ec.generate_private_key(ec.SECP256R1())
CA_NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a CA")])
DAY = datetime.timedelta(days=1)


def make_request(
    *names: str, key: ec.EllipticCurvePrivateKey | None = None, must_staple: bool = False
) -> CertificateRequest:
    """Return a request, each time with other bytes: ECDSA signatures differ."""
    san = x509.SubjectAlternativeName([x509.DNSName(name) for name in names or ("a.example.org",)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(san, False)
    if must_staple:
        builder = builder.add_extension(x509.TLSFeature([x509.TLSFeatureType.status_request]), False)
    signed = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return csr.parse(signed.public_bytes(Encoding.PEM), csr.Rules(must_staple=True))


def make_chain(request: CertificateRequest, days: int = 90) -> Chain:
    """Return a chain of two that fits a request and expires in so many days."""
    key = load_der_public_key(request.spki)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    san = x509.SubjectAlternativeName([x509.DNSName(name) for name in request.names])
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(CA_KEY.public_key())
    leaf = certificate(key, x509.Name([]), days).add_extension(san, False).add_extension(authority, False)
    pems = (
        builder.sign(CA_KEY, hashes.SHA256()).public_bytes(Encoding.PEM)
        for builder in (leaf, certificate(CA_KEY.public_key(), CA_NAME, days))
    )
    return chain.parse(b"".join(pems))


def certificate(key: ec.EllipticCurvePublicKey, subject: x509.Name, days: int) -> x509.CertificateBuilder:
    end = datetime.datetime.now(datetime.UTC) + days * DAY
    return x509.CertificateBuilder(CA_NAME, subject, key, x509.random_serial_number(), end - 90 * DAY, end)
