"""Signatures and MACs, as joserfc verifies them; each algorithm is looked up once."""

from __future__ import annotations

import warnings
from typing import Any, Final, Protocol

from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import OctKey
from joserfc.jws import JWSRegistry

from acmems.frontends.acme.envelope.jwk import ALGORITHMS, JoseKey

MACS: Final = ("HS256", "HS384", "HS512")
"""The algorithms of external account bindings (RFC 8555 section 7.3.4)."""


class _Algorithm(Protocol):
    def verify(self, msg: bytes, sig: bytes, key: Any, /) -> bool: ...


def _models(names: tuple[str, ...]) -> dict[str, _Algorithm]:
    registry = JWSRegistry(algorithms=names)
    with warnings.catch_warnings():
        # It warns of EdDSA because another curve would go by the same name; here only Ed25519 does.
        warnings.simplefilter("ignore", SecurityWarning)
        return {name: registry.get_alg(name) for name in names}


_SIGNATURES: Final = _models(ALGORITHMS)
_CODES: Final = _models(MACS)


def is_signature(algorithm: str, key: JoseKey, signed: bytes, signature: bytes) -> bool:
    """Tell whether a signature is that of some bytes by a key.

    Args:
        algorithm: one of `ALGORITHMS`, which fits the key.
        key: the public key.
        signed: what was signed.
        signature: the signature as JWS has it (RFC 7518 section 3).
    """
    try:
        return _SIGNATURES[algorithm].verify(signed, signature, key)
    except (ValueError, JoseError):
        return False


def is_code(algorithm: str, secret: bytes, signed: bytes, code: bytes) -> bool:
    """Tell whether a message authentication code is that of some bytes.

    Args:
        algorithm: one of `MACS`.
        secret: the shared key.
        signed: what was authenticated.
        code: the code.
    """
    return _CODES[algorithm].verify(signed, code, OctKey.import_key(secret))
