"""Flattened JSON Web Signatures as ACME wants them (RFC 8555 section 6.2, RFC 7515 section 7.2.2)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping

from acmems.issuers.acme.key import AccountKey
from acmems.text import Secret


class Signer:
    """Sign requests with one account key."""

    def __init__(self, key: AccountKey) -> None:
        self.public_jwk: Mapping[str, str] = key.jwk
        self.algorithm = key.algorithm
        self._sign = key.sign

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


def external_account_binding(key: AccountKey, kid: str, hmac_key: Secret, url: str) -> dict[str, str]:
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
    body = _base64url(_json(key.jwk))
    mac = hmac.digest(secret, header + b"." + body, hashlib.sha256)
    return {
        "protected": header.decode("ascii"),
        "payload": body.decode("ascii"),
        "signature": _base64url(mac).decode("ascii"),
    }


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
