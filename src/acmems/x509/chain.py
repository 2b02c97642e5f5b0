"""Certificate chains: leaf first, as CAs deliver them (RFC 8555 section 9.1)."""

from __future__ import annotations

import datetime
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from acmems.exceptions import CertificateUnusable
from acmems.x509 import der
from acmems.x509 import pem as textual
from acmems.x509.csr import CertificateRequest
from acmems.x509.identifiers import Identifier
from acmems.x509.leaf import Grants, SubjectPolicy, excess, listed, ungranted

SKEW = timedelta(minutes=10)
"""How far the clocks of this machine and of the CA may be apart."""

LONG_PAUSE = 3600.0
"""Seconds after which a CA that signs more than was asked for is tried again."""

_LABEL = "CERTIFICATE"
_LONGEST = 256 * 1024  # bytes of PEM; a hundred names make a leaf of some 30 KiB
_MOST_CERTIFICATES = 16
_MOST_READ = 64  # texts whose certificates are kept: what has just come is looked at several times in a row
_SHORT_LIVED = timedelta(days=10)


@dataclass(frozen=True, slots=True)
class Chain:
    """A leaf certificate and those that lead from it towards a root: make it with `parse`.

    Args:
        pem: the certificates in PEM, leaf first, nothing between them.
        spki: the DER of the leaf's public key (SubjectPublicKeyInfo).
        identifiers: the names in the leaf's subjectAltName; sorted, each once.
        not_before: when the leaf becomes valid (aware, UTC).
        not_after: the last moment at which it is (aware, UTC).
        serial: the leaf's serial number.
        issuer: who issued the leaf, one line.
        fingerprint: SHA-256 of the leaf's DER, in hex.
        alternates: where the CA has others for the same leaf; known of a chain that was just issued only.
    """

    pem: bytes = field(repr=False)
    spki: bytes = field(repr=False)
    identifiers: tuple[Identifier, ...]
    not_before: datetime.datetime
    not_after: datetime.datetime
    serial: int
    issuer: str
    fingerprint: str
    alternates: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def is_valid(self, now: datetime.datetime) -> bool:
        """Tell whether the leaf is valid, give or take the clocks' skew at its start."""
        return self.not_before - SKEW <= now and not self.has_expired(now)

    def has_expired(self, now: datetime.datetime) -> bool:
        """Tell whether the leaf's time is over."""
        return now > self.not_after

    def renewal_time(self, renew_within: timedelta | None) -> datetime.datetime:
        """Return when this chain is to be replaced.

        Args:
            renew_within: as for the function `renewal_time`.
        """
        return renewal_time(self.not_before, self.not_after, renew_within)

    def is_fresh(self, now: datetime.datetime, renew_within: timedelta | None) -> bool:
        """Tell whether the leaf is valid and not yet to be replaced."""
        return self.is_valid(now) and now < self.renewal_time(renew_within)


@dataclass(frozen=True, slots=True)
class OfferedChain:
    """A chain as it was issued, and where there are others for the same certificate.

    Args:
        pem: the chain in PEM.
        alternates: the URLs of the others at the CA (RFC 8555 section 7.4.2); none where it offers none.
    """

    pem: bytes = field(repr=False)
    alternates: tuple[str, ...] = ()


def renewal_time(
    not_before: datetime.datetime, not_after: datetime.datetime, renew_within: timedelta | None
) -> datetime.datetime:
    """Return when a chain is to be replaced that is valid from one time to another.

    Args:
        not_before: when its leaf becomes valid (aware).
        not_after: the last moment at which that is (aware).
        renew_within: how long before the end; None for a third of the lifetime, or half of one under ten
            days. More than that share is never used: it would replace new chains.
    """
    lifetime = not_after - not_before
    share = lifetime / (2 if lifetime < _SHORT_LIVED else 3)
    return not_after - (share if renew_within is None else min(renew_within, share))


@functools.lru_cache(maxsize=1024)  # some 3 MB, 20 MB if all had a hundred names
def parse(pem: bytes) -> Chain:
    """Read a chain; stored ones are read again and again, so results are kept.

    Args:
        pem: certificates in PEM, leaf first, with nothing but white space between them.

    Raises:
        ValueError: it is not a chain, or its leaf names something that acmems never asks for.
    """
    return parse_once(pem)


