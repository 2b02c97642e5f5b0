"""The order of the checks of one request, and where it comes from."""

from __future__ import annotations

import base64
import hmac
import io
import ipaddress
import json
import urllib.parse
from collections.abc import Callable
from email.message import Message

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.auth_blocks import block

from acmems import auth
from acmems.auth import Authenticator, Block, Processor, client_ip
from acmems.exceptions import HttpRefusal, PayloadToLarge

LOOPBACK = ("127.0.0.1", 4711)


def csr(*names: str) -> bytes:
    """Return a CSR for these names."""
    san = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(san, False)
    key = ec.generate_private_key(ec.SECP256R1())
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def headers(**fields: str) -> Message:
    """Return request headers; underscores stand for hyphens."""
    message = Message()
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    return message


def claim(body: bytes, secret: str, algorithm: str = "sha256") -> str:
    """Return the header value that signs a body."""
    digest = hmac.new(secret.encode(), body, algorithm).hexdigest()
    return f"hmac name={algorithm}, hash={digest}"


def process(body: bytes, *blocks: Block, address: tuple[str, int] = LOOPBACK, **fields: str) -> Processor:
    """Return the processor of a request."""
    return Processor(
        Authenticator(blocks), address, headers(Content_Length=str(len(body)), **fields), io.BytesIO(body)
    )


