"""What goes over the wire of EST: base64 bodies, certs-only messages, and HTTP Basic."""

from __future__ import annotations

import base64
import binascii
import re
import textwrap
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from acmems.auth.headers import Headers, header_values
from acmems.exceptions import PayloadInvalid
from acmems.net.http import HttpResponse
from acmems.text import Secret

CHALLENGE: Final = 'Basic realm="EST", charset="UTF-8"'
"""What clients are asked for that have shown nothing (RFC 7617)."""

_BLANKS = re.compile(rb"[ \t\r\n]+")
_BASIC = re.compile(r"basic +([A-Za-z0-9+/]+={0,2})", re.ASCII | re.IGNORECASE)
_LONGEST = 1024  # characters of credentials
_PEM = b"-----BEGIN "
_WIDTH = 64


def request_pem(body: bytes) -> bytes:
    """Return the CSR of a body as PEM, always in the same form.

    A `Content-Transfer-Encoding` is ignored (RFC 8951 section 3): the body is base64. PEM is taken as well,
    since that is the same with a line before and one after it.

    Raises:
        PayloadInvalid: it is neither.
    """
    if body.lstrip().startswith(_PEM):
        return body
    try:
        der = base64.b64decode(_BLANKS.sub(b"", body), validate=True)
    except binascii.Error:
        raise PayloadInvalid("the body is not the base64 of a CSR in DER, as RFC 8951 wants it") from None
    text = "\n".join(textwrap.wrap(base64.b64encode(der).decode("ascii"), _WIDTH))
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n".encode("ascii")


def certificates_response(certificates: Sequence[x509.Certificate], *, is_enrolled: bool) -> HttpResponse:
    """Return the answer that carries certificates, as a certs-only CMC message (RFC 7030 section 4.1.3).

    Args:
        certificates: what it carries.
        is_enrolled: whether it carries what was issued, rather than certificates of CAs.
    """
    der = pkcs7.serialize_certificates(list(certificates), Encoding.DER)
    kind = "application/pkcs7-mime; smime-type=certs-only" if is_enrolled else "application/pkcs7-mime"
    return HttpResponse(200, base64.encodebytes(der), kind, {"Content-Transfer-Encoding": "base64"})


def basic_password(headers: Headers) -> Secret | None:
    """Return the password of HTTP Basic, None where there is none; the name of the user says nothing here."""
    sent = header_values(headers, "Authorization")
    match = _BASIC.fullmatch(sent[0].strip(" \t")) if len(sent) == 1 and len(sent[0]) <= _LONGEST else None
    if match is None or len(match[1]) % 4:
        return None
    try:
        _, colon, password = base64.b64decode(match[1], validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return Secret(password) if colon and password else None
