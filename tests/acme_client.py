"""A small ACME client that sends exactly what it is told to, right or wrong, and checks every answer."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

PROBLEM = "urn:ietf:params:acme:error:"
_CURVES = {
    "secp256r1": ("P-256", "ES256", 32),
    "secp384r1": ("P-384", "ES384", 48),
    "secp521r1": ("P-521", "ES512", 66),
}
_HASHES = {"ES256": hashes.SHA256(), "ES384": hashes.SHA384(), "ES512": hashes.SHA512()}

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def b64(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def b64_number(number: int, octets: int | None = None) -> str:
    """Return a number as JWK has it."""
    return b64(number.to_bytes(octets or (number.bit_length() + 7) // 8))


def jwk_of(key: Key) -> dict[str, str]:
    """Return the public JWK of a key."""
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.public_key().public_numbers()
        return {"e": b64_number(numbers.e), "kty": "RSA", "n": b64_number(numbers.n)}
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return {"crv": "Ed25519", "kty": "OKP", "x": b64(key.public_key().public_bytes_raw())}
    curve, _, octets = _CURVES[key.curve.name]
    point = key.public_key().public_numbers()
    return {"crv": curve, "kty": "EC", "x": b64_number(point.x, octets), "y": b64_number(point.y, octets)}


def thumbprint(key: Key) -> str:
    """Return the thumbprint of a key (RFC 7638)."""
    return b64(
        hashlib.sha256(json.dumps(jwk_of(key), separators=(",", ":"), sort_keys=True).encode()).digest()
    )


def algorithm_of(key: Key) -> str:
    """Return the algorithm that a key signs with."""
    if isinstance(key, rsa.RSAPrivateKey):
        return "RS256"
    return "EdDSA" if isinstance(key, ed25519.Ed25519PrivateKey) else _CURVES[key.curve.name][1]


def sign(key: Key, data: bytes) -> bytes:
    """Return a signature as JWS has it."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    _, algorithm, octets = _CURVES[key.curve.name]
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(_HASHES[algorithm])))
    return r.to_bytes(octets) + s.to_bytes(octets)


def flattened(key: Key, header: Mapping[str, Any], payload: bytes | Mapping[str, Any]) -> dict[str, str]:
    """Return a flattened JWS.

    Args:
        key: signs it.
        header: the protected header, as it is.
        payload: the content; an object becomes JSON.
    """
    content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    protected, inside = b64(json.dumps(header).encode()), b64(content)
    return {
        "protected": protected,
        "payload": inside,
        "signature": b64(sign(key, f"{protected}.{inside}".encode())),
    }


def binding(kid: str, secret: bytes, url: str, key: Key, /, **header: Any) -> dict[str, str]:
    """Return an external account binding; further members of the header replace what is right."""
    given = {"alg": "HS256", "kid": kid, "url": url, **header}
    protected = b64(json.dumps({name: value for name, value in given.items() if value is not None}).encode())
    payload = b64(json.dumps(jwk_of(key)).encode())
    digest = {"HS384": "sha384", "HS512": "sha512"}.get(str(given["alg"]), "sha256")
    code = hmac.new(secret, f"{protected}.{payload}".encode(), digest).digest()
    return {"protected": protected, "payload": payload, "signature": b64(code)}