class TestProcessor:
    """The order of checks of one request."""

    def test_a_good_request(self) -> None:
        """An acceptable request leaves its CSR and its block."""
        body = csr("a.example.org")
        processor = process(body, block(("domain", "*.example.org"), ("all", "yes")))
        assert processor.acceptable()
        assert processor.request is not None
        assert processor.request.names == ("a.example.org",)
        assert processor.block is not None

    @pytest.mark.threat("auth", "the hash of one block, names of another")
    def test_hash_of_one_block_names_of_another(self) -> None:
        """The hash of one block does not unlock the names of another."""
        body = csr("b.example.org")
        one = block(("domain", "a.example.org"), ("hmac_key", "one"), name="one")
        two = block(("domain", "b.example.org"), ("hmac_key", "two"), name="two")
        assert not process(body, one, two, Authentication=claim(body, "one")).acceptable()
        assert process(body, one, two, Authentication=claim(body, "two")).acceptable()

    @pytest.mark.threat("http", "a body over max-size")
    def test_the_body_of_a_stranger_is_not_read(self) -> None:
        """Where no block can accept the address, the body stays unread, however large."""
        processor = process(b"x" * 10_000, block(("domain", "**"), ("ip", "192.0.2.7")))
        assert not processor.acceptable()
        assert processor.rfile.read(1) == b"x"

    def test_the_parser_never_sees_what_is_not_signed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A body with a wrong HMAC is refused before it is parsed."""
        monkeypatch.setattr(auth.processor, "read_request", lambda *_: pytest.fail("parsed"))
        body = csr("a.example.org")
        locked = block(("domain", "**"), ("hmac_key", "s"))
        assert not process(body, locked, Authentication=claim(body, "other")).acceptable()

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            pytest.param(lambda body: body.replace(b"\n", b""), "line ends are lost", id="curl -d"),
            pytest.param(lambda body: b"csr=" + urllib.parse.quote(body).encode(), "URL encoding", id="form"),
            pytest.param(
                lambda body: b"--a\r\nContent-Disposition: form-data\r\n\r\n" + body,
                "multipart",
                id="curl -F",
            ),
            pytest.param(lambda body: json.dumps(body.decode()).encode(), "JSON", id="JSON"),
            pytest.param(lambda body: body.decode().encode("utf-16"), "UTF-16", id="UTF-16"),
            pytest.param(lambda body: base64.b64decode(body[36:-34]), "DER, not PEM", id="DER"),
            pytest.param(lambda body: body[36:-34], "bare base64", id="base64"),
            pytest.param(lambda _: b"host.csr", "the name of a file", id="no @"),
            pytest.param(lambda _: b"", "the body is empty", id="nothing"),
        ],
    )
    def test_a_body_that_is_not_the_file(
        self, monkeypatch: pytest.MonkeyPatch, change: Callable[[bytes], bytes], words: str
    ) -> None:
        """Where a body is not the file whose HMAC came with it, the operator learns what it is."""
        monkeypatch.setattr(auth.processor, "read_request", lambda *_: pytest.fail("parsed"))
        file = csr("a.example.org")
        locked = block(("domain", "**"), ("hmac_key", "s"))
        processor = process(change(file), locked, Authentication=claim(file, "s"))
        assert not processor.acceptable()
        assert words in processor.reason
        assert "REQUEST-----M" not in processor.reason

    def test_a_wrong_secret(self) -> None:
        """Where the body may be the file, nothing is said of it."""
        body = csr("a.example.org")
        processor = process(
            body, block(("domain", "**"), ("hmac_key", "s")), Authentication=claim(body, "other")
        )
        assert not processor.acceptable()
        assert processor.reason == "the HMAC is not that of this body under a block's secret"

    def test_too_large(self) -> None:
        """A body over the limit is refused with both sizes."""
        with pytest.raises(PayloadToLarge) as caught:
            process(b"x" * 16385, block(("domain", "**"), ("all", "yes"))).acceptable()
        assert (caught.value.size, caught.value.allowed) == (16385, 16384)

    @pytest.mark.parametrize("length", ["-1", "+5", "1_0", "5 5", "٣", "9" * 5000, ""])
    def test_odd_lengths(self, length: str) -> None:
        """A Content-Length that is not plain digits is refused."""
        processor = Processor(
            Authenticator((block(("domain", "**"), ("all", "yes")),)),
            LOOPBACK,
            headers(Content_Length=length),
            io.BytesIO(),
        )
        with pytest.raises((HttpRefusal, PayloadToLarge)):
            processor.acceptable()

    def test_no_length(self) -> None:
        """Without a Content-Length the answer is 411."""
        everyone = Authenticator((block(("domain", "**"), ("all", "yes")),))
        with pytest.raises(HttpRefusal) as caught:
            Processor(everyone, LOOPBACK, headers(), io.BytesIO()).acceptable()
        assert caught.value.status == 411

    def test_no_blocks_accept_nobody(self) -> None:
        """Without auth blocks nothing is acceptable."""
        assert not process(csr("a.example.org")).acceptable()

    @pytest.mark.threat("http", "chunked bodies")
    def test_a_body_that_came_in_chunks_needs_no_length(self) -> None:
        """Where the body was put together of chunks it may be as long as `max-size`, and is read whole."""
        body = csr("www.example.org")
        anyone = block(("domain", "**"), ("all", "yes"))
        processor = Processor(
            Authenticator((anyone,)), LOOPBACK, headers(), io.BytesIO(body), is_chunked=True
        )
        assert processor.admit() == auth.MAX_SIZE
        assert processor.grant().request.names == ("www.example.org",)


class TestClientAddress:
    """Where a request comes from."""

    @pytest.mark.threat("http", "X-Forwarded-For")
    @pytest.mark.parametrize(
        ("peer", "forwarded", "address"),
        [
            ("192.0.2.7", "198.51.100.1", "192.0.2.7"),
            ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "203.0.113.9, 198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),
            ("10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
            ("::ffff:192.0.2.7", "", "192.0.2.7"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "nonsense", None),
        ],
    )
    def test_forwarded_addresses(self, peer: str, forwarded: str, address: str | None) -> None:
        """X-Forwarded-For counts from a trusted proxy only, and then its rightmost untrusted hop."""
        fields = headers(X_Forwarded_For=forwarded) if forwarded else headers()
        expected = ipaddress.ip_address(address) if address else None
        assert client_ip(peer, fields, [ipaddress.ip_network("10.0.0.0/8")]) == expected
