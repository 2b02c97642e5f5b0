"""Flattened JSON Web Signatures as ACME wants them (RFC 8555 section 6.2, RFC 7515 section 7.2.2)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json

from acmems.issuers.acme.key import AccountKey
from acmems.text import Secret


class Signer:
    """Sign requests with one account key."""

    def __init__(self, key: AccountKey) -> None:
        self.algorithm = key.algorithm
        self._jwk = _json(key.jwk)
        self._sign = key.sign

    def __repr__(self) -> str:
        return f"Signer({self.algorithm})"

    def sign(self, url: str, nonce: str, payload: bytes, kid: str | None) -> bytes:
        """Return the JWS, as a JSON text.

        Args:
            url: where it is sent; checked, so that it needs no escapes in JSON.
            nonce: the nonce; checked as well.
            payload: the bytes to sign; none at all for a POST-as-GET (RFC 8555 section 6.3).
            kid: the URL of the account that signs; None: the key itself does (newAccount).
        """
        who = b'"jwk":%b' % self._jwk if kid is None else b'"kid":%b' % _json(kid)
        header = _base64url(
            b'{"alg":"%b",%b,"nonce":"%b","url":"%b"}'
            % (self.algorithm.encode("ascii"), who, nonce.encode("ascii"), url.encode("ascii"))
        )
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


def key_change(new: AccountKey, old: AccountKey, account: str, url: str) -> dict[str, str]:
    """Return the JWS by which a new key says that it is to be that of an account (RFC 8555 section 7.3.5).

    Args:
        new: the key that the account is to have; it signs.
        old: the key that it has.
        account: the account's URL.
        url: the CA's keyChange URL.
    """
    header = _base64url(_json({"alg": new.algorithm, "jwk": new.jwk, "url": url}))
    body = _base64url(_json({"account": account, "oldKey": old.jwk}))
    return {
        "protected": header.decode("ascii"),
        "payload": body.decode("ascii"),
        "signature": _base64url(new.sign(header + b"." + body)).decode("ascii"),
    }


_encode = json.JSONEncoder(separators=(",", ":")).encode


def _json(value: object) -> bytes:
    return _encode(value).encode("ascii")


_URLSAFE = bytes.maketrans(b"+/", b"-_")


def _base64url(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False).translate(_URLSAFE).rstrip(b"=")


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
