"""Account keys: how they sign, and how CAs know them."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from josepy.jwk import JWK
from tests.peers import run

from acmems.issuers.acme.key import KEY_TYPES, AccountKey, base64url, key_types_for

KINDS = {"ec256": "P-256", "ec384": "P-384", "rsa2048": "RSA 2048", "rsa3072": "RSA 3072"}
ALGORITHMS = {"ec256": "ES256", "ec384": "ES384", "rsa2048": "RS256"}
KEYS = {key_type: AccountKey.generate(key_type) for key_type in ALGORITHMS}
DATA = b"header.payload"


def verify(key: AccountKey, signature: bytes, data: bytes) -> None:
    """Check a signature as RFC 7518 sections 3.3 and 3.4 say; raise InvalidSignature."""
    public = key.private.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        public.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
        return
    half = len(signature) // 2
    r, s = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
    digest = hashes.SHA256() if key.algorithm == "ES256" else hashes.SHA384()
    public.verify(encode_dss_signature(r, s), data, ec.ECDSA(digest))


def decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "==")


class TestKinds:
    @pytest.mark.parametrize("key_type", KINDS)
    def test_each_type_makes_the_key_that_it_names(self, key_type: str) -> None:
        """A person reads which kind of key it is; a new RSA key has the public exponent that CAs want."""
        key = AccountKey.generate(key_type)
        assert key.kind == KINDS[key_type]
        if isinstance(key.private, rsa.RSAPrivateKey):
            assert key.private.public_key().public_numbers().e == 65537

    def test_the_types(self) -> None:
        """These are what `key-type` may say."""
        assert KEY_TYPES == ("ec256", "ec384", "rsa2048", "rsa3072", "rsa4096")

    @pytest.mark.parametrize("key_type", KINDS)
    def test_the_types_that_a_ca_takes(self, key_type: str) -> None:
        """The types for some JWS algorithms are those whose keys sign by them."""
        algorithm = AccountKey.generate(key_type).algorithm
        types = key_types_for([algorithm, "EdDSA"])
        assert key_type in types
        assert {AccountKey.generate(each).algorithm for each in types} == {algorithm}
        assert key_type not in key_types_for({"RS256", "ES256", "ES384"} - {algorithm})

    def test_rsa_of_any_size(self) -> None:
        """The documented manager makes RSA keys by their size."""
        assert AccountKey.generate_rsa(2048).kind == "RSA 2048"

    @pytest.mark.parametrize("curve", [ec.SECP521R1(), ec.SECP256K1(), ec.BrainpoolP256R1()])
    def test_other_curves(self, curve: ec.EllipticCurve) -> None:
        """Accounts have RSA, P-256 or P-384 keys."""
        with pytest.raises(ValueError, match="account key must be RSA, P-256 or P-384"):
            AccountKey(ec.generate_private_key(curve))


class TestSigning:
    @pytest.mark.parametrize("key_type", ALGORITHMS)
    def test_signatures_verify(self, key_type: str) -> None:
        """Each kind of key signs by the algorithm that belongs to it, and over the data."""
        key = KEYS[key_type]
        assert key.algorithm == ALGORITHMS[key_type]
        for _ in range(20):
            verify(key, key.sign(DATA), DATA)
        with pytest.raises(InvalidSignature):
            verify(key, key.sign(DATA), b"other data")

    @pytest.mark.parametrize(("key_type", "length"), [("ec256", 64), ("ec384", 96), ("rsa2048", 256)])
    def test_signatures_have_a_fixed_length(self, key_type: str, length: int) -> None:
        """ECDSA signatures are r and s at full length, leading zeros kept (RFC 7518 section 3.4)."""
        key = KEYS[key_type]
        assert {len(key.sign(b"%d" % number)) for number in range(300)} == {length}


class TestPublic:
    @pytest.mark.parametrize("key_type", ALGORITHMS)
    def test_the_jwk_is_that_of_another_implementation(self, key_type: str) -> None:
        """The public key has the members that josepy gives it, in the order of RFC 7638."""
        key = KEYS[key_type]
        theirs = JWK.load(key.pem()).public_key()
        assert key.jwk == theirs.to_partial_json()
        assert list(key.jwk) == sorted(key.jwk)
        assert key.thumbprint == base64url(theirs.thumbprint())

    def test_coordinates_have_a_fixed_length(self) -> None:
        """A coordinate that begins with zeros keeps them (RFC 7518 section 6.2.1.2)."""
        while True:
            key = AccountKey.generate("ec256")
            if b"\0" in {decode(key.jwk["x"])[:1], decode(key.jwk["y"])[:1]}:
                break
        assert {len(decode(key.jwk[name])) for name in "xy"} == {32}
        assert key.thumbprint == base64url(JWK.load(key.pem()).public_key().thumbprint())

    def test_the_thumbprint_is_that_of_rfc_7638(self) -> None:
        """The thumbprint of the RFC's own key is the one that section 3.1 gives."""
        modulus = (
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKR"
            "XjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAta"
            "Sqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksI"
            "NHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
        )
        public = rsa.RSAPublicNumbers(65537, int.from_bytes(decode(modulus), "big")).public_key()
        key = AccountKey.__new__(AccountKey)  # the RFC gives the public key only
        key.private = SimpleNamespace(public_key=lambda: public)  # type: ignore[assignment] # see above
        assert key.jwk == {"e": "AQAB", "kty": "RSA", "n": modulus}
        assert key.thumbprint == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"

    @pytest.mark.parametrize("key_type", ALGORITHMS)
    def test_the_digest_is_that_of_a_csr_for_the_same_key(self, key_type: str) -> None:
        """The digest is the SHA-256 of the SubjectPublicKeyInfo, as openssl computes it."""
        key = KEYS[key_type]
        spki = run("openssl", "pkey", "-pubout", "-outform", "DER", stdin=key.pem())
        assert key.digest == run("openssl", "dgst", "-sha256", "-r", stdin=spki).split()[0].decode()


class TestPrivate:
    @pytest.mark.parametrize("key_type", ALGORITHMS)
    def test_the_pem_is_pkcs8(self, key_type: str) -> None:
        """The private key is PKCS #8 without a password, and the same when it is read again."""
        key = KEYS[key_type]
        assert key.pem().startswith(b"-----BEGIN PRIVATE KEY-----\n")
        again = serialization.load_pem_private_key(key.pem(), password=None)
        assert isinstance(again, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
        assert again.private_numbers() == key.private.private_numbers()

    @pytest.mark.parametrize("key_type", ALGORITHMS)
    def test_it_is_not_shown(self, key_type: str) -> None:
        """The repr of a key tells its kind, and not one private number; neither does its JWK."""
        key = KEYS[key_type]
        private = JWK.load(key.pem()).to_partial_json()["d"]
        assert repr(key) == f"AccountKey({KINDS[key_type]})"
        assert private not in repr(vars(key))
        assert private not in json.dumps(key.jwk)
