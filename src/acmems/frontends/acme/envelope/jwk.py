"""Public keys of ACME accounts as JSON Web Keys (RFC 7517), and the algorithms that fit them (RFC 7518)."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from acmems.frontends.acme.envelope.members import decoded, encoded
from acmems.frontends.acme.problems import AcmeProblem
from acmems.x509 import keys

ALGORITHMS: Final = ("ES256", "ES384", "ES512", "RS256", "EdDSA")
"""The algorithms of signatures that are accepted."""

_CURVES: Final = {"P-256": (32, "ES256"), "P-384": (48, "ES384"), "P-521": (66, "ES512")}
_ED25519_OCTETS = 32
_RSA_BITS = range(2048, 4097)
_LONGEST_RSA = 700  # characters of a modulus in base64url; 4096 bits are 683
_EXPONENT = "AQAB"  # 65537
_MEMBERS: Final = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n"), "OKP": ("crv", "kty", "x")}
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

JoseKey = ECKey | RSAKey | OKPKey


@dataclass(frozen=True, slots=True)
class PublicJwk:
    """A public key that ACME requests may be signed with.

    Args:
        text: its required members, in the one form that is hashed for the thumbprint (RFC 7638 section 3).
        algorithm: the one algorithm that fits it.
        key: what joserfc verifies with.
        thumbprint: the SHA-256 of `text`, in base64url.
    """

    text: str
    algorithm: str
    key: JoseKey = field(repr=False, compare=False)
    thumbprint: str

    @classmethod
    def from_members(cls, members: object) -> PublicJwk:
        """Read the key of a header.

        Args:
            members: the JSON object as the client sent it.

        Raises:
            AcmeProblem: `badPublicKey`: it is no public key that is accepted here; the reason says what is.
        """
        if not isinstance(members, dict) or not isinstance(kind := members.get("kty"), str):
            raise _bad("'jwk' must be a JSON object with 'kty'")
        if kind not in _MEMBERS:
            raise _bad("keys of this type are not accepted: use EC (P-256, P-384, P-521), RSA or Ed25519")
        if _PRIVATE & members.keys():
            raise _bad("'jwk' holds a private key: it is not secret any more, so make another one")
        canonical = {name: members.get(name) for name in _MEMBERS[kind]}
        if not all(isinstance(value, str) for value in canonical.values()):
            raise _bad(f"'jwk' needs {', '.join(_MEMBERS[kind])}, each a string")
        algorithm = _algorithm(kind, canonical)
        text = json.dumps(canonical, separators=(",", ":"))
        thumbprint = encoded(hashlib.sha256(text.encode()).digest())
        return cls(text, algorithm, _imported(kind, canonical), thumbprint)

    @staticmethod
    @functools.lru_cache(maxsize=4096)
    def from_text(text: str) -> PublicJwk:
        """Return the key that `text` of an earlier one tells of; those of busy accounts are read once."""
        return PublicJwk.from_members(json.loads(text))

    @property
    def public_octets(self) -> bytes:
        """The key as a SubjectPublicKeyInfo in DER, as certificates have it."""
        return self.key.as_der(private=False)


def _algorithm(kind: str, members: Mapping[str, Any]) -> str:
    """Return the algorithm that fits a key, whose members are of the right length.

    Raises:
        AcmeProblem: none does.
    """
    if kind == "RSA":
        if len(members["n"]) > _LONGEST_RSA:
            raise _bad("RSA keys may have 2048 to 4096 bits")
        modulus = decoded(members["n"], "'n' of the key")
        if modulus[:1] == b"\0" or int.from_bytes(modulus).bit_length() not in _RSA_BITS:
            raise _bad("RSA keys may have 2048 to 4096 bits, without a zero in front")
        if members["e"] != _EXPONENT:
            raise _bad("the exponent of RSA keys must be 65537 ('AQAB')")
        return "RS256"
    if kind == "OKP":
        if members["crv"] != "Ed25519":
            raise _bad("of the curves of OKP keys, only Ed25519 is accepted")
        _require_octets(members, ("x",), _ED25519_OCTETS)
        return "EdDSA"
    if members["crv"] not in _CURVES:
        raise _bad("of the curves of EC keys, only P-256, P-384 and P-521 are accepted")
    octets, algorithm = _CURVES[members["crv"]]
    _require_octets(members, ("x", "y"), octets)
    return algorithm


def _require_octets(members: Mapping[str, Any], names: tuple[str, ...], octets: int) -> None:
    for name in names:
        if len(decoded(members[name], f"'{name}' of the key")) != octets:
            raise _bad(f"'{name}' must have {octets} octets for this curve")


def _imported(kind: str, members: dict[str, Any]) -> JoseKey:
    try:
        key: JoseKey
        if kind == "RSA":
            key = RSAKey.import_key(members)
        elif kind == "EC":
            key = ECKey.import_key(members)
        else:
            key = OKPKey.import_key(members)
        public = key.public_key
    except (ValueError, JoseError):
        raise _bad("'jwk' is no public key: its numbers do not fit together") from None
    if isinstance(public, rsa.RSAPublicKey) and (flaw := keys.modulus_flaw(public.public_numbers().n)):
        raise _bad(flaw)
    return key


def _bad(detail: str) -> AcmeProblem:
    return AcmeProblem("badPublicKey", detail)
