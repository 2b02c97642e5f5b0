"""The structure of certification requests, PKCS #10 (RFC 2986 section 4): one reading of it, or none.

What cannot change names, key or signature is accepted however it is encoded: the order of sets, version
numbers that nobody looks at, odd strings in a subject. What other parsers might read otherwise is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple

from acmems.exceptions import PayloadInvalid
from acmems.x509 import der, oids

_VERSIONS = (b"\0", b"\1", b"\2")  # 0 is v1; some libraries wrote the numbers of X.509's versions
_REQUEST = [der.SEQUENCE, der.SEQUENCE, der.BIT_STRING]  # the tags of its parts
_INFO = [der.INTEGER, der.SEQUENCE, der.SEQUENCE, 0xA0]
_STRING_CODECS = {
    0x0C: "utf-8",  # UTF8String
    0x1C: "utf-32-be",  # UniversalString
    0x1E: "utf-16-be",  # BMPString
}
_ONE_OCTET_STRINGS = frozenset({0x12, 0x13, 0x14, 0x16, 0x1A})  # Numeric, Printable, T61, IA5, Visible

ANEW = "make the request anew, as `openssl req -new` does"


class Attribute(NamedTuple):
    """An attribute of a request (RFC 2986 section 4.1).

    Args:
        type: the contents octets of its object identifier.
        values: its values; what is within them is not read yet.
    """

    type: bytes
    values: list[der.Element]


class CertificationRequest(NamedTuple):
    """A certification request, taken apart: make it with `read`.

    Args:
        info: the DER of what is signed.
        subject: the attributes of the subject: the contents octets of each one's object identifier, and its
            text; where it is of no string type, the hex of its contents.
        spki: the DER of the public key.
        attributes: the attributes, in their order.
        algorithm: the contents of the signature's AlgorithmIdentifier (RFC 5280 section 4.1.1.2).
        signature: the signature's octets.
    """

    info: bytes
    subject: tuple[tuple[bytes, str], ...]
    spki: bytes
    attributes: tuple[Attribute, ...]
    algorithm: bytes
    signature: bytes

    @property
    def common_names(self) -> tuple[str, ...]:
        """The texts of all common names in the subject."""
        return tuple([text for kind, text in self.subject if kind == oids.COMMON_NAME])


class Part:
    """A part of a request while it is read: what is wrong with its DER becomes a refusal that names it.

    Args:
        name: what it is called, with braces where its object identifier belongs.
        identifier: the contents octets of that.

    Raises:
        PayloadInvalid: it is not DER, or not what belongs there.
    """

    __slots__ = ("_identifier", "_name")

    def __init__(self, name: str, identifier: bytes = b"") -> None:
        self._name = name
        self._identifier = identifier

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, der.DERError):
            name = self._name.format(oids.display(self._identifier)) if self._identifier else self._name
            raise PayloadInvalid(f"{name} cannot be read: {error}; {ANEW}") from None


def read(encoded: bytes) -> CertificationRequest:
    """Take a request apart.

    Args:
        encoded: its DER.

    Raises:
        PayloadInvalid: it is none, or one that others could read otherwise.
    """
    with Part("the certificate request"):
        parts = der.elements(der.contents(der.only(encoded), der.SEQUENCE))
        if [part.tag for part in parts] != _REQUEST:
            raise der.DERError("it does not hold what is signed, an algorithm, and a signature")
        info, algorithm, signature = parts
        if signature.content[:1] != b"\0":
            raise der.DERError("its signature is not whole octets")
        parts = der.elements(info.content)
        tags = [part.tag for part in parts]
        if tags == _INFO[:-1]:
            raise der.DERError("its attributes are left out, where CAs want at least an empty set")
        if tags != _INFO:
            raise der.DERError("it does not hold version, subject, public key, and attributes")
        version, subject, spki, attributes = parts
        if version.content not in _VERSIONS:
            raise der.DERError("its version is none of PKCS #10")
    with Part("the subject"):
        read_subject = tuple(_subject(subject))
    with Part("the attributes"):
        read_attributes = tuple(map(_attribute, der.alike(attributes.content, der.SEQUENCE)))
    return CertificationRequest(
        info.encoded, read_subject, spki.encoded, read_attributes, algorithm.content, signature.content[1:]
    )


def text_of(value: der.Element) -> str | None:
    """Return the text of a string, None if it is of no string type.

    Types of one octet a character are read as Latin-1, of which ASCII is a part.

    Raises:
        DERError: it is not text of its type.
    """
    if value.tag in _ONE_OCTET_STRINGS:
        return value.content.decode("latin-1")
    codec = _STRING_CODECS.get(value.tag)
    if codec is None:
        return None
    try:
        return value.content.decode(codec)
    except UnicodeDecodeError:
        raise der.DERError(f"its text is not {codec.upper()}") from None


def _subject(subject: der.Element) -> Iterator[tuple[bytes, str]]:
    """Read the attributes of the subject, whatever sets they stand in (RFC 5280 section 4.1.2.4)."""
    for relative_name in der.alike(subject.content, der.SET):
        for attribute in der.alike(relative_name.content, der.SEQUENCE):
            kind, value = _pair(attribute)
            with Part("the attribute {} of the subject", kind):
                der.check(value)
                text = text_of(value)
                if text is None and kind == oids.COMMON_NAME:
                    raise der.DERError("it is no text")
                yield kind, value.content.hex() if text is None else text


def _attribute(attribute: der.Element) -> Attribute:
    kind, values = _pair(attribute)
    with Part("the attribute {}", kind):
        return Attribute(kind, der.elements(der.contents(values, der.SET)))


def _pair(attribute: der.Element) -> tuple[bytes, der.Element]:
    """Read the type of an attribute, and what follows it."""
    parts = der.elements(attribute.content)
    if len(parts) != 2:  # noqa: PLR2004 - a pair
        raise der.DERError("an attribute in it is not a type and what belongs to it")
    return der.object_identifier(parts[0]), parts[1]
