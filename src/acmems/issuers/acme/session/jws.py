"""Flattened JSON Web Signatures as ACME wants them (RFC 8555 section 6.2, RFC 7515 section 7.2.2)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from josepy.jwk import JWK, JWKEC, JWKRSA

from acmems.text import Secret

_CURVES: Mapping[str, tuple[str, hashes.HashAlgorithm]] = {
    "secp256r1": ("ES256", hashes.SHA256()),
    "secp384r1": ("ES384", hashes.SHA384()),
}


class Signer:
    """Sign requests with one account key.

    Args:
        key: a private RSA key (signs RS256) or an EC key on P-256 (ES256) or P-384 (ES384).

    Raises:
        ValueError: the key is none of these.
    """

    def __init__(self, key: JWK) -> None:
        self.public_jwk: dict[str, Any] = key.public_key().to_partial_json()
        self.algorithm, self._sign = _signing(key)

    def __repr__(self) -> str:
        return f"Signer({self.algorithm})"

    def sign(self, protected: Mapping[str, object], payload: bytes) -> bytes:
        """Return the JWS, as a JSON text.

        Args:
            protected: the protected header without `alg`.
            payload: the bytes to sign; none at all for a POST-as-GET (RFC 8555 section 6.3).
        """
        header = _base64url(_json({"alg": self.algorithm, **protected}))
        body = _base64url(payload)
        signature = _base64url(self._sign(header + b"." + body))
        # All three parts are base64url: nothing in them needs JSON's escapes.
        return b'{"protected":"%b","payload":"%b","signature":"%b"}' % (header, body, signature)


def external_account_binding(key: JWK, kid: str, hmac_key: Secret, url: str) -> dict[str, str]:
    """Return the JWS that binds an account key to an account outside ACME (RFC 8555 section 7.3.4).

    Args:
        key: the ACME account key.
        kid: the key identifier that the CA handed out.
        hmac_key: the MAC key that came with it, base64url with or without padding.
        url: the CA's newAccount URL.

    Raises:
        ValueError: the MAC key is empty or not base64url.
    """
    secret = _decode_base64url(hmac_key.reveal())
    header = _base64url(_json({"alg": "HS256", "kid": kid, "url": url}))
    body = _base64url(_json(key.public_key().to_partial_json()))
    mac = hmac.digest(secret, header + b"." + body, hashlib.sha256)
    return {
        "protected": header.decode("ascii"),
        "payload": body.decode("ascii"),
        "signature": _base64url(mac).decode("ascii"),
    }


def _signing(key: JWK) -> tuple[str, Callable[[bytes], bytes]]:
    """Return the JWS algorithm that fits a key, and what signs with it."""
    if not hasattr(key.key, "sign"):
        raise ValueError("an account needs a private RSA or EC key")
    if isinstance(key, JWKRSA):
        return "RS256", lambda data: bytes(key.key.sign(data, padding.PKCS1v15(), hashes.SHA256()))
    if isinstance(key, JWKEC) and key.key.curve.name in _CURVES:
        algorithm, digest = _CURVES[key.key.curve.name]
        return algorithm, _ecdsa(key, digest)
    raise ValueError("an account key must be RSA, P-256 or P-384")


def _ecdsa(key: JWKEC, digest: hashes.HashAlgorithm) -> Callable[[bytes], bytes]:
    """Return what signs as RFC 7518 section 3.4 says: r and s at full length, not as DER."""
    length = (key.key.key_size + 7) // 8
    scheme = ec.ECDSA(digest)

    def sign(data: bytes) -> bytes:
        r, s = decode_dss_signature(key.key.sign(data, scheme))
        return r.to_bytes(length, "big") + s.to_bytes(length, "big")

    return sign


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decode_base64url(text: str) -> bytes:
    # Not urlsafe_b64decode: that skips what it does not know, and signs with half a key.
    unpadded = text.strip().rstrip("=")
    try:
        data = base64.b64decode(unpadded + "=" * (-len(unpadded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data:
        raise ValueError("the MAC key of the external account is not base64url") from None
    return data
