"""Who asks, and may they: claims, methods, blocks, and the order of checks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import ipaddress
import json
import urllib.parse
from collections.abc import Callable, Mapping
from email.message import Message

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from acmems import auth
from acmems.auth import (
    AllAuthMethod,
    Authenticator,
    Block,
    Caller,
    Claim,
    HmacAuthMethod,
    IPAuthMethod,
    Processor,
    SubjectAltName,
    client_ip,
)
from acmems.challenges import ChallengeResponses, Http01, Validator
from acmems.exceptions import ConfigurationError, HttpRefusal, PayloadToLarge
from acmems.storages import NoStorage, Storage
from acmems.text import Secret
from acmems.x509.identifiers import Identifier

DIGEST = "ab" * 32
LOOPBACK = ("127.0.0.1", 4711)


class Rooms:
    """A configuration with one http-01 validator and one storage."""

    validators: Mapping[str, Validator] = {"http": Http01("http", (), ChallengeResponses())}
    storages: Mapping[str, Storage] = {"none": NoStorage("none")}
    default_validators: tuple[Validator, ...] = (validators["http"],)
    default_storage: Storage = storages["none"]


def block(*pairs: tuple[str, str], name: str = "b") -> Block:
    """Return a block with these options."""
    return Block(name, pairs, Rooms())


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


class TestClaims:
    """The Authentication header."""

    @pytest.mark.parametrize(
        "value",
        [
            f"hmac name=sha256, hash={DIGEST}",
            f"hmac name=sha256,hash={DIGEST}",
            f"hmac name=sha256 hash={DIGEST}",
            f"hmac name=sha2-256, hash={DIGEST}",
            f"HMAC name=SHA256, hash={DIGEST}",
            f"hmac hash={DIGEST}, name=sha256",
            f"  hmac name=sha256, hash={DIGEST} ",
        ],
    )
    def test_good_ones(self, value: str) -> None:
        """Separators are comma, space or both; OpenSSL 3's names are the same algorithms."""
        assert Claim.from_headers(headers(Authentication=value)) == Claim("sha256", DIGEST)

    @pytest.mark.threat("auth", "a malformed Authentication header", "other hash algorithms")
    @pytest.mark.parametrize(
        "value",
        [
            "",
            "hmac",
            "hmac name=sha256",
            "hmac name=sha256, hash=",
            f'hmac name="sha256", hash="{DIGEST}"',
            f"hmac name=sha256, hash={DIGEST}, hash={DIGEST}",
            f"hmac name=sha256, name=sha256, hash={DIGEST}",
            f"hmac  name=sha256,  hash={DIGEST}",
            f"hmac name = sha256, hash = {DIGEST}",
            f"basic name=sha256, hash={DIGEST}",
            f"hmac name=md5, hash={DIGEST}",
            f"hmac name=new, hash={DIGEST}",
            f"hmac name=__name__, hash={DIGEST}",
            f"hmac name=sha512, hash={DIGEST}",
            f"hmac name=sha256, hash={'ü' * 64}",
            f"hmac name=sha256, hash={'٣' * 64}",
        ],
    )
    def test_malformed_is_absent(self, value: str) -> None:
        """Whatever is not exactly of the form counts as no claim."""
        assert Claim.from_headers(headers(Authentication=value)) is None

    def test_two_headers_are_none(self) -> None:
        """Two Authentication headers are ambiguous, so neither counts."""
        message = headers(Authentication=f"hmac name=sha256, hash={DIGEST}")
        message["Authentication"] = f"hmac name=sha256, hash={DIGEST}"
        assert Claim.from_headers(message) is None

    def test_digests_are_not_shown(self) -> None:
        """A claim's repr does not hold the digest."""
        assert DIGEST not in repr(Claim("sha256", DIGEST))


class TestMethods:
    """The three authentication methods."""

    @pytest.mark.parametrize(
        ("ips", "address", "accepted"),
        [
            (["192.0.2.7"], "192.0.2.7", True),
            (["192.0.2.0/24"], "192.0.2.200", True),
            (["192.0.2.0/24"], "192.0.3.1", False),
            (["2001:db8::/32"], "2001:db8::1", True),
            (["0.0.0.0/0"], "2001:db8::1", False),
            (None, "192.0.2.7", False),
        ],
    )
    def test_addresses(self, ips: list[str] | None, address: str, accepted: bool) -> None:
        """An address is accepted if one of the networks holds it; without networks none is."""
        caller = Caller(ipaddress.ip_address(address), None)
        assert IPAuthMethod(ips).accepts(caller, b"") is accepted

    @pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
    def test_hmac(self, algorithm: str) -> None:
        """The HMAC of the exact body under the shared secret is accepted, of another body not."""
        method = HmacAuthMethod()
        method.algorithm, method.secret = algorithm, Secret("s")
        caller = Caller(None, Claim(algorithm, hmac.new(b"s", b"body", algorithm).hexdigest()))
        assert method.accepts(caller, b"body")
        assert not method.accepts(caller, b"body ")

    @pytest.mark.threat("auth", "blocks without secret, method or domain")
    def test_a_fresh_hmac_method_accepts_nobody(self) -> None:
        """Without a secret there is nothing to know, so nobody is accepted."""
        caller = Caller(None, Claim("sha256", hmac.new(b"", b"", "sha256").hexdigest()))
        assert not HmacAuthMethod().accepts(caller, b"")

    def test_a_plain_hash_is_no_hmac(self) -> None:
        """The bare hash of a body, which anybody can compute, is not accepted."""
        method = HmacAuthMethod()
        method.secret = Secret("s")
        assert not method.accepts(Caller(None, Claim("sha256", hashlib.sha256(b"x").hexdigest())), b"x")

    def test_all(self) -> None:
        """AllAuthMethod accepts anyone."""
        assert AllAuthMethod().accepts(Caller(None, None), b"")


