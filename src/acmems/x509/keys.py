"""Which public keys deserve a certificate.

The rules are those of public CAs (CA/Browser Forum Baseline Requirements section 6.1.1.3). Keys of
Debian's broken generator of 2008 are not looked for: that takes a list of all of them.
"""

from __future__ import annotations

import math
from collections.abc import Set as AbstractSet
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from acmems.x509 import der, oids

PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

PUBLIC_CURVES = frozenset({"secp256r1", "secp384r1"})
EXTRA_CURVES = ("secp256k1", "secp521r1", "brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1")
"""Those that operators can allow besides, for private CAs."""
_RSA_SIZES = (2048, 3072, 4096)
_RSA_EXPONENT = 65537
_OTHER_TYPE = "make an RSA key of 2048 bits or an EC key on prime256v1"
_COMPRESSED = (b"\x02", b"\x03")  # how a compressed point begins (SEC 1 section 2.3.3)


def load(spki: bytes) -> PublicKey:
    """Read a public key, of which each has one encoding, so that keys can be compared by their bytes.

    Args:
        spki: its DER (SubjectPublicKeyInfo, RFC 5280 section 4.1.2.7).

    Raises:
        ValueError: it is none, of another type than RSA and EC, or encoded as CAs do not take it; the
            reason is safe to print and says what to make instead.
    """
    try:
        with der.reading("the public key", ValueError):
            key = load_der_public_key(spki)
            normal = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except ValueError:
        raise ValueError(_loading_fault(spki)) from None
    if normal != spki or not isinstance(key, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey)):
        raise ValueError(_loading_fault(spki))
    return key


def _loading_fault(spki: bytes) -> str:
    """Say why a public key was not accepted."""
    try:
        algorithm, key = der.elements(der.contents(der.only(spki), der.SEQUENCE))
        kind, *parameters = der.elements(der.contents(algorithm, der.SEQUENCE))
        oid = der.object_identifier(kind)
    except ValueError:
        return "the public key cannot be read: make a new key"
    if oid == oids.RSASSA_PSS:
        return (
            f"the RSA key is for {oids.display(oid)} signatures only, which CAs refuse; make an RSA key of "
            "2048 bits with openssl's defaults"
        )
    if oid not in (oids.RSA_ENCRYPTION, oids.EC_PUBLIC_KEY):
        return f"keys of this type, {oids.display(oid)}, are not accepted; {_OTHER_TYPE}"
    if oid == oids.EC_PUBLIC_KEY and [each.tag for each in parameters] != [der.OBJECT_IDENTIFIER]:
        return (
            "the public key is encoded in an unusual way, with the parameters of its curve instead of the "
            "curve's name; make a new key with -pkeyopt ec_param_enc:named_curve"
        )
    if oid == oids.EC_PUBLIC_KEY and key.content[1:2] in _COMPRESSED:
        return (
            "the public key is encoded in an unusual way, as a compressed point, which CAs refuse; make a "
            "new key with openssl's defaults"
        )
    if oid == oids.EC_PUBLIC_KEY:
        curve = der.dotted(parameters[0].content)
        return (
            f"the public key on the curve {curve} cannot be read; make a new one on prime256v1 or secp384r1"
        )
    return "the public key is broken, or encoded in an unusual way; make a new key with openssl's defaults"


def weakness(key: PublicKeyTypes, extra_curves: AbstractSet[str] = frozenset()) -> str | None:
    """Say what is wrong with a public key, or nothing.

    Args:
        key: the key.
        extra_curves: elliptic curves allowed besides P-256 and P-384, as `secp521r1`.

    Returns:
        A reason that tells its owner what to make instead; None for a good key.
    """
    if isinstance(key, rsa.RSAPublicKey):
        return _rsa_weakness(key)
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name in PUBLIC_CURVES | extra_curves:
            return None
        return f"keys on the curve {key.curve.name} are not accepted; make one on prime256v1 or secp384r1"
    return f"keys of this type are not accepted; {_OTHER_TYPE}"


def _rsa_weakness(key: rsa.RSAPublicKey) -> str | None:
    if key.key_size not in _RSA_SIZES:
        return f"RSA keys of {key.key_size} bits are not accepted; make one of 2048, 3072 or 4096 bits"
    numbers = key.public_numbers()
    if numbers.e != _RSA_EXPONENT:
        return "the RSA key's public exponent is not 65537; make a new key"
    return modulus_flaw(numbers.n)


def modulus_flaw(modulus: int) -> str | None:
    """Say why the factors of an RSA key can be found, or nothing."""
    if math.gcd(modulus, _SMALL_PRIMES_PRODUCT) != 1:
        return "the RSA key has a small factor; make a new key"
    if _is_roca(modulus):
        return "the RSA key was made by a chip with a known flaw (CVE-2017-15361); make it with openssl"
    if _has_close_factors(modulus):
        return "the RSA key's two primes are too close to each other; make a new key"
    return None


def _primes(below: int) -> list[int]:
    return [n for n in range(2, below) if all(n % d for d in range(2, math.isqrt(n) + 1))]


_SMALL_PRIMES_PRODUCT = math.prod(_primes(752))


def _powers(base: int, modulus: int) -> frozenset[int]:
    return frozenset(pow(base, exponent, modulus) for exponent in range(modulus))


# Primes of the flawed generator are k*M + (65537**a mod M), M a product of the first primes: modulo
# each of those, the modulus is a power of 65537 as well. By chance that is so once in 2**27.
_ROCA_POWERS = {prime: _powers(65537, prime) for prime in _primes(168)[1:]}
_ROCA_PRODUCT = math.prod(_ROCA_POWERS)


def _is_roca(modulus: int) -> bool:
    """Tell whether a modulus bears the mark of "The Return of Coppersmith's Attack" (2017)."""
    rest = modulus % _ROCA_PRODUCT
    return all(rest % prime in powers for prime, powers in _ROCA_POWERS.items())


_SIEVE = 16 * 9 * 5 * 7
_SQUARES = frozenset(n * n % _SIEVE for n in range(_SIEVE))
_FERMAT_ROUNDS = 100


def _has_close_factors(modulus: int) -> bool:
    """Try some rounds of Fermat's factorisation: modulus = middle**2 - gap."""
    middle = math.isqrt(modulus - 1) + 1
    gap = middle * middle - modulus
    for _ in range(_FERMAT_ROUNDS):
        if gap % _SIEVE in _SQUARES and math.isqrt(gap) ** 2 == gap:
            return True
        gap += 2 * middle + 1
        middle += 1
    return False
