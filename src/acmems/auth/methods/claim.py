"""What an `Authentication` header claims: the HMAC of the body under a shared secret."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field

from acmems.auth.headers import Headers, header_values
from acmems.text import Secret

ALGORITHMS = {name: name for name in ("sha256", "sha384", "sha512")} | {
    # OpenSSL 3 prints the second spelling, and 0.3's one-liners pass it on.
    "sha2-256": "sha256",
    "sha2-384": "sha384",
    "sha2-512": "sha512",
}
_DIGEST_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128}
_PARAMETERS = {"name": r"[a-z0-9-]+", "hash": r"[0-9a-f]+", "time": r"[1-9][0-9]{0,11}"}
_PARAMETER = "|".join(f"{name}={value}" for name, value in _PARAMETERS.items())
_AUTHENTICATION = re.compile(
    rf"hmac ({_PARAMETER})(?:, ?| )({_PARAMETER})(?:(?:, ?| )({_PARAMETER}))?", re.ASCII | re.IGNORECASE
)
_WITHOUT_TIME = {"name", "hash"}


@dataclass(frozen=True, slots=True)
class Claim:
    """What an `Authentication` header claims: the HMAC of the body under a shared secret.

    Args:
        algorithm: the hash function.
        digest: the HMAC, in lower-case hexadecimal digits.
        time: what the client's clock said, in seconds since 1970, where the HMAC covers that as well.
    """

    algorithm: str
    digest: str = field(repr=False)
    time: int | None = None

    @classmethod
    def from_headers(cls, headers: Headers) -> Claim | None:
        """Return the claim of a request; a malformed one is as good as none."""
        sent = header_values(headers, "Authentication")
        match = _AUTHENTICATION.fullmatch(sent[0].strip(" \t")) if len(sent) == 1 else None
        if match is None:
            return None
        given: dict[str, str] = {}
        for text in filter(None, match.groups()):
            key, _, value = text.lower().partition("=")
            if key in given:
                return None
            given[key] = value
        if not given.keys() >= _WITHOUT_TIME:
            return None
        algorithm = ALGORITHMS.get(given["name"])
        digest = given["hash"]
        if algorithm is None or len(digest) != _DIGEST_LENGTH[algorithm]:
            return None
        return cls(algorithm, digest, int(given["time"]) if "time" in given else None)

    @classmethod
    def make(cls, algorithm: str, secret: Secret, body: bytes, time: int | None = None) -> Claim:
        """Return the claim that a client sends who knows a secret.

        Args:
            algorithm: the hash function.
            secret: what client and server share; its UTF-8 is the key.
            body: the exact bytes of the body.
            time: seconds since 1970; the HMAC covers them, in digits and a line feed, before the body.
        """
        covered = body if time is None else b"%d\n%s" % (time, body)
        return cls(algorithm, hmac.new(secret.reveal().encode(), covered, algorithm).hexdigest(), time)

    @property
    def header(self) -> str:
        """What stands in the `Authentication` header."""
        time = "" if self.time is None else f"time={self.time}, "
        return f"hmac name={self.algorithm}, {time}hash={self.digest}"
