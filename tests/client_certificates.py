"""Client certificates, and who signs them."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

_NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "client CA of tests")])


@dataclass
class ClientAuthority:
    """Who signs client certificates."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def pem(self) -> bytes:
        """Its own certificate."""
        now = datetime.datetime.now(datetime.UTC)
        return (
            _builder(_NAME, self.key.public_key(), now)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self.key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )

    def certificate(
        self,
        key: ec.EllipticCurvePrivateKey,
        names: Sequence[x509.GeneralName],
        now: datetime.datetime | None = None,
    ) -> x509.Certificate:
        """Return a certificate for some names that is valid for an hour around a time, by default now."""
        at = now or datetime.datetime.now(datetime.UTC)
        builder = _builder(x509.Name([]), key.public_key(), at)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        return builder.add_extension(usage, critical=False).sign(self.key, hashes.SHA256())

    def der(self, *names: str, now: datetime.datetime | None = None) -> bytes:
        """Return a certificate for some DNS names, with a key of nobody's."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self.certificate(key, [x509.DNSName(name) for name in names], now)
        return made.public_bytes(serialization.Encoding.DER)

    def write(self, path: Path, *names: str) -> None:
        """Write a certificate for some DNS names, and its key, into one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self.certificate(key, [x509.DNSName(name) for name in names])
        path.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        path.chmod(0o600)


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime.datetime
) -> x509.CertificateBuilder:
    hour = datetime.timedelta(hours=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(_NAME)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - hour)
        .not_valid_after(now + hour)
    )
