"""The envelope: what is read, and what a stranger must not get by with (RFC 8555 section 6.2)."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from tests.acme_client import AcmeClient, b64, b64_number, flattened, jwk_of
from tests.acme_serving import Serving

from acmems.frontends.acme.envelope.envelope import MOST_OCTETS, Envelope
from acmems.frontends.acme.envelope.jwk import ALGORITHMS, PublicJwk
from acmems.frontends.acme.envelope.members import decoded, object_of
from acmems.frontends.acme.problems import AcmeProblem

KEY = ec.generate_private_key(ec.SECP256R1())
RSA, LONG_RSA = (rsa.generate_private_key(65537, bits) for bits in (2048, 2056))


def kind_of(raised: pytest.ExceptionInfo[AcmeProblem]) -> str:
    return raised.value.kind


@pytest.mark.threat("ACME clients", "JWS that parsers read differently")
class TestMembers:
    @pytest.mark.parametrize(
        "text",
        [
            b'{"a": 1, "a": 1}',
            b'{"b": {"a": 1, "a": 2}}',
            b'{"b": [[{"a": 1, "\\u0061": 2}]]}',
            b'{"a": NaN}',
            b'{"a": -Infinity}',
            b'{"a": "\\ud800"}',
            b'{"\\udfff": 1}',
            b'{"a": "\xff"}',
            b'\xef\xbb\xbf{"a": 1}',
            '{"a": 1}'.encode("utf-16"),
            b"[" * 60_000,
            b'{"a":' * 20_000,
            b'{"a": ' + b"9" * 10_000 + b"}",
            b"[]",
            b'"a"',
            b"",
            b"{} {}",
        ],
        ids=lambda text: repr(text[:30]),
    )
    def test_what_is_no_object(self, text: bytes) -> None:
        """What parsers read in different ways, or cannot encode again, is no JSON here."""
        with pytest.raises(AcmeProblem) as raised:
            object_of(text, "the payload")
        assert kind_of(raised) == "malformed"

    def test_an_object(self) -> None:
        """Escapes are read, whole pairs of surrogates too."""
        assert object_of(b'{"a": "\\ud83d\\ude00", "b": null}', "x") == {"a": "\U0001f600", "b": None}

    @pytest.mark.parametrize("text", ["YQ==", "YR", "Y", "Y Q", "YQ\n", "Y+", "Y/Q", "ÿÿ", None, 5, b"YQ"])
    def test_what_is_no_base64url(self, text: Any) -> None:
        """No padding, no other alphabet, no blanks, and no bits that mean nothing."""
        with pytest.raises(AcmeProblem):
            decoded(text, "x")

    @pytest.mark.parametrize("data", [b"", b"a", b"ab", b"abc", bytes(range(256))])
    def test_base64url(self, data: bytes) -> None:
        """Everything that is encoded rightly is read."""
        assert decoded(b64(data), "x") == data


def modulus(key: rsa.RSAPrivateKey) -> int:
    return key.public_key().public_numbers().n


EC_JWK = jwk_of(KEY)
WRONG_KEYS: list[tuple[str, Any]] = [
    ("no object", "key"),
    ("no kty", {}),
    ("a shared key", {"kty": "oct", "k": "AAAA"}),
    ("a list as kty", {"kty": ["EC"]}),
    ("a private key", EC_JWK | {"d": b64(bytes(32))}),
    ("no y", {name: value for name, value in EC_JWK.items() if name != "y"}),
    ("a number", EC_JWK | {"x": 5}),
    ("another curve", EC_JWK | {"crv": "secp256k1"}),
    ("a point beside the curve", EC_JWK | {"y": b64(bytes(32))}),
    ("a short coordinate", EC_JWK | {"x": b64(bytes(31))}),
    ("a long coordinate", EC_JWK | {"x": b64(bytes(33))}),
    ("padding", EC_JWK | {"x": EC_JWK["x"] + "="}),
    ("RSA of 1024 bits", jwk_of(rsa.generate_private_key(65537, 1024))),  # noqa: S505 - that is refused
    ("RSA of over 4096 bits", {"kty": "RSA", "e": "AQAB", "n": b64_number(modulus(RSA) * modulus(LONG_RSA))}),
    ("RSA of 100,000 bits", {"kty": "RSA", "e": "AQAB", "n": b64_number(2**100_000 + 1)}),
    ("a zero in front", {"kty": "RSA", "e": "AQAB", "n": b64(b"\0" + bytes([255] * 256))}),
    ("the exponent 3", {"kty": "RSA", "e": "Aw", "n": jwk_of(RSA)["n"]}),
    ("the exponent 1", {"kty": "RSA", "e": "AQ", "n": jwk_of(RSA)["n"]}),
    ("a small factor", {"kty": "RSA", "e": "AQAB", "n": b64_number(3 * (2**2047 + 3))}),
    ("X25519", {"kty": "OKP", "crv": "X25519", "x": b64(bytes(32))}),
    ("Ed448", {"kty": "OKP", "crv": "Ed448", "x": b64(bytes(57))}),
]


@pytest.mark.threat("ACME clients", "weak and broken keys")
class TestKeys:
    @pytest.mark.parametrize(("what", "members"), WRONG_KEYS, ids=[each[0] for each in WRONG_KEYS])
    def test_what_is_no_good_key(self, what: str, members: Any) -> None:
        """Whatever is wrong with a key is `badPublicKey`, or `malformed` where it cannot even be read."""
        with pytest.raises(AcmeProblem) as raised:
            PublicJwk.from_members(members)
        assert kind_of(raised) in {"badPublicKey", "malformed"}

    @pytest.mark.parametrize(
        ("key", "algorithm"),
        [
            (KEY, "ES256"),
            (ec.generate_private_key(ec.SECP384R1()), "ES384"),
            (ec.generate_private_key(ec.SECP521R1()), "ES512"),
            (RSA, "RS256"),
            (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_keys(self, key: Any, algorithm: str) -> None:
        """Each kind has one algorithm; the key is the same whatever else its JWK says, and as text."""
        read = PublicJwk.from_members(jwk_of(key) | {"use": "sig", "kid": "me", "alg": "none"})
        assert read.algorithm == algorithm
        assert PublicJwk.from_text(read.text) == read
        assert read.public_octets == key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def test_the_thumbprint(self) -> None:
        """It is that of RFC 7638 section 3.1."""
        modulus = (
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRX"
            "jBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaS"
            "qzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksIN"
            "HaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
        )
        read = PublicJwk.from_members({"kty": "RSA", "n": modulus, "e": "AQAB"})
        assert read.thumbprint == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


URL = "https://acme.example.org/new-account"


def header(**members: Any) -> dict[str, Any]:
    given = {"alg": "ES256", "jwk": jwk_of(KEY), "nonce": "abc", "url": URL} | members
    return {name: value for name, value in given.items() if value is not None}


def read(body: Any) -> Envelope:
    return Envelope.from_body(body if isinstance(body, bytes) else json.dumps(body).encode())


GOOD = flattened(KEY, header(), b"{}")
GENERAL = {
    "payload": GOOD["payload"],
    "signatures": [{"protected": GOOD["protected"], "signature": GOOD["signature"]}],
}
DUPLICATES = json.dumps(GOOD).replace('"payload"', '"payload": "e30", "payload"').encode()
DOUBLE_HEADER = flattened(KEY, {}, b"{}") | {
    "protected": b64(json.dumps(header()).replace('"nonce"', '"url": "x", "nonce"').encode())
}


@pytest.mark.threat("ACME clients", "JWS that parsers read differently")
class TestForm:
    def test_an_envelope(self) -> None:
        """What is right is read as it was written."""
        envelope = read(GOOD)
        assert (envelope.algorithm, envelope.url, envelope.nonce, envelope.kid) == ("ES256", URL, "abc", None)
        assert envelope.jwk
        envelope.verify(envelope.jwk)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{}",
            {"protected": GOOD["protected"], "payload": GOOD["payload"]},
            GOOD | {"header": {"alg": "none"}},
            GOOD | {"signatures": []},
            {**GENERAL},
            {"payload": GOOD["payload"], "signatures": []},
            f"{GOOD['protected']}.{GOOD['payload']}.{GOOD['signature']}".encode(),
            DUPLICATES,
            DOUBLE_HEADER,
            GOOD | {"signature": GOOD["signature"] + "="},
            GOOD | {"payload": {}},
            GOOD | {"signature": "A" * 701},
            flattened(KEY, header(crit=["url"]), b"{}"),
            flattened(KEY, header(b64=False), b"{}"),
            flattened(KEY, header(b64=True), b"{}"),
            flattened(KEY, header(kid="https://acme.example.org/account/1"), b"{}"),
            flattened(KEY, header(jwk=None), b"{}"),
            flattened(KEY, header(url=None), b"{}"),
            flattened(KEY, header(alg=None), b"{}"),
            flattened(KEY, header(alg=["ES256"]), b"{}"),
            flattened(KEY, header(nonce=7), b"{}"),
            flattened(KEY, header(more="x" * 4000), b"{}"),
            flattened(KEY, header(jwk=None, kid="x" * 2049), b"{}"),
        ],
        ids=range(24),
    )
    def test_what_is_none(self, body: Any) -> None:
        """Other forms of JWS, members twice, extensions, two keys or none: all of it is `malformed`."""
        with pytest.raises(AcmeProblem) as raised:
            read(body)
        assert kind_of(raised) == "malformed"

    def test_a_long_key(self) -> None:
        """The header of a key of 4096 bits, the longest there is, is not too long."""
        modulus = b64_number(rsa.generate_private_key(65537, 4096).public_key().public_numbers().n)
        key = {"kty": "RSA", "e": "AQAB", "n": modulus}
        assert read(flattened(KEY, header(jwk=key, url="https://x/" + "y" * 500), b"{}")).jwk


@pytest.mark.threat("ACME clients", "algorithms that do not fit")
class TestSignatures:
    @pytest.mark.parametrize("algorithm", ["none", "HS256", "RS256", "ES384", "ES256K", "PS256", "", "es256"])
    def test_another_algorithm(self, algorithm: str) -> None:
        """Only the one that fits the key is taken, and the answer names what is possible."""
        envelope = read(flattened(KEY, header(alg=algorithm), b"{}"))
        assert envelope.jwk
        with pytest.raises(AcmeProblem) as raised:
            envelope.verify(envelope.jwk)
        assert kind_of(raised) == "badSignatureAlgorithm"
        assert set(raised.value.members["algorithms"]) <= set(ALGORITHMS)

    @pytest.mark.parametrize("key", [KEY, RSA])
    def test_a_code_by_the_public_key(self, key: Any) -> None:
        """The public key is no shared secret, however it is written."""
        secrets = [
            key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
            for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER)
        ]
        for secret in [*secrets, json.dumps(jwk_of(key)).encode()]:
            body = flattened(key, header(alg="HS256", jwk=jwk_of(key)), b"{}")
            signed = f"{body['protected']}.{body['payload']}".encode()
            envelope = read(body | {"signature": b64(hmac.new(secret, signed, hashlib.sha256).digest())})
            with pytest.raises(AcmeProblem):
                envelope.verify(PublicJwk.from_members(jwk_of(key)))

    @pytest.mark.parametrize(
        "signature",
        ["", b64(bytes(64)), b64(bytes(63)), b64(bytes([255] * 64)), GOOD["signature"][:84]],
        ids=["empty", "zero", "short", "impossible", "cut"],
    )
    def test_what_is_no_signature(self, signature: str) -> None:
        """An empty, short, zero or impossible signature is none."""
        envelope = read(GOOD | {"signature": signature})
        assert envelope.jwk
        with pytest.raises(AcmeProblem) as raised:
            envelope.verify(envelope.jwk)
        assert kind_of(raised) == "malformed"

    def test_der(self) -> None:
        """A signature in DER, as OpenSSL makes it, is not that of JWS."""
        der = KEY.sign(f"{GOOD['protected']}.{GOOD['payload']}".encode(), ec.ECDSA(hashes.SHA256()))
        envelope = read(GOOD | {"signature": b64(der)})
        assert envelope.jwk
        with pytest.raises(AcmeProblem):
            envelope.verify(envelope.jwk)

    def test_of_another_payload(self) -> None:
        """Payload and header are signed together."""
        other = flattened(KEY, header(), b'{"a": 1}')
        for body in (
            GOOD | {"payload": other["payload"]},
            other | {"protected": flattened(KEY, header(nonce="x"), b"")["protected"]},
        ):
            envelope = read(body)
            assert envelope.jwk
            with pytest.raises(AcmeProblem):
                envelope.verify(envelope.jwk)


class TestRequests:
    """The same, as clients see it."""

    @pytest.mark.threat("ACME clients", "huge requests")
    def test_the_size(self, client: AcmeClient) -> None:
        """A body over the limit is refused by its length, and a huge header as any HTTP server does."""
        url = client.directory["newAccount"]
        assert client.send(url, b"x" * (MOST_OCTETS + 1)).status == 413
        assert client.send(url, b"x" * MOST_OCTETS).problem == "malformed"
        assert client.exchange("POST", url, b"{}", {"X": "y" * 70_000}).status == 431

    @pytest.mark.parametrize(
        "kind",
        ["", "application/json", "application/jose", "application/jose+json; charset=utf-8", "text/plain"],
    )
    def test_the_media_type(self, client: AcmeClient, kind: str) -> None:
        """Anything but `application/jose+json` is 415."""
        answer = client.send(client.directory["newAccount"], GOOD, kind)
        assert (answer.status, answer.problem) == (415, "malformed")

    @pytest.mark.threat("ACME clients", "requests for another URL")
    def test_another_url(self, acme: Serving, client: AcmeClient) -> None:
        """A request that was made for another URL, path or query is refused by 401."""
        client.register()
        assert client.kid
        for url in (
            client.directory["newAccount"],
            f"{client.kid}?a",
            client.kid.replace("http:", "https:"),
            f"https://elsewhere.example.org{client.kid.removeprefix(acme.url)}",
            "",
        ):
            answer = client.post(client.kid, url=url)
            assert (answer.status, answer.problem) == (401, "unauthorized")

    def test_who_signs(self, client: AcmeClient) -> None:
        """An account signs where accounts do, and a key where keys do; both at once never."""
        client.register()
        assert client.kid
        assert client.post_as_key(client.kid, b"").problem == "malformed"
        assert client.post(client.directory["newAccount"], {}).problem == "malformed"
        assert client.post(client.kid, jwk=jwk_of(client.key)).problem == "malformed"

    @pytest.mark.parametrize(
        "kid", ["x", "https://other.example.org/account/1", "{url}/account/", "{url}/order/1"]
    )
    def test_a_kid_that_is_none(self, acme: Serving, client: AcmeClient, kid: str) -> None:
        """What is not the URL of an account here is unknown."""
        client.kid = kid.format(url=acme.url)
        assert client.post(f"{acme.url}/account/1").problem == "accountDoesNotExist"
        client.kid = f"{acme.url}/account/1"
        assert client.post(f"{acme.url}/account/1").problem == "accountDoesNotExist"

    @pytest.mark.threat("ACME clients", "the account of another")
    def test_the_kid_of_another(self, acme: Serving, client: AcmeClient) -> None:
        """Who signs in another's name is refused, and uses up no nonce of that client."""
        client.register()
        assert client.kid
        with acme.client() as other:
            other.kid = client.kid
            nonce = client.nonce()
            assert other.post(client.kid, {"status": "deactivated"}, nonce=nonce).problem == "malformed"
        answer = client.post(client.kid, nonce=nonce)
        assert (answer.status, answer.json["status"]) == (200, "valid")
