"""Signatures of requests, which show that whoever asks has the private key (RFC 2986 section 3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm

from acmems.exceptions import PayloadInvalid
from acmems.x509 import der, oids
from acmems.x509.keys import PublicKey
from acmems.x509.pkcs10 import ANEW, CertificationRequest, Part

_PADDING = padding.PKCS1v15()


def _encodings(algorithm: bytes) -> Iterator[bytes]:
    """Yield the contents that an AlgorithmIdentifier may have for an algorithm.

    RFC 4055 wants NULL parameters with RSA, RFC 5758 none with ECDSA. Encoders confuse them, and neither
    says anything.
    """
    identifier = bytes([der.OBJECT_IDENTIFIER, len(algorithm)]) + algorithm
    yield from (identifier, identifier + bytes([der.NULL, 0]))


_RSA: Mapping[bytes, HashAlgorithm] = {
    encoding: hash_algorithm
    for algorithm, hash_algorithm in (
        (oids.RSA_SHA256, SHA256()),
        (oids.RSA_SHA384, SHA384()),
        (oids.RSA_SHA512, SHA512()),
    )
    for encoding in _encodings(algorithm)
}
_ECDSA: Mapping[bytes, ec.ECDSA] = {
    encoding: ec.ECDSA(hash_algorithm)
    for algorithm, hash_algorithm in (
        (oids.ECDSA_SHA256, SHA256()),
        (oids.ECDSA_SHA384, SHA384()),
        (oids.ECDSA_SHA512, SHA512()),
    )
    for encoding in _encodings(algorithm)
}


def check(request: CertificationRequest, key: PublicKey) -> None:
    """See that a request is signed by its key, with an algorithm that CAs take.

    Raises:
        PayloadInvalid: it is not; the reason tells what to do instead.
    """
    algorithm = request.algorithm
    if algorithm not in _RSA and algorithm not in _ECDSA:
        raise PayloadInvalid(_algorithm_fault(algorithm))
    try:
        with der.reading("the signature", InvalidSignature):
            if isinstance(key, rsa.RSAPublicKey):
                key.verify(request.signature, request.info, _PADDING, _RSA[algorithm])
            else:
                key.verify(request.signature, request.info, _ECDSA[algorithm])
    except InvalidSignature:  # also where the algorithm belongs to the other type of key
        raise PayloadInvalid(
            "the signature of the certificate request is wrong: it was made with another key, or the request "
            f"was changed afterwards; {ANEW}"
        ) from None


def _algorithm_fault(identifier: bytes) -> str:
    """Say what is wrong with a signature algorithm, by the contents of its AlgorithmIdentifier."""
    with Part("the signature algorithm"):
        parts = der.elements(identifier)
        if not parts:
            raise der.DERError("it is empty")
        algorithm = der.object_identifier(parts[0])
    if algorithm == oids.RSASSA_PSS:
        return (
            f"the request is signed with {oids.display(algorithm)}, which CAs refuse: sign it with SHA-256 "
            "and PKCS #1 v1.5 (openssl: without rsa_padding_mode; certreq: AlternateSignatureAlgorithm = "
            "FALSE; keytool: -sigalg SHA256withRSA)"
        )
    if any(next(_encodings(algorithm)) in known for known in (_RSA, _ECDSA)):
        return f"the signature algorithm {oids.display(algorithm)} has parameters, which mean nothing; {ANEW}"
    return (
        f"the request is signed with {oids.display(algorithm)}: CAs take RSA and ECDSA with SHA-256, SHA-384 "
        "or SHA-512; make it with -sha256"
    )
