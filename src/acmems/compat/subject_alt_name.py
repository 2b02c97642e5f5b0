"""The documented reader of subjectAltName extensions; the server reads CSRs with `acmems.x509` alone."""

from __future__ import annotations

import ipaddress

from pyasn1.codec.der import decoder
from pyasn1.error import PyAsn1Error
from pyasn1_modules import rfc5280

from acmems.x509.identifiers import Identifier


class SubjectAltName(rfc5280.SubjectAltName):  # type: ignore[misc]  # pyasn1 ships no types
    """ASN.1 implementation for subjectAltNames support (RFC 5280 section 4.2.1.6).

    Scripts can read the value of an extension with it, as DER and strictly. Nothing that serves uses it.
    """

    def __init__(
        self,
        componentType: object = None,  # noqa: N803 - published name
        tagSet: object = None,  # noqa: N803 - published name
        subtypeSpec: object = None,  # noqa: N803 - published name
        sizeSpec: object = None,  # noqa: N803 - published name
    ) -> None:
        # pyasn1 has folded the size constraint into the subtype constraint since this was published.
        given = {"componentType": componentType, "tagSet": tagSet, "subtypeSpec": subtypeSpec or sizeSpec}
        super().__init__(**{name: value for name, value in given.items() if value is not None})

    @classmethod
    def read(cls, der: bytes) -> frozenset[Identifier]:
        """Return the names in an encoded subjectAltName extension value.

        Raises:
            ValueError: it is not strict DER, or holds a name that is neither DNS nor IP.
        """
        try:
            names, rest = decoder.decode(der, asn1Spec=cls())
        except PyAsn1Error as error:
            raise ValueError("the subjectAltName extension is not DER") from error
        if rest:
            raise ValueError("bytes follow the subjectAltName extension")
        return frozenset(_identifier(name.getName(), bytes(name.getComponent())) for name in names)


def _identifier(kind: str, value: bytes) -> Identifier:
    if kind == "dNSName":
        return Identifier.dns(value.decode("ascii"))
    if kind == "iPAddress":
        return Identifier.ip(str(ipaddress.ip_address(value)))
    raise ValueError(f"subjectAltName holds a {kind}")
