"""What a body is that should have been a PEM text, told by its bytes alone.

Clients send files by the wrong option of their tool, or files of the wrong kind. Nothing is parsed here,
so that a body may be looked at before it is known who sent it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from acmems.x509 import pem

_SPACE = b" \t\r\n\f\v"
_SEQUENCE, _LONG_LENGTH = 0x30, 0x80  # how every certificate request begins in DER
_BEGIN_LINE = re.compile(
    rb"(?:\A(?:\xef\xbb\xbf)?|[\r\n])[ \t]*+-----BEGIN [A-Z0-9 ]{1,40}-----[ \t]*+[\r\n]"
)
_LINE_END = re.compile(rb"[\r\n]")
_BASE64 = re.compile(rb"MI[A-Za-z0-9+/_-]++={0,2}")  # how every certificate request begins in base64
_FORM_ENCODED = re.compile(rb"(?:-|%2d){5}BEGIN(?:\+|%20)", re.IGNORECASE)
_FILE_NAME = re.compile(rb"@?[A-Za-z0-9_./\\:~ -]{1,250}\.(?:csr|pem|req|p10|der|txt)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class BodyFormat:
    """A form in which certificate requests come by mistake.

    Args:
        name: what it is called.
        remedy: what its sender does instead.
    """

    name: str
    remedy: str


EMPTY = BodyFormat("empty", "with curl, name the file by --data-binary @host.csr")
DER = BodyFormat(
    "DER, not PEM",
    "make it without -outform DER, or convert it: openssl req -inform DER -in host.der -out host.csr",
)
BASE64 = BodyFormat(
    "bare base64, not PEM",
    "put a line -----BEGIN CERTIFICATE REQUEST----- before it and -----END CERTIFICATE REQUEST----- after it",
)
MULTIPART = BodyFormat(
    "a multipart form", "send the file alone as the body: with curl by --data-binary @host.csr, not by -F"
)
URL_ENCODED = BodyFormat(
    "a form with URL encoding",
    "send the file alone as the body: with curl by --data-binary @host.csr, not by --data-urlencode",
)
JSON = BodyFormat("JSON", "send the PEM text itself as the body: with curl by --data-binary @host.csr")
UTF16 = BodyFormat("UTF-16 text", "save it as ASCII: in PowerShell by Set-Content -Encoding ascii")
LINE_ENDS_LOST = BodyFormat(
    "PEM whose line ends are lost",
    "with curl, send it by --data-binary @host.csr, not by -d; in a shell, quote a variable that holds it",
)
LINE_ENDS_ESCAPED = BodyFormat(
    "PEM whose line ends are written as \\n", "send the file itself: with curl by --data-binary @host.csr"
)
FILE_NAME = BodyFormat(
    "the name of a file", "with curl, put an @ before it to send what is in it: --data-binary @host.csr"
)


def recognise(body: bytes) -> BodyFormat | None:
    """Return what a body seems to be, None if it may be a PEM text.

    Args:
        body: the bytes that were sent.
    """
    bare = body.strip(_SPACE)
    if not bare:
        return EMPTY
    if pem.utf16_codec(body):
        return UTF16
    if is_multipart(body):
        return MULTIPART
    if _BEGIN_LINE.search(body):
        return None
    if len(body) > 1 and body[0] == _SEQUENCE and body[1] >= _LONG_LENGTH:
        return DER
    if bare[:1] + bare[-1:] in (b"{}", b"[]", b'""'):
        return JSON
    if _FORM_ENCODED.search(bare):
        return URL_ENCODED
    if b"-----BEGIN " in bare and not _LINE_END.search(bare):
        return LINE_ENDS_ESCAPED if rb"-----\n" in bare else LINE_ENDS_LOST
    if _BASE64.fullmatch(bare.translate(None, _SPACE)):
        return BASE64
    return FILE_NAME if _FILE_NAME.fullmatch(bare) else None


def is_multipart(body: bytes) -> bool:
    """Tell whether a body is a form whose parts are files or fields (RFC 7578), one of them PEM perhaps."""
    boundary = body.startswith(b"--") and not body.startswith(b"-----BEGIN ")
    return boundary and b"content-disposition:" in body[:1000].lower()
