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

from acmems.auth.headers import Headers, header_values
from acmems.net.address import IPAddress, IPNetwork, parse_network
from acmems.settings.options import Options
from acmems.settings.values import boolean
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
_AUTHENTICATION = re.compile(
    r"hmac (?:name=(?P<name>[a-z0-9-]+)(?:, ?| )hash=(?P<hash>[0-9a-f]+)"
    r"|hash=(?P<hash2>[0-9a-f]+)(?:, ?| )name=(?P<name2>[a-z0-9-]+))",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Claim:
    """What an `Authentication` header claims: the HMAC of the body under a shared secret."""

    algorithm: str
    digest: str = field(repr=False)

    @classmethod
    def from_headers(cls, headers: Headers) -> Claim | None:
        """Return the claim of a request; a malformed one is as good as none."""
        values = header_values(headers, "Authentication")
        match = _AUTHENTICATION.fullmatch(values[0].strip(" \t")) if len(values) == 1 else None
        if match is None:
            return None
        algorithm = _ALGORITHMS.get((match["name"] or match["name2"]).lower())
        digest = match["hash"] or match["hash2"]
        if algorithm is None or len(digest) != _DIGEST_LENGTH[algorithm]:
            return None
        return cls(algorithm, digest.lower())


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
    `accepts` MUST be complete: a client is accepted by it alone.
    """

    def may_accept(self, caller: Caller) -> bool:
        """Tell whether the client could be accepted, as far as its address and headers show."""

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

    @classmethod
    def from_options(cls, options: Options) -> IPAuthMethod | None:
        """Return the method of a block, None where it has no `ip`."""
        networks = options.many("ip", parse_network, meaning="address or network that may send requests")
        return cls(networks) if networks else None

    def may_accept(self, caller: Caller) -> bool:
        """Tell whether the address is in one of the networks."""
        return caller.address is not None and any(caller.address in known for known in self.networks)

    def accepts(self, caller: Caller, body: bytes) -> bool:  # noqa: ARG002 - the contract
        """Tell whether the address is in one of the networks."""
        return self.may_accept(caller)


class HmacAuthMethod:
    """Authentication by HMAC / secret key.

    The client proves that it knows a shared secret by sending the HMAC (RFC 2104) of its CSR.
    Without a secret nobody is accepted.
    """

    KEYS: ClassVar = ("hmac_type", "hmac_key")

    def __init__(self) -> None:
        self.algorithm = "sha256"
        self.secret: Secret | None = None

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
        if algorithm and method.secret is None and not options.has("hmac_key"):
            options.report("hmac_type is given, but no hmac_key", "hmac_type")
        return method if method.secret else None

    def may_accept(self, caller: Caller) -> bool:
        """Tell whether a well-formed claim with this method's algorithm came along."""
        return caller.claim is not None and caller.claim.algorithm == self.algorithm

    def accepts(self, caller: Caller, body: bytes) -> bool:
        """Tell whether the claim is the HMAC of the body, in constant time."""
        if caller.claim is None or self.secret is None or not self.may_accept(caller):
            return False
        expected = hmac.new(self.secret.reveal().encode(), body, self.algorithm).hexdigest()
        return hmac.compare_digest(expected, caller.claim.digest)


class AllAuthMethod:
    """Allow all authentication."""

    KEYS: ClassVar = ("all",)

    @classmethod
    def from_options(cls, options: Options) -> AllAuthMethod | None:
        """Return the method of a block, None where it does not say `all = yes`."""
        return cls() if options.one("all", boolean, default=False, meaning="`yes`: accept anyone") else None

    @staticmethod
    def is_refused(options: Options) -> bool:
        """Tell whether a block says `all = no`."""
        given = [option.value for option in options.section.options if option.key == "all"]
        with contextlib.suppress(ValueError):
            return bool(given) and not boolean(given[0])
        return False

    def may_accept(self, caller: Caller) -> bool:  # noqa: ARG002 - the contract
        """Accept."""
        return True

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