@dataclass(frozen=True)
class Answer:
    """An answer of the server.

    Attributes:
        status: the HTTP status.
        headers: the header fields.
        body: the content.
    """

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The content as an object."""
        document = json.loads(self.body)
        assert isinstance(document, dict)
        return document

    @property
    def problem(self) -> str:
        """The type of the problem document that it is, without what all have in front."""
        assert self.headers["Content-Type"] == "application/problem+json", (self.status, self.body)
        assert self.json["status"] == self.status
        assert self.json["detail"]
        kind = self.json["type"]
        assert kind.startswith(PROBLEM)
        return str(kind.removeprefix(PROBLEM))

    def links(self, relation: str) -> list[str]:
        """Return the targets of `Link` fields of a relation."""
        values = [str(value) for value in self.headers.get_all("Link", [])]
        return [value[1 : value.index(">")] for value in values if value.endswith(f';rel="{relation}"')]

    @property
    def location(self) -> str:
        """The `Location` field."""
        return str(self.headers["Location"])


@dataclass
class AcmeClient:
    """An ACME client with one key.

    Args:
        directory_url: where it begins.
        key: of its account.
        trust: what to check the server's certificate with; None where it is not encrypted.
        address: where to connect to; None: as the URL says.

    Attributes:
        kid: the URL of its account, once it has one.
        nonces: that answers have brought.
    """

    directory_url: str
    key: Key = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    trust: ssl.SSLContext | None = None
    address: tuple[str, int] | None = None
    kid: str | None = None
    nonces: list[str] = field(default_factory=list)
    _directory: dict[str, Any] | None = None
    _connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def directory(self) -> dict[str, Any]:
        """The directory."""
        if self._directory is None:
            answer = self.get(self.directory_url)
            assert answer.status == 200, answer
            self._directory = answer.json
        return self._directory

    def get(self, url: str, method: str = "GET") -> Answer:
        """Ask for something without a signature."""
        return self.exchange(method, url)

    def nonce(self) -> str:
        """Return a nonce that was not used yet."""
        if not self.nonces:
            assert self.get(self.directory["newNonce"], "HEAD").status == 200
        return self.nonces.pop()

    def header(self, url: str, /, **members: Any) -> dict[str, Any]:
        """Return a protected header; members replace what is right, None removes it."""
        header: dict[str, Any] = {"alg": algorithm_of(self.key), "url": url}
        if "nonce" not in members:
            header["nonce"] = self.nonce()
        if self.kid is None:
            header["jwk"] = jwk_of(self.key)
        else:
            header["kid"] = self.kid
        return {name: value for name, value in (header | members).items() if value is not None}

    def post(self, url: str, payload: bytes | Mapping[str, Any] = b"", /, **members: Any) -> Answer:
        """Send a signed request; POST-as-GET without a payload.

        Args:
            url: where to.
            payload: the content.
            members: of the protected header, in place of what is right; None removes it.
        """
        return self.send(url, flattened(self.key, self.header(url, **members), payload))

    def post_as_key(self, url: str, payload: bytes | Mapping[str, Any], /, **members: Any) -> Answer:
        """Send a request that is signed by the key alone, although it has an account."""
        return self.post(url, payload, kid=None, jwk=jwk_of(self.key), **members)

    def send(
        self, url: str, body: Mapping[str, Any] | bytes, content_type: str = "application/jose+json"
    ) -> Answer:
        """Send a body as it is."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.exchange("POST", url, data, {"Content-Type": content_type})

    def abandon(self, url: str, payload: Mapping[str, Any]) -> None:
        """Send a signed request, and hang up without waiting for the answer."""
        parts = urlsplit(url)
        body = json.dumps(flattened(self.key, self.header(url), payload)).encode()
        fields = {"Host": parts.netloc, "Content-Type": "application/jose+json"}
        connection = self._connect(parts.hostname or "", parts.port)
        connection.request("POST", parts.path, body, fields)
        connection.close()

    def register(self, **payload: Any) -> Answer:
        """Make an account, or find it; afterwards requests are signed by it."""
        url = self.directory["newAccount"]
        answer = self.post(url, {"termsOfServiceAgreed": True, **payload}, kid=None, jwk=jwk_of(self.key))
        if answer.status in {200, 201}:
            self.kid = answer.location
        return answer

    def exchange(
        self, method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request as it is, and check what is true of every answer."""
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        fields = {"Host": parts.netloc, **(headers or {})}
        if self._connection is None:
            self._connection = self._connect(parts.hostname or "", parts.port)
        try:
            self._connection.request(method, target, body, fields)
            response = self._connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            # It was kept for too long.
            self.close()
            self._connection = self._connect(parts.hostname or "", parts.port)
            self._connection.request(method, target, body, fields)
            response = self._connection.getresponse()
        data = response.read()
        if response.will_close:
            self.close()
        answer = Answer(response.status, response.headers, data)
        self._check(answer)
        return answer

    def _check(self, answer: Answer) -> None:
        [nonce] = answer.headers.get_all("Replay-Nonce", [])
        self.nonces.append(str(nonce))
        assert answer.headers["Cache-Control"] == "no-store"
        assert len(answer.links("index")) == 1
        if answer.status >= 400:
            assert answer.headers["Content-Type"] == "application/problem+json"

    def _connect(self, host: str, port: int | None) -> http.client.HTTPConnection:
        at = self.address or (host, port or (443 if self.trust else 80))
        if self.trust is None:
            return http.client.HTTPConnection(*at, timeout=60)
        return http.client.HTTPSConnection(*at, timeout=60, context=self.trust)
