"""Certificate requests, made before anything is measured."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from scripts.benchmark.jobs import NamedCsr

_numbers = itertools.count(1)


def fresh(count: int, whose: str = "bench") -> Sequence[NamedCsr]:
    """Return so many CSRs, each with a P-256 key and a name that no other has.

    The name is common name and subjectAltName: macen answers 500 where there is no common name.

    Args:
        count: how many.
        whose: what their names begin with.
    """
    return [_make(f"{whose}-{number}.example.org") for number in itertools.islice(_numbers, count)]


def with_wildcards(names: Sequence[str]) -> NamedCsr:
    """Return one CSR for some names and the wildcard below each of them.

    Args:
        names: the names.
    """
    return _make(names[0], *(f"{front}{name}" for name in names for front in ("", "*.")))


def _make(name: str, *alternatives: str) -> NamedCsr:
    san = x509.SubjectAlternativeName([x509.DNSName(each) for each in alternatives or (name,)])
    key = ec.generate_private_key(ec.SECP256R1())
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .add_extension(san, critical=False)
        .sign(key, hashes.SHA256())
    )
    return NamedCsr(name, csr.public_bytes(Encoding.PEM).decode())