def parse_once(pem: bytes) -> Chain:
    """Read a chain as `parse` does, and keep no result: for whoever looks at all that are stored.

    Raises:
        ValueError: as `parse`.
    """
    with der.reading("the certificate chain", ValueError):
        return _chain(_certificates(pem), pem)


def _chain(certificates: Sequence[x509.Certificate], pem: bytes = b"") -> Chain:
    leaf = certificates[0]
    normal = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
    return Chain(
        pem=pem if pem == normal else normal,  # not both: thousands are kept
        spki=_spki(leaf),
        identifiers=_identifiers(leaf),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        serial=leaf.serial_number,
        issuer=ascii(leaf.issuer.rfc4514_string())[1:-1],
        fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
    )


def fingerprint_of(pem: bytes) -> str | None:
    """Return the fingerprint of the leaf of a chain, which costs less than to read it; None if it is none.

    Args:
        pem: certificates in PEM, leaf first.
    """
    try:
        leaf = textual.blocks(pem, most=_MOST_CERTIFICATES)[0]
    except ValueError:
        return None
    return hashlib.sha256(leaf.der).hexdigest() if leaf.label == _LABEL else None


def leaf_of(pem: bytes) -> x509.Certificate:
    """Return the leaf of a chain, which costs less than to read all that is in it.

    Args:
        pem: certificates in PEM, leaf first.

    Raises:
        ValueError: it is not a chain.
    """
    with der.reading("the certificate chain", ValueError):
        return _certificates(pem)[0]


