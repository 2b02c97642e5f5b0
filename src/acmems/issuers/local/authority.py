"""The keys of a local CA: what they sign."""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from acmems.exceptions import InvalidDomainName, LocalCaUnusable, PayloadInvalid
from acmems.issuers.local import profiles
from acmems.issuers.local.permits import Permits
from acmems.issuers.local.profiles import RevokedCertificate
from acmems.x509 import keys
from acmems.x509.csr import CertificateRequest

RandomBits = Callable[[int], int]
"""Returns so many random bits."""

_LAST = datetime.timedelta(hours=1)  # of an intermediate; no leaf is worth being signed in it


@dataclass(frozen=True, slots=True)
class RootAuthority:
    """A root with its key, which is needed to make intermediates and for nothing else.

    Args:
        certificate: that of the root.
        key: its private key.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def make(
        cls,
        common_name: str,
        permits: Permits,
        now: datetime.datetime,
        randbits: RandomBits = secrets.randbits,
    ) -> Self:
        """Make a root.

        Args:
            common_name: its name.
            permits: what it may issue for.
            now: the time (aware).
            randbits: for its serial number.
        """
        key = ec.generate_private_key(ec.SECP384R1())
        serial = profiles.random_serial(randbits)
        builder = profiles.root(common_name, key.public_key(), permits, serial, now)
        return cls(builder.sign(key, hashes.SHA384()), key)

    def intermediate(
        self, now: datetime.datetime, randbits: RandomBits = secrets.randbits
    ) -> IssuingAuthority:
        """Make an intermediate, which may issue what the root permits.

        Args:
            now: the time (aware).
            randbits: for its serial number.
        """
        key, permits = ec.generate_private_key(ec.SECP256R1()), Permits.of(self.certificate)
        serial = profiles.random_serial(randbits)
        builder = profiles.intermediate(self.certificate, key.public_key(), permits, serial, now)
        return IssuingAuthority.of(self.certificate, builder.sign(self.key, hashes.SHA384()), key)


@dataclass(frozen=True, slots=True)
class IssuingAuthority:
    """An intermediate with its key, and the root that it leads to: make it with `of`.

    Args:
        root: the root's certificate.
        certificate: the intermediate's.
        key: its private key.
        permits: what it may issue for, by its certificate.
        pem: its certificate in PEM.
        root_pem: the root's.
        identifier: what identifies its key in what it signs.
    """

    root: x509.Certificate
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    permits: Permits
    pem: bytes = field(repr=False)
    root_pem: bytes = field(repr=False)
    identifier: x509.AuthorityKeyIdentifier = field(repr=False)

    @classmethod
    def of(
        cls, root: x509.Certificate, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> Self:
        """Return what signs by an intermediate's key.

        Raises:
            ValueError: the certificates do not say what those of a local CA do.
        """
        identifier = profiles.authority_of(certificate)
        pem = certificate.public_bytes(Encoding.PEM)
        root_pem = root.public_bytes(Encoding.PEM)
        return cls(root, certificate, key, Permits.of(certificate), pem, root_pem, identifier)

    def issue(
        self,
        request: CertificateRequest,
        now: datetime.datetime,
        *,
        permits: Permits,
        lifetime: datetime.timedelta,
        crl_url: str | None = None,
        randbits: RandomBits = secrets.randbits,
    ) -> bytes:
        """Sign a certificate, and return it and the intermediate's in PEM.

        Args:
            request: what is asked for, and was granted.
            now: the time (aware).
            permits: what the configuration lets it issue for; what its certificate says holds as well.
            lifetime: of the certificate.
            crl_url: where a list of revoked certificates can be had, None for nowhere.
            randbits: for the serial number.

        Raises:
            InvalidDomainName: it may not issue for a name.
            PayloadInvalid: a must-staple certificate is asked for, and nobody could staple anything to it.
            LocalCaUnusable: the intermediate has expired, or is about to.
        """
        self._check(request, permits)
        end = self.certificate.not_valid_after_utc
        if now + _LAST > end:
            raise LocalCaUnusable(
                f"its intermediate certificate ends at {end:%Y-%m-%d %H:%M} UTC: move it and its key away, "
                f"and 'acmems ca init' makes another one"
            )
        builder = profiles.leaf(
            self.certificate,
            self.identifier,
            keys.load(request.spki),
            request.identifiers,
            serial=profiles.random_serial(randbits),
            now=now,
            lifetime=lifetime,
            crl_url=crl_url,
        )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM) + self.pem

    def _check(self, request: CertificateRequest, permits: Permits) -> None:
        refused = permits.refused(request.identifiers) or self.permits.refused(request.identifiers)
        if refused:
            errors = [
                InvalidDomainName(each.value, "no 'permit' of the local CA covers it") for each in refused
            ]
            raise errors[0].together(errors[1:])
        if request.must_staple:
            raise PayloadInvalid(
                "a local CA has no OCSP responder, so there is nothing to staple: ask without must-staple"
            )

    def crl(self, revoked: Iterable[RevokedCertificate], number: int, now: datetime.datetime) -> bytes:
        """Return a list of revoked certificates in DER.

        Args:
            revoked: its entries.
            number: greater than that of every list before.
            now: the time (aware).
        """
        builder = profiles.crl(self.certificate, self.identifier, revoked, number, now)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)
