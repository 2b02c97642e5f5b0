"""Account keys: what signs requests, and how the CA knows it (RFC 8555 section 6.2, RFC 7518)."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_EC_KEYS = {"ec256": ec.SECP256R1, "ec384": ec.SECP384R1}
_RSA_SIZES = {"rsa2048": 2048, "rsa3072": 3072, "rsa4096": 4096}
KEY_TYPES = (*_EC_KEYS, *_RSA_SIZES)
"""What `key-type` may say."""
# By the curve's name: what people call it, the JWS algorithm, its hash (RFC 7518 section 3.4).
_CURVES: dict[str, tuple[str, str, hashes.HashAlgorithm]] = {
    "secp256r1": ("P-256", "ES256", hashes.SHA256()),
    "secp384r1": ("P-384", "ES384", hashes.SHA384()),
}
_RSA_ALGORITHM = "RS256"
_PUBLIC_EXPONENT = 65537
_JWK_MEMBERS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y")}  # by the type of key (RFC 7518 section 6)
_JWK_TEXT = re.compile(r"[A-Za-z0-9_-]+")  # base64url, or the name of a curve


class AccountKey:
    """The private key of an account.

    Args:
        private: an RSA key (signs RS256), or an EC key on P-256 (ES256) or P-384 (ES384).

    Raises:
        ValueError: it is none of these.
    """

    def __init__(self, private: PrivateKey) -> None:
        self.private = private
        if isinstance(private, rsa.RSAPrivateKey):
            self.kind, self.algorithm = f"RSA {private.key_size}", _RSA_ALGORITHM
            self.sign = _rsa_signing(private)
        elif private.curve.name in _CURVES:
            self.kind, self.algorithm, digest = _CURVES[private.curve.name]
            self.sign = _ecdsa_signing(private, digest)
        else:
            raise ValueError("an account key must be RSA, P-256 or P-384")

    @classmethod
    def generate(cls, key_type: str) -> AccountKey:
        """Make a new key.

        Args:
            key_type: one of `KEY_TYPES`.
        """
        if key_type in _EC_KEYS:
            return cls(ec.generate_private_key(_EC_KEYS[key_type]()))
        return cls.generate_rsa(_RSA_SIZES[key_type])

    @classmethod
    def generate_rsa(cls, bits: int) -> AccountKey:
        """Make a new RSA key."""
        return cls(rsa.generate_private_key(public_exponent=_PUBLIC_EXPONENT, key_size=bits))

    @cached_property
    def jwk(self) -> dict[str, str]:
        """The public key as a JWK of its required members, in order (RFC 7638 section 3.2)."""
        public = self.private.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            numbers = public.public_numbers()
            return {"e": _number(numbers.e), "kty": "RSA", "n": _number(numbers.n)}
        point = public.public_numbers()
        length = (public.key_size + 7) // 8
        x, y = (base64url(part.to_bytes(length, "big")) for part in (point.x, point.y))
        return {"crv": self.kind, "kty": "EC", "x": x, "y": y}

    @cached_property
    def thumbprint(self) -> str:
        """The thumbprint (RFC 7638), as key authorizations have it (RFC 8555 section 8.1)."""
        text = json.dumps(self.jwk, separators=(",", ":"), sort_keys=True)
        return base64url(hashlib.sha256(text.encode("ascii")).digest())

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the public key's DER, as a CSR for this key would show it."""
        spki = self.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(spki).hexdigest()

    def pem(self) -> bytes:
        """Return the private key as PKCS #8 without a password."""
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def __repr__(self) -> str:
        return f"AccountKey({self.kind})"


def key_types_for(algorithms: Collection[str]) -> list[str]:
    """Return those of `KEY_TYPES` that sign by one of some JWS algorithms (RFC 7518 section 3.1)."""
    by_type = {name: _CURVES[curve().name][1] for name, curve in _EC_KEYS.items()}
    return [name for name in KEY_TYPES if by_type.get(name, _RSA_ALGORITHM) in algorithms]


def is_jwk(document: Mapping[str, Any]) -> bool:
    """Tell whether a JSON object is the public key of an account, as far as it shows without arithmetic."""
    members = _JWK_MEMBERS.get(str(document.get("kty")), ())
    texts = [document.get(name) for name in members]
    return bool(texts) and all(isinstance(text, str) and _JWK_TEXT.fullmatch(text) for text in texts)


def base64url(data: bytes) -> str:
    """Return base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _number(value: int) -> str:
    return base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _rsa_signing(key: rsa.RSAPrivateKey) -> Callable[[bytes], bytes]:
    scheme, digest = padding.PKCS1v15(), hashes.SHA256()
    return lambda data: key.sign(data, scheme, digest)


def _ecdsa_signing(key: ec.EllipticCurvePrivateKey, digest: hashes.HashAlgorithm) -> Callable[[bytes], bytes]:
    """Return what signs as RFC 7518 section 3.4 says: r and s at full length, not as DER."""
    length = (key.key_size + 7) // 8
    scheme = ec.ECDSA(digest)

    def sign(data: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(data, scheme))
        return r.to_bytes(length, "big") + s.to_bytes(length, "big")

    return sign
