"""Authentication by an HMAC of the body under a shared secret."""

from __future__ import annotations

import hmac
from typing import ClassVar

from acmems.auth.freshness import Freshness
from acmems.auth.methods.caller import Caller
from acmems.auth.methods.claim import ALGORITHMS, Claim
from acmems.auth.methods.weakness import parse_secret, warn_of_weakness
from acmems.settings import values
from acmems.settings.options import Options
from acmems.text import Secret

WRONG_HMAC = "the HMAC is not that of this body under its secret"


class HmacAuthMethod:
    """Authentication by HMAC / secret key.

    The client proves that it knows a shared secret by sending the HMAC (RFC 2104) of its CSR.
    Without a secret nobody is accepted.

    Attributes:
        algorithm: the hash function.
        secret: what client and server share.
        freshness: how far the time of an HMAC may be off, and which were used; None: it needs no time.
    """

    KEYS: ClassVar = ("hmac_type", "hmac_key")

    def __init__(self) -> None:
        self.algorithm = "sha256"
        self.secret: Secret | None = None
        self.freshness: Freshness | None = None

    @classmethod
    def from_options(cls, options: Options) -> HmacAuthMethod | None:
        """Return the method of a block, None where it has no good `hmac_key`."""
        method = cls()
        algorithm = options.one(
            "hmac_type",
            _algorithm,
            None,
            meaning="hash function of the HMAC: `sha256`, `sha384` or `sha512`; default: `sha256`",
        )
        method.algorithm = algorithm or method.algorithm
        method.secret = options.one(
            "hmac_key",
            parse_secret,
            None,
            meaning="secret shared with the clients, who send an HMAC made with it",
        )
        warn_of_weakness(options, "hmac_key", method.secret, "so whoever has seen one request can guess it")
        seconds = options.one(
            "hmac-fresh",
            values.seconds,
            None,
            meaning="seconds; the HMAC must cover a time that differs from this server's by no more, and "
            "works from one address only. Without this key, who has seen a request can repeat it forever",
        )
        method.freshness = None if seconds is None else Freshness(seconds)
        for key in ("hmac_type", "hmac-fresh"):
            if options.has(key) and method.secret is None and not options.has("hmac_key"):
                options.report(f"{key} is given, but no hmac_key", key)
        return method if method.secret else None

    def may_accept(self, caller: Caller) -> bool:
        """Tell whether a well-formed claim with this method's algorithm came along."""
        return caller.claim is not None and caller.claim.algorithm == self.algorithm

    def refusal(self, caller: Caller, body: bytes) -> str | None:
        """Return why the claim is not accepted: it is not the HMAC of the body, or that is not fresh."""
        claim = caller.claim
        if claim is None or self.secret is None or claim.algorithm != self.algorithm:
            return f"it requires an HMAC with {self.algorithm}"
        expected = Claim.make(self.algorithm, self.secret, body, claim.time)
        # In constant time, and whether it is fresh is found out in either case: time tells nobody anything.
        right = hmac.compare_digest(expected.digest, claim.digest)
        stale = self.freshness.refusal(claim.time) if self.freshness is not None else None
        return stale if right else WRONG_HMAC

    def accepts(self, caller: Caller, body: bytes) -> bool:
        """Tell whether the claim is the HMAC of the body, and fresh; `use` knows who used it before."""
        return self.refusal(caller, body) is None

    def use(self, caller: Caller) -> str | None:
        """Note that an accepted claim is used, and return why it cannot be, None if it can."""
        claim = caller.claim
        if self.freshness is None or claim is None or claim.time is None:
            return None
        return self.freshness.use(claim.digest, claim.time, caller.address)


def _algorithm(text: str) -> str:
    # A literal table: what a configuration or a client writes never becomes an attribute name.
    if text.lower() not in ALGORITHMS:
        raise ValueError(f"{text!r} is none of sha256, sha384, sha512")
    return ALGORITHMS[text.lower()]
