"""What a body is that should have been a PEM text."""

from __future__ import annotations

import base64
import contextlib
import json
import urllib.parse

import pytest
from tests import der
from tests.der import Draft

from acmems.exceptions import PayloadInvalid
from acmems.x509 import csr, formats, pem
from acmems.x509.formats import BodyFormat

DER = Draft().der
PEM = der.pem(DER)
MULTIPART = (
    b"--------------------------d74496d66958873e\r\n"
    b'Content-Disposition: form-data; name="csr"; filename="host.csr"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n"
    + PEM
    + b"\r\n--------------------------d74496d66958873e--\r\n"
)

MISTAKES = [
    pytest.param(b"", formats.EMPTY, id="nothing"),
    pytest.param(b" \r\n", formats.EMPTY, id="white space"),
    pytest.param(DER, formats.DER, id="DER"),
    pytest.param(Draft(key=der.rsa_key()).der, formats.DER, id="longer DER"),
    pytest.param(DER + b"\n", formats.DER, id="DER and a line end"),
    pytest.param(base64.b64encode(DER), formats.BASE64, id="base64"),
    pytest.param(base64.encodebytes(DER), formats.BASE64, id="base64 in lines"),
    pytest.param(base64.urlsafe_b64encode(DER).rstrip(b"="), formats.BASE64, id="base64url"),
    pytest.param(MULTIPART, formats.MULTIPART, id="multipart, as curl -F sends it"),
    pytest.param(MULTIPART.lower(), formats.MULTIPART, id="multipart in small letters"),
    pytest.param(
        urllib.parse.urlencode({"csr": PEM.decode()}).encode(), formats.URL_ENCODED, id="form with a key"
    ),
    pytest.param(urllib.parse.quote(PEM).encode(), formats.URL_ENCODED, id="curl --data-urlencode"),
    pytest.param(
        urllib.parse.quote(PEM).replace("-", "%2D").encode(), formats.URL_ENCODED, id="dashes encoded, too"
    ),
    pytest.param(json.dumps({"csr": PEM.decode()}).encode(), formats.JSON, id="JSON with PEM in it"),
    pytest.param(json.dumps({"csr": "MII"}, indent=1).encode(), formats.JSON, id="JSON in lines"),
    pytest.param(json.dumps(PEM.decode()).encode() + b"\n", formats.JSON, id="JSON string"),
    pytest.param(PEM.replace(b"\n", b""), formats.LINE_ENDS_LOST, id="curl -d"),
    pytest.param(b"text: " + PEM.replace(b"\n", b""), formats.LINE_ENDS_LOST, id="curl -d of text and PEM"),
    pytest.param(PEM.replace(b"\n", b" "), formats.LINE_ENDS_LOST, id="variable without quotes"),
    pytest.param(PEM.replace(b"\n", rb"\n"), formats.LINE_ENDS_ESCAPED, id="escaped line ends"),
    pytest.param(b"host.csr", formats.FILE_NAME, id="name of a file"),
    pytest.param(b"/etc/ssl/my host.pem\n", formats.FILE_NAME, id="path of a file"),
]


class TestRecognise:
    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            *MISTAKES,
            pytest.param(PEM.decode().encode("utf-16"), formats.UTF16, id="UTF-16"),
            pytest.param(PEM.decode().encode("utf-16-be"), formats.UTF16, id="UTF-16, no byte order mark"),
            pytest.param("host".encode("utf-16"), formats.UTF16, id="UTF-16 of anything"),
        ],
    )
    def test_mistakes(self, body: bytes, expected: BodyFormat) -> None:
        """Each form in which requests come by mistake is known by its bytes."""
        assert formats.recognise(body) is expected

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(PEM, id="PEM"),
            pytest.param(b"\xef\xbb\xbf" + PEM, id="byte order mark"),
            pytest.param(b"[root@host ~]# cat host.csr\n" + PEM + b"[root@host ~]", id="text in brackets"),
            pytest.param(b"--\n" + PEM, id="dashes before"),
            pytest.param(PEM.replace(b"\n", b"\r"), id="CR"),
            pytest.param(b"garbage", id="a word"),
            pytest.param(b"0", id="a digit"),
            pytest.param(b"\0" * 100, id="NULs"),
        ],
    )
    def test_others(self, body: bytes) -> None:
        """What may be PEM, or is nothing that is sent by mistake, has no name."""
        assert formats.recognise(body) is None


class TestRefusals:
    @pytest.mark.parametrize(("body", "form"), MISTAKES)
    def test_what_it_is_and_what_to_do(self, body: bytes, form: BodyFormat) -> None:
        """A client is told what it sent instead of PEM, and what to do."""
        with pytest.raises(PayloadInvalid) as caught:
            csr.parse(body)
        assert form.name in str(caught.value)
        assert form.remedy in str(caught.value)

    def test_utf16_without_a_request(self) -> None:
        """A text in UTF-16 is read as text; what is wrong with it is told as of any other."""
        with pytest.raises(PayloadInvalid, match="bare base64"):
            csr.parse(base64.b64encode(DER).decode().encode("utf-16"))

    @pytest.mark.parametrize("first", ["ascii", "utf-16-le"])
    @pytest.mark.parametrize("second", ["ascii", "utf-16-le"])
    def test_a_private_key_in_utf16(self, first: str, second: str) -> None:
        """A private key is noticed in UTF-16 as well, and where only one of the two is in it."""
        key = "-----BEGIN PRIVATE KEY-----\nMII=\n-----END PRIVATE KEY-----\n"
        with pytest.raises(PayloadInvalid, match="keep that secret"):
            csr.parse(key.encode(first) + PEM.decode().encode(second))


@pytest.mark.parametrize(
    "unit",
    [
        b"-----BEGIN CERTIFICATE REQUEST-----\n",
        b"-----BEGIN ",
        b"-----END CERTIFICATE REQUEST-----\n",
        b"\n",
        b" ",
        b"\n" + b" " * 400,
        b"M",
        b"A \n",
        b"-",
        b"%2d",
        b"a.",
        b"\0-",
        b"--BEGIN ",
    ],
)
@pytest.mark.parametrize("begin", [b"", b"\n", b"MI", b"-----BEGIN CERTIFICATE REQUEST-----\n"])
@pytest.mark.parametrize("end", [b"", b"!", b"\n-----END CERTIFICATE REQUEST-----"])
def test_long_bodies(begin: bytes, unit: bytes, end: bytes) -> None:
    """A long body is looked at once: in the square of its length it would take minutes."""
    body = begin + unit * (300_000 // len(unit)) + end
    formats.recognise(body)
    with contextlib.suppress(ValueError):
        pem.only_block(pem.plain_text(body))
