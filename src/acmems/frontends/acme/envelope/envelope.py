"""The flattened JWS that a request is wrapped in (RFC 8555 section 6.2), and those that are inside of one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from acmems.frontends.acme.envelope import algorithms
from acmems.frontends.acme.envelope.jwk import ALGORITHMS, PublicJwk
from acmems.frontends.acme.envelope.members import decoded, object_of, text_of
from acmems.frontends.acme.problems import AcmeProblem, malformed

MOST_OCTETS: Final = 64 * 1024
"""The largest body: a CSR of 16 kilobytes in base64url twice, and room for keys."""
_MEMBERS: Final = {"protected", "payload", "signature"}
_LONGEST_HEADER = 4096  # characters in base64url: that of an RSA key of 4096 bits has 1,300
_LONGEST_SIGNATURE = 700  # the same; of such a key
_LONGEST_TEXT = 2048  # characters of a member of the header
_FORBIDDEN: Final = {
    "crit": "extensions ('crit') are not supported",
    "b64": "unencoded payloads ('b64') are not supported",
}


@dataclass(frozen=True, slots=True)
class Envelope:
    """A JWS whose form is right; nothing is verified yet.

    Args:
        algorithm: the algorithm that it claims.
        url: the URL that it was made for.
        nonce: the nonce; None where there is none.
        jwk: the key that it brings along; None where it names one.
        kid: the name of the key; None where it brings it along.
        payload: what is signed.
        signed: the bytes that the signature is of.
        signature: the signature.
    """

    algorithm: str
    url: str
    nonce: str | None
    jwk: PublicJwk | None
    kid: str | None
    payload: bytes = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @classmethod
    def from_body(cls, body: bytes) -> Envelope:
        """Read the body of a request.

        Raises:
            AcmeProblem: it is no flattened JWS as RFC 8555 wants it.
        """
        return cls.from_members(object_of(body, "the body"), "the request")

    @classmethod
    def from_members(cls, members: object, what: str) -> Envelope:
        """Read a JWS that is a JSON object already.

        Args:
            members: the object.
            what: what it is called, for the client.

        Raises:
            AcmeProblem: it is no flattened JWS as RFC 8555 wants it.
        """
        if not isinstance(members, dict) or members.keys() != _MEMBERS:
            raise malformed(
                f"{what} must be a flattened JWS: a JSON object with exactly 'protected', 'payload' and "
                f"'signature'"
            )
        protected, payload = text_of(members, "protected", what), text_of(members, "payload", what)
        if len(protected) > _LONGEST_HEADER or len(text_of(members, "signature", what)) > _LONGEST_SIGNATURE:
            raise malformed(f"the header or the signature of {what} is too long")
        header = object_of(decoded(protected, f"'protected' of {what}"), f"the protected header of {what}")
        for name, words in _FORBIDDEN.items():
            if name in header:
                raise malformed(words)
        jwk, kid = _key_of(header, what)
        return cls(
            algorithm=_bounded(header, "alg", what),
            url=_bounded(header, "url", what),
            nonce=_bounded(header, "nonce", what) if "nonce" in header else None,
            jwk=jwk,
            kid=kid,
            payload=decoded(payload, f"'payload' of {what}"),
            signed=f"{protected}.{payload}".encode(),
            signature=decoded(members["signature"], f"'signature' of {what}"),
        )

    def verify(self, key: PublicJwk) -> None:
        """See that it is signed by a key, with the algorithm that fits it.

        Raises:
            AcmeProblem: it is not.
        """
        if self.algorithm not in ALGORITHMS:
            # RFC 8555 section 6.2
            raise AcmeProblem(
                "badSignatureAlgorithm",
                f"sign with one of {', '.join(ALGORITHMS)}",
                members={"algorithms": list(ALGORITHMS)},
            )
        if self.algorithm != key.algorithm:
            raise AcmeProblem(
                "badSignatureAlgorithm",
                f"this key signs with {key.algorithm} here",
                members={"algorithms": [key.algorithm]},
            )
        if not algorithms.is_signature(self.algorithm, key.key, self.signed, self.signature):
            raise malformed("the signature is not that of this request by this key")

    def require_url(self, url: str, what: str = "the request") -> None:
        """See that it was made for a URL (RFC 8555 section 6.4).

        Raises:
            AcmeProblem: it was not.
        """
        if self.url != url:
            raise AcmeProblem(
                "unauthorized", f"'url' in the protected header of {what} must be {url}", status=401
            )


def _key_of(header: dict[str, Any], what: str) -> tuple[PublicJwk | None, str | None]:
    """Return the key that a header brings along, or the name of one.

    Raises:
        AcmeProblem: it has both, or neither (RFC 8555 section 6.2).
    """
    if ("jwk" in header) == ("kid" in header):
        raise malformed(f"the protected header of {what} needs 'jwk' or 'kid', and not both")
    if "kid" in header:
        return None, _bounded(header, "kid", what)
    return PublicJwk.from_members(header["jwk"]), None


def _bounded(header: dict[str, Any], name: str, what: str) -> str:
    text = text_of(header, name, f"the protected header of {what}")
    if len(text) > _LONGEST_TEXT:
        raise malformed(f"'{name}' in the protected header of {what} is too long")
    return text
