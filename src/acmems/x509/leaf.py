"""What an issued certificate may hold: what policy has looked at, and what every leaf has.

Auth blocks grant names and nothing else. A CA that copies what else stands in a CSR would let clients
choose it: an organisation, the right to sign certificates or code, an identity of Microsoft's directory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Literal

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from acmems.text import one_line
from acmems.x509 import oids
from acmems.x509.csr import CertificateRequest
from acmems.x509.identifiers import Identifier

SubjectPolicy = Literal["dropped", "names", "copied", "any"]
"""What beside granted names may stand in the subject of an issued certificate: nothing (`dropped`, and
`names`, which also refuses CSRs with more), what the CSR holds (`copied`), or whatever the CA puts there."""

Grants = Callable[[Identifier], bool]
"""Tells whether the auth block of a request grants a name."""

_END_ENTITY_USAGES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
_FEW = 5


def excess(
    leaf: x509.Certificate,
    names: Collection[Identifier],
    request: CertificateRequest,
    subject: SubjectPolicy,
) -> str | None:
    """Return what a certificate holds beside its names that policy does not allow, None if nothing.

    Args:
        leaf: the certificate.
        names: those in its subjectAltName, all of them granted.
        request: what it was asked for with.
        subject: what its subject may hold.

    Raises:
        ValueError: it cannot be read.
    """
    found = [*_usages(leaf, request), *_subject(leaf, names, request, subject)]
    return "; ".join(found) or None


def ungranted(
    names: Collection[Identifier], requested: Collection[Identifier], grants: Grants
) -> list[Identifier]:
    """Return the names of a certificate that were neither asked for nor are granted by the block."""
    return [name for name in names if name not in requested and not grants(name)]


def listed(identifiers: Collection[Identifier]) -> str:
    """List a few names for a message."""
    shown = ", ".join(identifier.value for identifier in list(identifiers)[:_FEW])
    return shown + (", ..." if len(identifiers) > _FEW else "")


def _usages(leaf: x509.Certificate, request: CertificateRequest) -> Iterator[str]:
    """Say which extensions allow more than a server or client needs (RFC 5280 section 4.2.1)."""
    for extension in leaf.extensions:
        kind, value = extension.oid.dotted_string, extension.value
        if isinstance(value, x509.BasicConstraints):
            if value.ca:
                yield "it is the certificate of a CA (CA:TRUE)"
        elif isinstance(value, x509.KeyUsage):
            if value.key_cert_sign or value.crl_sign:
                yield "its key may sign certificates or CRLs (keyCertSign, cRLSign)"
        elif isinstance(value, x509.ExtendedKeyUsage):
            others = [
                oids.display_dotted(usage.dotted_string) for usage in value if usage not in _END_ENTITY_USAGES
            ]
            if others:
                yield f"it has extended key usages beside serverAuth and clientAuth: {_few(others)}"
        elif kind in request.further_extensions:
            yield f"it has the extension {oids.display_dotted(kind)} as the CSR asks for it"


def _subject(
    leaf: x509.Certificate,
    names: Collection[Identifier],
    request: CertificateRequest,
    policy: SubjectPolicy,
) -> Iterator[str]:
    """Say what the subject holds beside granted names, unless that is allowed."""
    if policy == "any":
        return
    allowed = request.subject if policy == "copied" else frozenset()
    granted = {"", *(name.value for name in names)}  # an empty common name names nothing
    more = []
    for attribute in leaf.subject:
        kind, value = attribute.oid.dotted_string, attribute.value
        text = value.hex() if isinstance(value, bytes) else value
        is_name = attribute.oid == NameOID.COMMON_NAME and text.isascii() and text.lower() in granted
        if not is_name and (kind, text) not in allowed:
            more.append(attribute.rfc4514_string())
    if more:
        yield f"its subject holds more than granted names: {_few(more)}"


def _few(texts: Collection[str]) -> str:
    """List a few texts that the CA has signed, for a message."""
    return one_line(", ".join(list(texts)[:_FEW]) + (", ..." if len(texts) > _FEW else ""), 200)
