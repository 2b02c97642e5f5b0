"""The files of a certificate that the server gets for itself: its key, its CSR, and its chain.

The key is made once and leaves this machine never; all processes of a server share these files, and each
machine of several has its own. Until a CA has issued a chain, a certificate stands in that signs itself.
"""

from __future__ import annotations

import datetime
import ipaddress
import logging
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from acmems.frontends.tls.files import UnusableTls, read_material
from acmems.frontends.tls.options import TlsOptions
from acmems.net.tls import TlsMaterial
from acmems.system import files
from acmems.system.permissions import reason
from acmems.x509.identifiers import Identifier, IdentifierType

logger = logging.getLogger(__name__)

_SKEW = datetime.timedelta(hours=1)
_STAND_IN_LIFE = datetime.timedelta(days=365)
_STAND_IN = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "acmems stand-in")])


def ensure(options: TlsOptions, now: datetime.datetime) -> TlsMaterial:
    """Return what is to be shown for the server's own name; what is missing is made.

    Args:
        options: with the name and its files.
        now: the time (aware).

    Raises:
        UnusableTls: a file cannot be read or written.
    """
    if options.name is None or options.key is None or options.certificate is None or options.request is None:
        raise UnusableTls("tls-name", "is not given")
    try:
        if not options.key.exists():
            _create_key(options)
        if not _is_of(_key(options), options.request):
            files.write_atomically(options.request, _csr(_key(options), options.name))
        try:
            material = read_material(options)
        except UnusableTls:  # missing, or of another key
            material = None
        if material is None or (material.is_self_signed and material.not_after < now):
            files.write_atomically(options.certificate, _stand_in(_key(options), options.name, now))
            logger.info(
                "%s shows a certificate that signs itself, until a CA has issued one for it",
                options.name.value,
            )
    except OSError as error:
        raise UnusableTls(
            "tls-name", f"its files cannot be kept: {error.filename}: {reason(error)}"
        ) from None
    return read_material(options)


def keep_chain(options: TlsOptions, pem: bytes) -> None:
    """Put a chain where it is shown from.

    Raises:
        OSError: it cannot be written.
    """
    if options.certificate is not None:
        files.write_atomically(options.certificate, pem)


def _create_key(options: TlsOptions) -> None:
    """Make the key; where another process was faster, that has made it."""
    if options.key is None:
        return
    made = ec.generate_private_key(ec.SECP256R1())
    pem = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        files.create(options.key, pem)
    except FileExistsError:
        return


def _key(options: TlsOptions) -> ec.EllipticCurvePrivateKey:
    """Return the key.

    Raises:
        UnusableTls: there is another kind of key, or none.
    """
    try:
        key = serialization.load_pem_private_key(options.key.read_bytes() if options.key else b"", None)
    except (TypeError, ValueError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UnusableTls("tls-name", f"{options.key} holds no key of acmems: remove it, and one is made")
    return key


def _is_of(key: ec.EllipticCurvePrivateKey, path: Path) -> bool:
    """Tell whether a CSR is there, and is for this key and not for one of before."""
    try:
        request = x509.load_pem_x509_csr(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return request.public_key() == key.public_key()


def _names(identifier: Identifier) -> x509.SubjectAlternativeName:
    if identifier.type is IdentifierType.IP:
        return x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(identifier.value))])
    return x509.SubjectAlternativeName([x509.DNSName(identifier.value)])


def _csr(key: ec.EllipticCurvePrivateKey, identifier: Identifier) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = builder.add_extension(_names(identifier), critical=False).sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def _stand_in(key: ec.EllipticCurvePrivateKey, identifier: Identifier, now: datetime.datetime) -> bytes:
    return (
        x509.CertificateBuilder()
        .subject_name(_STAND_IN)
        .issuer_name(_STAND_IN)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _STAND_IN_LIFE)
        .add_extension(_names(identifier), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
