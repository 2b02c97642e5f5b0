"""Signatures as ACME wants them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import pytest
from acme import jws
from acme.messages import Directory, ExternalAccountBinding
from josepy.jwk import JWK, JWKOct

from acmems.issuers.acme.key import AccountKey
from acmems.issuers.acme.session.jws import Signer, external_account_binding, key_change
from acmems.text import Secret

URL = "https://ca.example/order"
NONCE = "bm9uY2U"
KID = "https://ca.example/1"
P256 = AccountKey.generate("ec256")
KEYS: dict[str, Callable[[], AccountKey]] = {
    "ES256": lambda: P256,
    "ES384": lambda: AccountKey.generate("ec384"),
    "RS256": lambda: AccountKey.generate("rsa2048"),
}


def public(key: AccountKey) -> JWK:
    """Return the public key as another implementation has it."""
    return JWK.load(key.pem()).public_key()


def decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "==")


class TestSigner:
    @pytest.mark.parametrize("algorithm", KEYS)
    def test_another_implementation_verifies_what_it_signs(self, algorithm: str) -> None:
        """python-acme reads the JWS of every kind of key, with the algorithm that belongs to it."""
        key = KEYS[algorithm]()
        signed = Signer(key).sign(URL, NONCE, b'{"a":1}', KID)
        token = jws.JWS.json_loads(signed.decode())
        header = token.signature.combined
        assert token.verify(public(key))
        assert (header.alg.name, header.url, header.kid) == (algorithm, URL, KID)
        assert header.nonce == b"nonce"
        assert token.payload == b'{"a":1}'

    def test_a_changed_payload_does_not_verify(self) -> None:
        """The signature is over the payload."""
        token = json.loads(Signer(P256).sign(URL, NONCE, b"{}", KID))
        token["payload"] = "e30x"
        assert not jws.JWS.from_json(token).verify(public(P256))

    @pytest.mark.parametrize(("algorithm", "length"), [("ES256", 64), ("ES384", 96)])
    def test_ecdsa_signatures_have_a_fixed_length(self, algorithm: str, length: int) -> None:
        """A signature is r and s at full length, leading zeros kept (RFC 7518 section 3.4)."""
        signer = Signer(KEYS[algorithm]())
        signatures = {json.loads(signer.sign(URL, NONCE, b"%d" % i, KID))["signature"] for i in range(300)}
        assert {len(decode(signature)) for signature in signatures} == {length}

    def test_only_the_protected_header_says_anything(self) -> None:
        """A request is a flattened JWS without an unprotected header (RFC 8555 section 6.2)."""
        kid = 'https://ca.example/"odd\\'
        signed = json.loads(Signer(P256).sign(URL, "x", b"", kid))
        assert signed.keys() == {"protected", "payload", "signature"}
        assert json.loads(decode(signed["protected"])) == {
            "alg": "ES256",
            "kid": kid,
            "nonce": "x",
            "url": URL,
        }

    def test_a_post_as_get_has_no_payload_at_all(self) -> None:
        """An empty payload is the empty string, not an empty object (RFC 8555 section 6.3)."""
        assert json.loads(Signer(P256).sign(URL, NONCE, b"", KID))["payload"] == ""

    @pytest.mark.parametrize("algorithm", KEYS)
    def test_only_the_public_key_is_shown(self, algorithm: str) -> None:
        """The key that a JWS carries has no private parts, and neither has the signer's repr."""
        key = KEYS[algorithm]()
        signer = Signer(key)
        header = json.loads(decode(json.loads(signer.sign(URL, NONCE, b"{}", None))["protected"]))
        assert header.keys() == {"alg", "jwk", "nonce", "url"}
        assert header["jwk"] == public(key).to_partial_json()
        assert not header["jwk"].keys() & {"d", "p", "q", "dp", "dq", "qi"}
        assert repr(signer) == f"Signer({algorithm})"


class TestExternalAccountBinding:
    URL = "https://ca.example/new-account"

    @pytest.mark.parametrize("padding", ["", "==", " \n"])
    def test_it_is_what_another_implementation_makes(self, padding: str) -> None:
        """It equals python-acme's, whether the key is padded or not."""
        secret = "c2VjcmV0LW1hYy1rZXktAQ"  # noqa: S105 - made up
        directory = Directory({"newAccount": self.URL})
        theirs = ExternalAccountBinding.from_data(public(P256), "kid-1", secret, directory)
        ours = external_account_binding(P256, "kid-1", Secret(secret + padding), self.URL)
        assert json.loads(decode(ours["payload"])) == json.loads(decode(theirs["payload"]))
        assert json.loads(decode(ours["protected"])) == json.loads(decode(theirs["protected"]))

    def test_another_implementation_verifies_it(self) -> None:
        """It is signed with HS256 and the MAC key, and without a nonce (RFC 8555 section 7.3.4)."""
        binding = external_account_binding(P256, "kid-1", Secret("-_-_"), self.URL)
        token = jws.JWS.from_json(binding)
        assert token.verify(JWKOct(key=decode("-_-_")))
        assert token.signature.combined.nonce is None
        assert JWK.from_json(json.loads(token.payload)) == public(P256)

    @pytest.mark.parametrize("secret", ["", "a", "a*bc", "ä", "===="])
    def test_a_key_that_is_not_base64url_is_refused(self, secret: str) -> None:
        """A mistyped MAC key is an error, never half a key."""
        with pytest.raises(ValueError, match="not base64url"):
            external_account_binding(P256, "kid-1", Secret(secret), self.URL)


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_change_of_the_key_is_signed_by_the_new_one(algorithm: str) -> None:
    """The inner JWS has the new key and no nonce, names the account and the old key (section 7.3.5)."""
    new = KEYS[algorithm]()
    signed = key_change(new, P256, KID, URL)
    header = json.loads(decode(signed["protected"]))
    assert header == {"alg": algorithm, "jwk": new.jwk, "url": URL}
    assert json.loads(decode(signed["payload"])) == {"account": KID, "oldKey": P256.jwk}
    token = jws.JWS.from_json(signed)
    assert token.verify(public(new))