def issuers(pem: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Return the leaf of a chain, and the common names of who issued its certificates, the leaf's first.

    Args:
        pem: certificates in PEM, leaf first.

    Returns:
        the DER of the leaf, and one name for each certificate; where an issuer has no common name, all of its
        name (RFC 4514).

    Raises:
        ValueError: it is not a chain.
    """
    with der.reading("the certificate chain", ValueError):
        certificates = _certificates(pem)
        names = [_common_name(certificate.issuer) for certificate in certificates]
        return certificates[0].public_bytes(Encoding.DER), tuple(names)


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()


def matches(chain: Chain, request: CertificateRequest) -> bool:
    """Tell whether a chain is for the key and all names of a request; `check_names` looks at further ones."""
    return chain.spki == request.spki and set(chain.identifiers).issuperset(request.identifiers)


def check_names(chain: Chain, request: CertificateRequest, grants: Grants) -> None:
    """See that a chain has every name of a request, and no other that the client may not have.

    Args:
        chain: the chain.
        request: what was asked for.
        grants: tells whether the auth block of the request grants a name.

    Raises:
        CertificateUnusable: it has not.
    """
    if chain.identifiers == request.identifiers:
        return
    if not set(chain.identifiers).issuperset(request.identifiers):
        raise CertificateUnusable(
            f"the CA issued a certificate for other names than asked for: {listed(chain.identifiers)}"
        )
    added = ungranted(chain.identifiers, request.identifiers, grants)
    if added:
        raise CertificateUnusable(
            f"the CA added {listed(added)}, which was not asked for, and the auth block does not grant that: "
            "the certificate is not delivered",
            retry_after=LONG_PAUSE,
        )


def holds_certificates(pem: bytes) -> bool:
    """Tell whether bytes are certificates in PEM, whatever those certify.

    Args:
        pem: what a CA sent as a chain.
    """
    try:
        with der.reading("the certificate chain", ValueError):
            return bool(_certificates(pem))
    except ValueError:
        return False


def read_issued(
    pem: bytes,
    request: CertificateRequest,
    *,
    subject: SubjectPolicy = "dropped",
    grants: Grants = lambda _: False,
) -> Chain:
    """Read a chain that was just issued, and see that it is what was asked for, and no more than that.

    Its dates are not looked at: what the CA has issued is kept, and it is this server's clock that may be
    wrong. `Chain.is_valid` tells.

    The certificates may come in any order and several times, as some CAs send them; the chain returned is
    in order (RFC 8555 section 9.1).

    Args:
        pem: the chain as the CA sent it.
        request: what was asked for.
        subject: what its subject may hold beside names.
        grants: tells whether the auth block of the request grants a name that the CA has added.

    Raises:
        CertificateUnusable: it is for another key or other names, holds what policy has not seen, or is no
            chain.
    """
    try:
        with der.reading("the certificate chain", ValueError):
            ordered, strangers = _in_order(_certificates(pem), request.spki)
            chain = _chain(ordered)
    except ValueError as error:
        raise CertificateUnusable(f"the CA sent no usable chain: {error}") from error
    if chain.spki != request.spki:
        raise CertificateUnusable("the CA issued a certificate for another public key")
    check_names(chain, request, grants)
    with der.reading("the certificate", CertificateUnusable):
        more = excess(ordered[0], chain.identifiers, request, subject)
    if more is not None:
        raise CertificateUnusable(
            f"the CA put more into the certificate than names: {more}; it is not delivered",
            retry_after=LONG_PAUSE,
        )
    if strangers:
        raise CertificateUnusable(
            "the CA sent a broken chain: a certificate in it was not issued by the next"
        )
    return chain


def read_alternate(pem: bytes, first: Chain) -> Chain:
    """Read a further chain that a CA offers for a certificate, as `read_issued` reads the first.

    Args:
        pem: the chain as the CA sent it.
        first: the chain that was checked when it was issued.

    Raises:
        CertificateUnusable: it is for another certificate, broken, or no chain.
    """
    try:
        with der.reading("the certificate chain", ValueError):
            ordered, strangers = _in_order(_certificates(pem), first.spki)
            chain = _chain(ordered)
    except ValueError as error:
        raise CertificateUnusable(f"the CA sent no usable alternate chain: {error}") from error
    if chain.fingerprint != first.fingerprint:
        raise CertificateUnusable("the CA sent an alternate chain of another certificate")
    if strangers:
        raise CertificateUnusable(
            "the CA sent a broken alternate chain: a certificate in it was not issued by the next"
        )
    return chain


def _in_order(
    certificates: Sequence[x509.Certificate], spki: bytes
) -> tuple[list[x509.Certificate], list[x509.Certificate]]:
    """Return certificates leaf first, each followed by its issuer, and each once; and what belongs nowhere.

    A second certificate of an issuer that is in the chain already, such as one that another CA has signed, is
    left out.

    Args:
        certificates: as they came.
        spki: the leaf's public key; where none has it the first is taken for the leaf.
    """
    left = list(dict.fromkeys(certificates))
    leaves = [each for each in left if _spki(each) == spki]
    ordered = [leaves[0] if leaves else left[0]]
    left.remove(ordered[0])
    while not _is_issued_by(ordered[-1], ordered[-1]):
        issuer = next((each for each in left if _is_issued_by(ordered[-1], each)), None)
        if issuer is None:
            break
        ordered.append(issuer)
        left.remove(issuer)
    if not left:
        return ordered, []
    known = {(each.subject, _spki(each)) for each in ordered}
    return ordered, [each for each in left if (each.subject, _spki(each)) not in known]


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@functools.lru_cache(maxsize=_MOST_READ)
def _certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    if len(pem) > _LONGEST:
        raise ValueError("it is too long for a certificate chain")
    found = []
    for block in textual.blocks(pem, most=_MOST_CERTIFICATES):
        if block.label != _LABEL:
            raise ValueError("it holds something other than certificates")
        found.append(x509.load_der_x509_certificate(block.der))
    return tuple(found)


def _identifiers(leaf: x509.Certificate) -> tuple[Identifier, ...]:
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return tuple(sorted({_identifier(name) for name in names}))


def _identifier(name: x509.GeneralName) -> Identifier:
    if isinstance(name, x509.DNSName):
        return Identifier.dns(name.value)
    if isinstance(name, x509.IPAddress):
        return Identifier.ip(str(name.value))
    raise ValueError("the certificate names something other than DNS names and IP addresses")