class TestBlocks:
    """What makes a block."""

    @pytest.mark.threat("auth", "other hash algorithms", "blocks without secret, method or domain")
    @pytest.mark.parametrize(
        ("pairs", "words"),
        [
            ([("domain", "a.example.org")], "needs ip, hmac_key or"),
            ([("all", "yes")], "at least one domain"),
            ([("domain", "a.example.org"), ("hmac_key", "")], "empty secret"),
            ([("domain", "a.example.org"), ("hmac_key", "x"), ("hmac_type", "md5")], "none of sha256"),
            ([("domain", "a.example.org"), ("hmac_key", "x"), ("hmac_type", "__name__")], "none of sha256"),
            ([("domain", "a.example.org"), ("hmac_type", "sha256")], "no hmac_key"),
            ([("domain", "a.example.org"), ("all", "no")], "accepts nobody"),
            ([("domain", "a.example.org"), ("ip", "300.1.1.1")], "neither an IP address"),
            ([("domain", "a..example.org"), ("all", "yes")], "domain"),
            ([("domain", "a.example.org"), ("all", "yes"), ("storage", "x")], "not defined"),
            ([("domain", "a.example.org"), ("all", "yes"), ("verificaton", "x")], "did you mean"),
        ],
    )
    def test_mistakes(self, pairs: list[tuple[str, str]], words: str) -> None:
        """Each mistake in a block is an error that names it; none becomes "anyone"."""
        with pytest.raises(ConfigurationError, match=words):
            block(*pairs)

    @pytest.mark.threat("auth", "the hash of one block, names of another")
    def test_every_method_must_accept(self) -> None:
        """A block with two methods accepts only whom both accept."""
        both = block(("domain", "a.example.org"), ("ip", "192.0.2.7"), ("hmac_key", "s"))
        digest = hmac.new(b"s", b"body", "sha256").hexdigest()
        good, other = ipaddress.ip_address("192.0.2.7"), ipaddress.ip_address("192.0.2.8")
        assert both.accepts(Caller(good, Claim("sha256", digest)), b"body")
        assert not both.accepts(Caller(other, Claim("sha256", digest)), b"body")
        assert not both.accepts(Caller(good, None), b"body")

    @pytest.mark.threat("csr", "no names")
    def test_no_names_are_not_all_names(self) -> None:
        """A request without names is refused, although every one of its names matches."""
        assert block(("domain", "**"), ("all", "yes")).refusal(()) is not None

    @pytest.mark.threat("csr", "wildcards")
    def test_wildcards_need_dns(self) -> None:
        """A wildcard is refused where the block's verification is http-01, whatever its globs."""
        refusal = block(("domain", "*.example.org"), ("all", "yes")).refusal(
            (Identifier.dns("*.example.org"),)
        )
        assert refusal is not None
        assert "DNS" in refusal

    @pytest.mark.threat("csr", "names other than DNS names")
    def test_addresses_are_not_granted(self) -> None:
        """No glob grants an IP address."""
        everything = block(("domain", "**"), ("all", "yes"))
        assert everything.refusal((Identifier.ip("192.0.2.1"),)) is not None


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


class TestSubjectAltName:
    """The documented class reads the names of an extension."""

    def test_it_reads_what_is_there(self) -> None:
        """The names of an extension value are read from its DER."""
        names = [x509.DNSName("A.example.org"), x509.IPAddress(ipaddress.ip_address("192.0.2.1"))]
        der = x509.SubjectAlternativeName(names).public_bytes()
        assert SubjectAltName.read(der) == {Identifier.dns("a.example.org"), Identifier.ip("192.0.2.1")}

    @pytest.mark.parametrize("der", [b"", b"\x30", b"\x30\x00\x00", b"\x30\x80\x00\x00", b"\x31\x00"])
    def test_what_is_not_der(self, der: bytes) -> None:
        """Truncated, trailing or indefinite encodings are refused."""
        with pytest.raises(ValueError, match=r".") if der != b"\x30\x00" else pytest.raises(ValueError):
            SubjectAltName.read(der)

    def test_documented_constructor(self) -> None:
        """The documented keywords are accepted."""
        assert SubjectAltName(componentType=None, tagSet=None, subtypeSpec=None, sizeSpec=None) is not None


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
