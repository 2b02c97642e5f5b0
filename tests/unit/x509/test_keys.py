"""Weak public keys."""

from __future__ import annotations

import math

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from tests import der

from acmems.x509 import keys

PRIMES = [n for n in range(2, 752) if all(n % d for d in range(2, math.isqrt(n) + 1))]
SMALL_PRIMES = math.prod(PRIMES)
ROCA_M = math.prod(PRIMES[:126])  # as the generator uses for 2048 bits
SALT = int.from_bytes(b"not a pattern of bits, such as powers of two have")


def public(modulus: int, exponent: int = 65537) -> rsa.RSAPublicKey:
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def coprime_from(start: int) -> int:
    """Return the first number without small factors: no rule asks for primes, and these are found at once."""
    while math.gcd(start, SMALL_PRIMES) != 1:
        start += 1
    return start


def roca_modulus() -> int:
    """Multiply two numbers as the generator of CVE-2017-15361 makes primes: k*M + (65537**a mod M)."""
    first = (2**1023 // ROCA_M + 7) * ROCA_M + pow(65537, 1234567, ROCA_M)
    second = (2**1024 // ROCA_M - 9) * ROCA_M + pow(65537, 7654321, ROCA_M)
    return first * second


class TestGood:
    @pytest.mark.parametrize("size", [2048, 3072, 4096])
    def test_rsa(self, size: int) -> None:
        """RSA keys of 2048, 3072 and 4096 bits are fine."""
        assert keys.weakness(public(coprime_from(2 ** (size - 1) + SALT))) is None

    def test_made_by_library(self) -> None:
        """An RSA key as openssl makes it is fine."""
        assert keys.weakness(der.rsa_key().public_key()) is None

    @pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1])
    def test_curves(self, curve: type[ec.EllipticCurve]) -> None:
        """P-256 and P-384 are fine."""
        assert keys.weakness(der.ec_key(curve).public_key()) is None

    def test_extra_curve(self) -> None:
        """Another curve is fine where it is allowed."""
        assert keys.weakness(der.ec_key(ec.SECP521R1).public_key(), {"secp521r1"}) is None


class TestWeak:
    @pytest.mark.threat("csr", "weak keys")
    @pytest.mark.parametrize(
        ("key", "reason"),
        [
            pytest.param(public(coprime_from(2**1023 + SALT)), "of 1024 bits", id="1024 bits"),
            pytest.param(public(coprime_from(2**2055 + SALT)), "of 2056 bits", id="odd size"),
            pytest.param(public(coprime_from(2**8191 + SALT)), "of 8192 bits", id="more than CAs sign"),
            pytest.param(public(coprime_from(2**2047 + SALT), 3), "exponent is not 65537", id="e=3"),
            pytest.param(
                public(coprime_from(2**2047 + SALT), 2**32 + 1), "exponent is not 65537", id="large exponent"
            ),
            pytest.param(public(3 * coprime_from(2**2047 // 3 + SALT)), "small factor", id="factor 3"),
            pytest.param(public(751 * coprime_from(2**2047 // 751 + SALT)), "small factor", id="factor 751"),
            pytest.param(public(roca_modulus()), "CVE-2017-15361", id="ROCA"),
            pytest.param(der.ec_key(ec.SECP521R1).public_key(), "curve secp521r1", id="P-521"),
            pytest.param(der.ec_key(ec.SECP256K1).public_key(), "curve secp256k1", id="secp256k1"),
            pytest.param(der.ec_key(ec.SECP224R1).public_key(), "curve secp224r1", id="P-224"),
            pytest.param(Ed25519PrivateKey.generate().public_key(), "keys of this type", id="Ed25519"),
        ],
    )
    def test_refused(self, key: PublicKeyTypes, reason: str) -> None:
        """Keys that public CAs refuse are refused, with a reason that says what to make instead."""
        assert reason in (keys.weakness(key) or "")

    @pytest.mark.threat("csr", "weak keys")
    @pytest.mark.parametrize("distance", [0, 2**200, 2**512])
    def test_close_primes(self, distance: int) -> None:
        """A modulus of two primes close to each other is refused."""
        first = coprime_from(3 * 2**1022 + SALT)
        second = coprime_from(first + distance)
        assert "too close" in (keys.weakness(public(first * second)) or "")

    def test_allowing_a_curve_allows_no_other(self) -> None:
        """An extra curve allows that curve alone."""
        assert keys.weakness(der.ec_key(ec.SECP224R1).public_key(), {"secp521r1"}) is not None
