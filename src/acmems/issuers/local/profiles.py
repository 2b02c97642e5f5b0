"""What stands in the certificates of a local CA, and in its lists of revoked ones (RFC 5280).

Pure rules: who signs, serial numbers and dates come from outside. What the Baseline Requirements (BR) of the
CA/Browser Forum ask beyond RFC 5280 is kept where it makes sense inside.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from acmems.issuers.local.permits import Permits
from acmems.x509.identifiers import Identifier, IdentifierType

ROOT_LIFETIME = datetime.timedelta(days=3652)
INTERMEDIATE_LIFETIME = datetime.timedelta(days=1826)
BACKDATED = datetime.timedelta(minutes=5)
"""How long before it is made a certificate begins: clocks differ."""
ENDS_SOON = datetime.timedelta(days=90)
"""How long before its end operators are told that another intermediate has to be made."""
CRL_LIFETIME = datetime.timedelta(days=7)
"""For which a list is good; a newer one comes long before."""

_Period = tuple[datetime.datetime, datetime.datetime]
_SERIAL_BITS = 127  # of them random (BR section 7.1: at least 64); positive, and at most 20 octets
_SECOND = datetime.timedelta(seconds=1)  # both ends belong to the time in which a certificate is valid
_USAGES = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])


@dataclass(frozen=True, slots=True)
class RevokedCertificate:
    """An entry of a list of revoked certificates.

    Args:
        serial: its serial number.
        at: when it was revoked (aware).
        reason: why, as RFC 5280 section 5.3.1 names it.
    """

    serial: int
    at: datetime.datetime
    reason: str


def random_serial(randbits: Callable[[int], int]) -> int:
    """Return a serial number that nobody can foresee.

    Args:
        randbits: returns so many random bits.
    """
    return randbits(_SERIAL_BITS) | 1 << _SERIAL_BITS - 1 | 1


def root(
    common_name: str, key: ec.EllipticCurvePublicKey, permits: Permits, serial: int, now: datetime.datetime
) -> x509.CertificateBuilder:
    """Return what the certificate of a root is to say."""
    name = _name(common_name)
    return _ca(
        name, name, key, permits, serial, valid=(now - BACKDATED, now + ROOT_LIFETIME), path_length=None
    )


def intermediate(
    issuer: x509.Certificate,
    key: ec.EllipticCurvePublicKey,
    permits: Permits,
    serial: int,
    now: datetime.datetime,
) -> x509.CertificateBuilder:
    """Return what the certificate of an intermediate is to say, which issues leaves and nothing else."""
    (attribute,) = issuer.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = _name(f"{attribute.value!s} intermediate {serial & 0xFFFFFF:06x}")
    end = min(now + INTERMEDIATE_LIFETIME, issuer.not_valid_after_utc)
    builder = _ca(name, issuer.subject, key, permits, serial, valid=(now - BACKDATED, end), path_length=0)
    return builder.add_extension(_USAGES, critical=False).add_extension(authority_of(issuer), critical=False)


def leaf(
    issuer: x509.Certificate,
    authority: x509.AuthorityKeyIdentifier,
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
    identifiers: Iterable[Identifier],
    *,
    serial: int,
    now: datetime.datetime,
    lifetime: datetime.timedelta,
    crl_url: str | None,
) -> x509.CertificateBuilder:
    """Return what the certificate of a machine is to say: its names, and what it may be used for.

    The subject is empty, so the names are critical (section 4.2.1.6).

    Args:
        issuer: the intermediate, which the leaf does not outlive.
        authority: what identifies its key.
        key: the machine's.
        identifiers: its names.
        serial: its serial number.
        now: the time (aware).
        lifetime: of the certificate.
        crl_url: where a list of revoked certificates can be had, None for nowhere.
    """
    start = now - BACKDATED
    valid = start, min(start + lifetime - _SECOND, issuer.not_valid_after_utc)
    is_rsa = isinstance(key, rsa.RSAPublicKey)
    builder = (
        _begun(issuer.subject, x509.Name([]), key, serial, valid)
        .add_extension(_key_usage(digital_signature=True, key_encipherment=is_rsa), critical=True)
        .add_extension(_USAGES, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(authority, critical=False)
        .add_extension(x509.SubjectAlternativeName(map(_general_name, identifiers)), critical=True)
    )
    if crl_url is not None:
        place = x509.DistributionPoint([x509.UniformResourceIdentifier(crl_url)], None, None, None)
        builder = builder.add_extension(x509.CRLDistributionPoints([place]), critical=False)
    return builder


def crl(
    issuer: x509.Certificate,
    authority: x509.AuthorityKeyIdentifier,
    revoked: Iterable[RevokedCertificate],
    number: int,
    now: datetime.datetime,
) -> x509.CertificateRevocationListBuilder:
    """Return what a list of revoked certificates is to say (section 5).

    Args:
        issuer: the intermediate.
        authority: what identifies its key.
        revoked: the entries.
        number: greater than that of every list before.
        now: the time (aware).
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(now)
        .next_update(now + CRL_LIFETIME)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(authority, critical=False)
    )
    for each in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(each.serial).revocation_date(each.at)
        flag = _reason(each.reason)
        if flag is not None:
            entry = entry.add_extension(x509.CRLReason(flag), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder


def _reason(text: str) -> x509.ReasonFlags | None:
    """Return a reason as it is written down; None for one that is not (section 5.3.1: `unspecified`)."""
    try:
        flag = x509.ReasonFlags(text)
    except ValueError:
        return None
    return None if flag is x509.ReasonFlags.unspecified else flag


def authority_of(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Return what identifies the key of an issuer in what it signs."""
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _begun(
    issuer: x509.Name,
    subject: x509.Name,
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
    serial: int,
    valid: _Period,
) -> x509.CertificateBuilder:
    """Return the fields of a certificate, without extensions."""
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
    )


def _ca(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    permits: Permits,
    serial: int,
    *,
    valid: _Period,
    path_length: int | None,
) -> x509.CertificateBuilder:
    """Return what the certificate of any CA says (sections 4.2.1.2, 4.2.1.3, 4.2.1.9, 4.2.1.10)."""
    builder = (
        _begun(issuer, subject, key, serial, valid)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )
    constraints = permits.constraints()
    return builder if constraints is None else builder.add_extension(constraints, critical=True)


def _key_usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(identifier: Identifier) -> x509.GeneralName:
    if identifier.type is IdentifierType.DNS:
        return x509.DNSName(identifier.value)
    return x509.IPAddress(ipaddress.ip_address(identifier.value))
