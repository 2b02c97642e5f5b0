"""Authentication methods: what is known of a client, and whether it is enough."""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from acmems.auth.freshness import Freshness
from acmems.auth.headers import Headers, header_values
from acmems.net.address import IPAddress, IPNetwork, parse_network
from acmems.settings import values
from acmems.settings.options import Options
from acmems.text import Secret

_ALGORITHMS = {name: name for name in ("sha256", "sha384", "sha512")} | {
    # OpenSSL 3 prints the second spelling, and 0.3's one-liners pass it on.
    "sha2-256": "sha256",
    "sha2-384": "sha384",
    "sha2-512": "sha512",
}
_DIGEST_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128}
# 12 random bytes in base64, or 8 in hexadecimal, have more; what a person makes up has less as a rule.
_SHORTEST_SECRET, _FEWEST_CHARACTERS, _FEWEST_BITS = 16, 6, 40.0
_PARAMETERS = {"name": r"[a-z0-9-]+", "hash": r"[0-9a-f]+", "time": r"[1-9][0-9]{0,11}"}
_PARAMETER = "|".join(f"{name}={value}" for name, value in _PARAMETERS.items())
_AUTHENTICATION = re.compile(
    rf"hmac ({_PARAMETER})(?:, ?| )({_PARAMETER})(?:(?:, ?| )({_PARAMETER}))?", re.ASCII | re.IGNORECASE
)
_WITHOUT_TIME = {"name", "hash"}
WRONG_HMAC = "the HMAC is not that of this body under its secret"


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
        algorithm = _ALGORITHMS.get(given["name"])
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


@dataclass(frozen=True, slots=True)
class Caller:
    """What is known of a client before its body is read.

    Args:
        address: where it asks from; None if a trusted proxy did not say it understandably.
        claim: its HMAC claim, if any.
    """

    address: IPAddress | None
    claim: Claim | None


class AuthMethod(Protocol):
    """One way to tell whether a client may use a block.

    `may_accept` MUST be cheap and MUST NOT need the body: it is asked before the body is read.
    `refusal` MUST be complete: a client that it does not refuse is accepted by it alone.
    """

    def may_accept(self, caller: Caller) -> bool:
        """Tell whether the client could be accepted, as far as its address and headers show."""

    def refusal(self, caller: Caller, body: bytes) -> str | None:
        """Return why the client is not accepted, for the operator; None if it is."""

    def accepts(self, caller: Caller, body: bytes) -> bool:
        """Tell whether the client is accepted."""


class IPAuthMethod:
    """Authentication by source IP, which accepts addresses and networks such as `2001:db8::/32`.

    Raises:
        ValueError: one of them is neither.
    """

    KEYS: ClassVar = ("ip",)

    def __init__(self, ips: Iterable[str | IPNetwork] | None = None) -> None:
        self.networks = [ipaddress.ip_network(ip, strict=False) for ip in ips or ()]
        written = [each.network_address if each.num_addresses == 1 else each for each in self.networks]
        self._known = ", ".join(map(str, written)) or "none"  # made once: each request may ask for it

    @classmethod
    def from_options(cls, options: Options) -> IPAuthMethod | None:
        """Return the method of a block, None where it has no `ip`."""
        networks = options.many("ip", parse_network, meaning="address or network that may send requests")
        return cls(networks) if networks else None

    def may_accept(self, caller: Caller) -> bool:
        """Tell whether the address is in one of the networks."""
        return caller.address is not None and any(caller.address in known for known in self.networks)

    def refusal(self, caller: Caller, body: bytes) -> str | None:  # noqa: ARG002 - the contract
        """Return why the address is not accepted, None if it is in one of the networks."""
        if self.may_accept(caller):
            return None
        return f"the address {caller.address or 'that the proxy gives'} is not in its ip ({self._known})"

    def accepts(self, caller: Caller, body: bytes) -> bool:
        """Tell whether the address is in one of the networks."""
        return self.refusal(caller, body) is None


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
            "hmac_key", _secret, None, meaning="secret shared with the clients, who send an HMAC made with it"
        )
        _warn_of_weakness(options, method.secret)
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


class AllAuthMethod:
    """Allow all authentication."""

    KEYS: ClassVar = ("all",)

    @classmethod
    def from_options(cls, options: Options) -> AllAuthMethod | None:
        """Return the method of a block, None where it does not say `all = yes`."""
        anyone = options.one("all", values.boolean, default=False, meaning="`yes`: accept anyone")
        return cls() if anyone else None

    @staticmethod
    def is_refused(options: Options) -> bool:
        """Tell whether a block says `all = no`."""
        given = [option.value for option in options.section.options if option.key == "all"]
        with contextlib.suppress(ValueError):
            return bool(given) and not values.boolean(given[0])
        return False

    def may_accept(self, caller: Caller) -> bool:  # noqa: ARG002 - the contract
        """Accept."""
        return True

    def refusal(self, caller: Caller, body: bytes) -> str | None:  # noqa: ARG002 - the contract
        """Accept."""
        return None

    def accepts(self, caller: Caller, body: bytes) -> bool:  # noqa: ARG002 - the contract
        """Accept."""
        return True


METHODS = (IPAuthMethod, HmacAuthMethod, AllAuthMethod)


def _algorithm(text: str) -> str:
    # A literal table: what a configuration or a client writes never becomes an attribute name.
    if text.lower() not in _ALGORITHMS:
        raise ValueError(f"{text!r} is none of sha256, sha384, sha512")
    return _ALGORITHMS[text.lower()]


def _warn_of_weakness(options: Options, secret: Secret | None) -> None:
    """Warn of a secret that could be guessed by whoever has seen one request; its words never show it."""
    text = secret.reveal() if secret is not None else ""
    if not text:
        return
    if text[0] == text[-1] and text[0] in "\"'":
        options.report("hmac_key: the quotes are part of the secret", "hmac_key", warning=True)
    if len(text) < _SHORTEST_SECRET or len(set(text)) < _FEWEST_CHARACTERS or _bits(text) < _FEWEST_BITS:
        options.report(
            "hmac_key: this secret is short or repeats itself, so whoever has seen one request can guess it: "
            "make one with 'openssl rand -hex 32'",
            "hmac_key",
            warning=True,
        )


def _bits(text: str) -> float:
    """Return Shannon's entropy of a text, from how often it has each character."""
    size = len(text)
    return sum(-count * math.log2(count / size) for count in Counter(text).values())


def _secret(text: str) -> Secret:
    if not text:
        raise ValueError("an empty secret protects nothing: make one with 'openssl rand -hex 32'")
    return Secret(text)
