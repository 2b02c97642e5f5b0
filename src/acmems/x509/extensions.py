"""The extensions that a request asks for, from the attributes in which parsers look for them.

Every parser reads PKCS #9's extensionRequest (RFC 2985 section 5.4.2). Some read Microsoft's or VeriSign's
instead, or as well: those must not tell of names that the first does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from acmems.exceptions import PayloadInvalid
from acmems.x509 import der, oids
from acmems.x509.pkcs10 import ANEW, Attribute, Part, text_of

_FOREIGN = (oids.MICROSOFT_EXTENSION_REQUEST, oids.VERISIGN_EXTENSION_REQUEST)
_KNOWN = {  # and the tag of each one's value
    oids.SUBJECT_ALT_NAME: der.SEQUENCE,
    oids.KEY_USAGE: der.BIT_STRING,
    oids.EXTENDED_KEY_USAGE: der.SEQUENCE,
    oids.BASIC_CONSTRAINTS: der.SEQUENCE,
    oids.SUBJECT_KEY_IDENTIFIER: der.OCTET_STRING,
    oids.TLS_FEATURE: der.SEQUENCE,
}
_CERTIFICATE_SIGN, _CRL_SIGN = 0x04, 0x02  # bits 5 and 6 of a key usage, in its first octet
_END_ENTITY_USAGES = (oids.SERVER_AUTH, oids.CLIENT_AUTH)
_OF_LEAVES = frozenset(  # what certificates of servers and clients have, whoever puts it there
    {
        *_KNOWN,
        bytes.fromhex("551d12"),  # issuerAltName
        bytes.fromhex("551d1f"),  # cRLDistributionPoints
        bytes.fromhex("551d20"),  # certificatePolicies
        bytes.fromhex("551d23"),  # authorityKeyIdentifier
        bytes.fromhex("551d2e"),  # freshestCRL
        bytes.fromhex("2b06010505070101"),  # authorityInfoAccess
        bytes.fromhex("2b06010401d679020402"),  # signed certificate timestamps (RFC 6962 section 3.3)
    }
)
_GRANTED = (oids.SUBJECT_ALT_NAME, oids.TLS_FEATURE)  # what changes the certificate, where it is asked for


class Extension(NamedTuple):
    """An extension that is asked for (RFC 5280 section 4.1.2.9).

    Args:
        critical: whether it is critical.
        value: the one value that its OCTET STRING holds.
    """

    critical: bool
    value: der.Element


def requested(attributes: Iterable[Attribute]) -> Mapping[bytes, Extension]:
    """Return the extensions that attributes ask for, by the contents octets of their object identifiers.

    Args:
        attributes: all attributes of a request.

    Raises:
        PayloadInvalid: one cannot be read, is one that no certificate of ours has, or is not the same to
            every parser.
    """
    found: dict[bytes, dict[bytes, Extension]] = {}
    for attribute in attributes:
        if attribute.type == oids.EXTENSION_REQUEST or attribute.type in _FOREIGN:
            if attribute.type in found:
                raise PayloadInvalid(f"the attribute {oids.display(attribute.type)} is given twice; {ANEW}")
            found[attribute.type] = _extensions(attribute)
        else:
            _check_other(attribute)
    own = found.pop(oids.EXTENSION_REQUEST, {})
    for kind, foreign in found.items():
        _check_agreement(kind, foreign, own)
    return own


def _extensions(attribute: Attribute) -> dict[bytes, Extension]:
    """Read the value of an extension request."""
    found: dict[bytes, Extension] = {}
    with Part("the attribute {}", attribute.type):
        if len(attribute.values) != 1:
            raise der.DERError("it does not have one value")
        for extension in der.alike(der.contents(attribute.values[0], der.SEQUENCE), der.SEQUENCE):
            parts = der.elements(extension.content)
            if len(parts) not in (2, 3):
                raise der.DERError("an extension in it has other parts than type, critical, and value")
            kind = der.object_identifier(parts[0])
            if kind in found:
                raise PayloadInvalid(f"the extension {oids.display(kind)} is requested twice; {ANEW}")
            found[kind] = _extension(kind, parts[1:])
    return found


def _extension(kind: bytes, parts: Sequence[der.Element]) -> Extension:
    """Read what follows the type of an extension, and see that a certificate may have it."""
    with Part("the requested extension {}", kind):
        critical = len(parts) > 1 and der.boolean(parts[0])  # FALSE is the default
        value = der.only(der.contents(parts[-1], der.OCTET_STRING))
        if value.tag != _KNOWN.get(kind, value.tag):
            raise der.DERError("its value is of another type than it should be")
        der.check(value)
        authority = kind == oids.BASIC_CONSTRAINTS and _is_ca(value)
        signs = kind == oids.KEY_USAGE and _signs_certificates(value)
        usages = _further_usages(value) if kind == oids.EXTENDED_KEY_USAGE else []
    if kind == oids.ACME_IDENTIFIER:
        raise PayloadInvalid(
            f"the extension {oids.display(kind)} belongs in tls-alpn-01 challenges only: leave it out"
        )
    if critical and kind not in _KNOWN:
        raise PayloadInvalid(
            f"the critical extension {oids.display(kind)} is not known here: leave it out, or make it one "
            "that is not critical by removing the word `critical` before its value in -addext or openssl.cnf"
        )
    if authority:
        raise PayloadInvalid(f"certificates of CAs are not issued: remove CA:TRUE from {oids.display(kind)}")
    if signs:
        raise PayloadInvalid(
            f"certificates of CAs are not issued: remove keyCertSign and cRLSign from {oids.display(kind)}"
        )
    if usages:
        raise PayloadInvalid(
            f"certificates of servers and clients are issued only: remove {oids.display(usages[0])} from "
            f"{oids.display(kind)}, and leave serverAuth and clientAuth there"
        )
    return Extension(critical, value)


def beyond_leaf(kinds: Iterable[bytes]) -> frozenset[str]:
    """Return which extensions are none that every server's or client's certificate may have.

    Args:
        kinds: the contents octets of their object identifiers.

    Returns:
        the dotted texts of those identifiers.
    """
    return frozenset(der.dotted(kind) for kind in kinds if kind not in _OF_LEAVES)


def _is_ca(value: der.Element) -> bool:
    """Read basicConstraints (RFC 5280 section 4.2.1.9)."""
    parts = der.elements(value.content)
    tags = [part.tag for part in parts]
    if tags not in ([], [der.BOOLEAN], [der.INTEGER], [der.BOOLEAN, der.INTEGER]):  # each may be left out
        raise der.DERError("it holds other values than it should")
    return der.BOOLEAN in tags and der.boolean(parts[0])


def _signs_certificates(value: der.Element) -> bool:
    """Read keyUsage (RFC 5280 section 4.2.1.3); bits that are said to be unused count for some parsers."""
    if not value.content:
        raise der.DERError("it holds a BIT STRING without its first octet")
    return bool(sum(value.content[1:2]) & (_CERTIFICATE_SIGN | _CRL_SIGN))


def _further_usages(value: der.Element) -> list[bytes]:
    """Return the extended key usages (RFC 5280 section 4.2.1.12) beside those of servers and clients."""
    usages = map(der.object_identifier, der.elements(value.content))
    return [usage for usage in usages if usage not in _END_ENTITY_USAGES]


def _check_other(attribute: Attribute) -> None:
    """Read the values of another attribute, and refuse names in it, where some parsers look for them."""
    with Part("the attribute {}", attribute.type):
        for value in attribute.values:
            der.check(value)
    if any(oids.SUBJECT_ALT_NAME in value.encoded for value in attribute.values) or _is_named_san(attribute):
        raise PayloadInvalid(
            f"the attribute {oids.display(attribute.type)} holds a subjectAltName: extensions are requested "
            f"in {oids.display(oids.EXTENSION_REQUEST)}, as `openssl req -addext` does"
        )


def _is_named_san(attribute: Attribute) -> bool:
    """Tell whether it is an enrolment pair `SAN`, where certificate services of Microsoft can find names."""
    if attribute.type != oids.MICROSOFT_ENROLMENT_PAIR:
        return False
    with Part("the attribute {}", attribute.type):
        names = [text_of(der.elements(value.content)[0]) for value in attribute.values if value.content]
    return any(name is not None and name.strip().lower() == "san" for name in names)


def _check_agreement(kind: bytes, foreign: Mapping[bytes, Extension], own: Mapping[bytes, Extension]) -> None:
    """Refuse a second extension request that would make another certificate for whoever reads it."""
    for name, extension in foreign.items():
        differs = own[name] != extension if name in own else name in _GRANTED
        if differs:
            raise PayloadInvalid(
                f"the attribute {oids.display(kind)} requests {oids.display(name)} otherwise than "
                f"{oids.display(oids.EXTENSION_REQUEST)} does, which is where CAs look: request extensions "
                "there only, as `openssl req -addext` does"
            )
