"""External account bindings (RFC 8555 section 7.3.4): a JWS inside of the payload of newAccount."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from acmems.auth import Block
from acmems.auth.methods import ExternalAccountMethod
from acmems.frontends.acme.envelope import algorithms
from acmems.frontends.acme.envelope.envelope import Envelope
from acmems.frontends.acme.envelope.jwk import PublicJwk
from acmems.frontends.acme.envelope.members import object_of
from acmems.frontends.acme.problems import AcmeProblem, malformed

_WHAT = "'externalAccountBinding'"


@dataclasses.dataclass(frozen=True, slots=True)
class Binding:
    """A binding whose form is right; its MAC is not verified yet.

    Args:
        envelope: the inner JWS.
        kid: the key identifier of the external account.
    """

    envelope: Envelope
    kid: str

    @classmethod
    def from_member(cls, member: Any, url: str, key: PublicJwk) -> Binding:
        """Read the binding of a payload.

        Args:
            member: the member `externalAccountBinding`.
            url: the URL of the request.
            key: the key of the request, which the binding must be of.

        Raises:
            AcmeProblem: it is none, or is of another URL or key.
        """
        envelope = Envelope.from_members(member, _WHAT)
        if envelope.kid is None:
            raise malformed(f"the protected header of {_WHAT} needs 'kid', and no 'jwk'")
        if envelope.nonce is not None:
            raise malformed(f"the protected header of {_WHAT} must have no 'nonce'")
        if envelope.algorithm not in algorithms.MACS:
            raise AcmeProblem(
                "badSignatureAlgorithm",
                f"{_WHAT} must use one of {', '.join(algorithms.MACS)}",
                members={"algorithms": list(algorithms.MACS)},
            )
        if envelope.url != url:
            raise malformed(f"'url' in the protected header of {_WHAT} must be that of the request")
        bound = PublicJwk.from_members(object_of(envelope.payload, f"the payload of {_WHAT}"))
        if bound.thumbprint != key.thumbprint:
            raise malformed(f"the payload of {_WHAT} must be the key that signs the request")
        return cls(envelope, envelope.kid)

    def verify(self, blocks: Iterable[Block]) -> ExternalAccountMethod:
        """Return the external account that it is bound to. It may wait for a disk.

        Args:
            blocks: the auth blocks, some of which have external accounts.

        Raises:
            AcmeProblem: there is no such external account, or the MAC is not by its key; who asks cannot tell
                one from the other.
            StorageUnavailable: the key cannot be read.
        """
        method = external_account(blocks, self.kid)
        # A key of nobody where there is none, so that time does not tell either.
        secret = _NOBODY if method is None else method.hmac_key()
        inner = self.envelope
        is_right = algorithms.is_code(inner.algorithm, secret, inner.signed, inner.signature)
        if method is None or not is_right:
            raise AcmeProblem(
                "unauthorized",
                "the external account is not known here, or its HMAC key is another one: check the key "
                "identifier and the HMAC key, which is base64url",
            )
        return method


_NOBODY = bytes(32)


def external_account(blocks: Iterable[Block], kid: str) -> ExternalAccountMethod | None:
    """Return the external account of a key identifier, None if no block has it."""
    for block in blocks:
        for method in block.methods:
            if isinstance(method, ExternalAccountMethod) and method.kid == kid:
                return method
    return None
