"""Who asks, and may they: authentication methods, auth blocks, and the processing of one request.

The order of checks stands here, once: address and form of the header first, then the body is read,
then the HMAC over its bytes, and only then does a parser see it, so that strangers never reach one.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from functools import lru_cache
from typing import ClassVar, Protocol, TypeVar

from pyasn1.codec.der import decoder
from pyasn1.error import PyAsn1Error
from pyasn1_modules import rfc5280

from acmems import csr
from acmems.challenges import Validator
from acmems.exceptions import HttpRefusal, PayloadInvalid, PayloadToLarge, Secret
from acmems.ini import Location, Option, Options, Section, boolean, network
from acmems.names import Glob, Identifier
from acmems.storages import Storage

Named = TypeVar("Named")

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_ALGORITHMS = {name: name for name in ("sha256", "sha384", "sha512")} | {
    # OpenSSL 3 prints the second spelling, and 0.3's one-liners pass it on.
    "sha2-256": "sha256",
    "sha2-384": "sha384",
    "sha2-512": "sha512",
}
_DIGEST_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128}
_AUTHENTICATION = re.compile(
    r"hmac (?:name=(?P<name>[a-z0-9-]+)(?:, ?| )hash=(?P<hash>[0-9a-f]+)"
    r"|hash=(?P<hash2>[0-9a-f]+)(?:, ?| )name=(?P<name2>[a-z0-9-]+))",
    re.ASCII | re.IGNORECASE,
)


class SubjectAltName(rfc5280.SubjectAltName):  # type: ignore[misc]  # pyasn1 ships no types
    """ASN.1 implementation for subjectAltNames support (RFC 5280 section 4.2.1.6).

    It reads the names of a CSR a second time, with a parser that shares nothing with the first:
    a request whose names two parsers see differently is refused.
    """

    def __init__(
        self,
        componentType: object = None,  # noqa: N803 - published name
        tagSet: object = None,  # noqa: N803 - published name
        subtypeSpec: object = None,  # noqa: N803 - published name
        sizeSpec: object = None,  # noqa: N803 - published name
    ) -> None:
        # pyasn1 has folded the size constraint into the subtype constraint since this was published.
        given = {"componentType": componentType, "tagSet": tagSet, "subtypeSpec": subtypeSpec or sizeSpec}
        super().__init__(**{name: value for name, value in given.items() if value is not None})

    @classmethod
    def read(cls, der: bytes) -> frozenset[Identifier]:
        """Return the names in an encoded subjectAltName extension value.

        Raises:
            ValueError: it is not strict DER, or holds a name that is neither DNS nor IP.
        """
        try:
            names, rest = decoder.decode(der, asn1Spec=cls())
        except PyAsn1Error as error:
            raise ValueError("the subjectAltName extension is not DER") from error
        if rest:
            raise ValueError("bytes follow the subjectAltName extension")
        return frozenset(_identifier(name.getName(), bytes(name.getComponent())) for name in names)


def _identifier(kind: str, value: bytes) -> Identifier:
    if kind == "dNSName":
        return Identifier.dns(value.decode("ascii"))
    if kind == "iPAddress":
        return Identifier.ip(str(ipaddress.ip_address(value)))
    raise ValueError(f"subjectAltName holds a {kind}")


@lru_cache(maxsize=1024)
def read_request(body: bytes, rules: csr.Rules) -> csr.CertificateRequest:
    """Parse a CSR twice, independently, and return it only if both readings agree on its names.

    Cached, because machines send the same CSR again and again.

    Args:
        body: the exact bytes that the client sent.
        rules: what this server allows in a CSR.

    Raises:
        PayloadInvalid: it is not one well-formed, acceptable CSR.
    """
    request = csr.parse(body, rules)
    if request.san is not None:
        try:
            seen = SubjectAltName.read(request.san)
        except ValueError as error:
            raise PayloadInvalid(str(error)) from error
        if not seen <= set(request.identifiers):
            raise PayloadInvalid("the names in the CSR can be read in two ways")
    return request


@dataclass(frozen=True, slots=True)
class Claim:
    """What an `Authentication` header claims: the HMAC of the body under a shared secret."""

    algorithm: str
    digest: str = field(repr=False)

    @classmethod
    def from_headers(cls, headers: Message | Mapping[str, str]) -> Claim | None:
        """Return the claim of a request; a malformed one is as good as none."""
        values = headers.get_all("Authentication", []) if isinstance(headers, Message) else []
        if not isinstance(headers, Message) and "Authentication" in headers:
            values = [headers["Authentication"]]
        match = _AUTHENTICATION.fullmatch(str(values[0]).strip(" \t")) if len(values) == 1 else None
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
    """Authentication by source IP.

    Args:
        ips: addresses and networks to accept, such as `192.0.2.7` or `2001:db8::/32`.

    Raises:
        ValueError: one of them is neither.
    """

    KEYS: ClassVar = ("ip",)

    def __init__(self, ips: Iterable[str | IPNetwork] | None = None) -> None:
        self.networks = [ipaddress.ip_network(ip, strict=False) for ip in ips or ()]

    @classmethod
    def from_options(cls, options: Options) -> IPAuthMethod | None:
        """Return the method that a block's options ask for, None if they do not."""
        networks = options.many("ip", network)
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
        """Return the method that a block's options ask for, None if they do not."""
        method = cls()
        algorithm = options.one("hmac_type", _algorithm, None)
        method.algorithm = algorithm or method.algorithm
        method.secret = options.one("hmac_key", _secret, None)
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
        """Return the method that a block's options ask for, None if they do not."""
        return cls() if options.one("all", boolean, default=False) else None

    def may_accept(self, caller: Caller) -> bool:  # noqa: ARG002 - the contract
        """Accept."""
        return True

    def accepts(self, caller: Caller, body: bytes) -> bool:  # noqa: ARG002 - the contract
        """Accept."""
        return True


METHODS = (IPAuthMethod, HmacAuthMethod, AllAuthMethod)


class Rooms(Protocol):
    """What a block needs of a configuration: the validators and storages it may name."""

    @property
    def validators(self) -> Mapping[str, Validator]:
        """Validators by name."""

    @property
    def storages(self) -> Mapping[str, Storage]:
        """Storages by name."""

    @property
    def default_validator(self) -> Validator | None:
        """The validator of blocks that name none."""

    @property
    def default_storage(self) -> Storage:
        """The storage of blocks that name none."""


class Block:
    """One authentication block - combination of authentications and list of allowed domains.

    A client is accepted when every method of the block accepts it, and a request when every name in
    it matches one of the block's globs. A block without methods or without domains accepts nobody.

    Args:
        name: the block's name.
        options: its options, an `Options` or pairs of key and value.
        config: where the validators and storages that it names are found.

    Raises:
        ConfigurationError: pairs were given, and they do not make a block (an `Options` keeps its
            own list of findings).
    """

    def __init__(self, name: str, options: Options | Iterable[tuple[str, str]], config: Rooms) -> None:
        read = options if isinstance(options, Options) else _from_pairs(name, options)
        self.name = name
        self.globs: tuple[Glob, ...] = read.many("domain", Glob.parse)
        made = [method.from_options(read) for method in METHODS]
        self.methods: tuple[AuthMethod, ...] = tuple(method for method in made if method is not None)
        self.validator = read.one("verification", _known(config.validators), config.default_validator)
        self.storage = read.one("storage", _known(config.storages), config.default_storage)
        self._check(read)
        read.finish()
        if read is not options:
            read.raise_findings()

    def _check(self, options: Options) -> None:
        if not options.has("domain"):
            options.report("an auth block needs at least one domain: add 'domain = host.example.org'")
        if not any(options.has(key) for method in METHODS for key in method.KEYS):
            options.report("an auth block needs ip, hmac_key or 'all = yes': without it nobody may use it")
        elif not self.methods and not options.has("hmac_key") and not options.has("ip"):
            options.report("an auth block whose only method is 'all = no' accepts nobody", "all")
        for glob in self.globs:
            if glob.text == "*":
                options.report(
                    "'*' matches only names without a dot; for any name, as in 0.3, write '**'",
                    "domain",
                    warning=True,
                )

    def may_accept(self, caller: Caller) -> bool:
        """Tell whether the block could accept a client, before its body is read."""
        return bool(self.methods) and all(method.may_accept(caller) for method in self.methods)

    def accepts(self, caller: Caller, body: bytes) -> bool:
        """Tell whether every method of the block accepts a client."""
        # A list, not a generator: how long it takes shall not depend on which method says no.
        verdicts = [method.accepts(caller, body) for method in self.methods]
        return bool(verdicts) and all(verdicts)

    def refusal(self, identifiers: Sequence[Identifier]) -> str | None:
        """Return why the block does not grant these names, None if it grants every one of them."""
        for identifier in identifiers:
            if not any(glob.matches(identifier) for glob in self.globs):
                return f"{identifier.value} matches no domain of it"
            if identifier.is_wildcard and not (self.validator and self.validator.proves_wildcards):
                return f"{identifier.value} needs a verification by DNS"
        return None if identifiers else "the request holds no name"

    def __repr__(self) -> str:
        return f"Block({self.name!r})"


@dataclass(frozen=True, slots=True)
class Authenticator:
    """All auth blocks, in order, and what is allowed of every request.

    Args:
        blocks: tried in this order; the first that accepts wins.
        max_size: largest body, in bytes.
        rules: what a CSR may hold.
        trusted_proxies: peers whose `X-Forwarded-For` is believed.
    """

    blocks: tuple[Block, ...] = ()
    max_size: int = 4096
    rules: csr.Rules = field(default_factory=csr.Rules)
    trusted_proxies: tuple[IPNetwork, ...] = ()


class Readable(Protocol):
    """What a body can be read from."""

    def read(self, size: int, /) -> bytes:
        """Return so many bytes."""


class Processor:
    """Helper object to process a request, check authentication, reads and parse CSR.

    Args:
        auth: the auth blocks.
        client_address: host and port of the TCP peer.
        headers: the request's headers.
        rfile: where the body is read from.
    """

    def __init__(
        self,
        auth: Authenticator,
        client_address: tuple[str, int],
        headers: Message | Mapping[str, str],
        rfile: Readable,
    ) -> None:
        self.auth = auth
        self.headers = headers
        self.rfile = rfile
        self.caller = Caller(
            client_ip(client_address[0], headers, auth.trusted_proxies), Claim.from_headers(headers)
        )
        self.block: Block | None = None
        self.request: csr.CertificateRequest | None = None
        self.reason = "no auth block is configured"

    def may_be_acceptable(self) -> bool:
        """Tell, before the body is read, whether any block could accept the client."""
        if any(block.may_accept(self.caller) for block in self.auth.blocks):
            return True
        if self.auth.blocks:
            claim = "a well-formed HMAC claim" if self.caller.claim else "no well-formed HMAC claim"
            self.reason = f"no block takes this address with {claim}"
        return False

    def content_length(self) -> int:
        """Return the announced length of the body, in bytes.

        Raises:
            HttpRefusal: there is none, or it is no number.
            PayloadToLarge: it is over `max-size`.
        """
        announced = self.headers.get("Content-Length")
        if announced is None:
            raise HttpRefusal(411, "send the CSR with a Content-Length header")
        if not re.fullmatch(r"[0-9]{1,18}", str(announced), re.ASCII):
            raise HttpRefusal(400, "Content-Length is not a number")
        size = int(str(announced))
        if size > self.auth.max_size:
            raise PayloadToLarge(size, self.auth.max_size)
        return size

    def acceptable(self) -> bool:
        """Read the request and decide whether it is allowed.

        Afterwards `request` and `block` tell what was asked and which block grants it, or `reason`
        tells the operator why none does.

        Returns:
            whether the request should be accepted.

        Raises:
            HttpRefusal: the body's length is not announced.
            PayloadToLarge: the body is over `max-size`.
            PayloadInvalid: the body is not one well-formed, acceptable CSR.
        """
        if not self.may_be_acceptable():
            return False
        body = self.rfile.read(self.content_length())
        blocks = [block for block in self.auth.blocks if block.accepts(self.caller, body)]
        if not blocks:
            self.reason = "the HMAC is not that of this body under a block's secret"
            return False
        request = read_request(body, self.auth.rules)
        self.request = request
        refusals = []
        for block in blocks:
            refusal = block.refusal(request.identifiers)
            if refusal is None:
                self.block = block
                return True
            refusals.append(f"block {block.name}: {refusal}")
        self.reason = "; ".join(refusals)
        return False


def client_ip(
    peer: str, headers: Message | Mapping[str, str], trusted_proxies: Sequence[IPNetwork]
) -> IPAddress | None:
    """Return the address that a request comes from.

    `X-Forwarded-For` counts only from a trusted proxy, and then its rightmost hop that is no trusted
    proxy itself: everything left of it is the client's own word.

    Args:
        peer: the address of the TCP peer.
        headers: the request's headers.
        trusted_proxies: peers whose word is believed.
    """
    address = _address(peer)
    values = headers.get_all("X-Forwarded-For", []) if isinstance(headers, Message) else []
    hops = [hop.strip() for value in values for hop in str(value).split(",")]
    while hops and address is not None and any(address in proxy for proxy in trusted_proxies):
        address = _address(hops.pop())
    return address


def _address(text: str) -> IPAddress | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _algorithm(text: str) -> str:
    # A literal table: what a configuration or a client writes never becomes an attribute name.
    if text.lower() not in _ALGORITHMS:
        raise ValueError(f"{text!r} is none of sha256, sha384, sha512")
    return _ALGORITHMS[text.lower()]


def _secret(text: str) -> Secret:
    if not text:
        raise ValueError("an empty secret protects nothing: make one with 'openssl rand -hex 32'")
    return Secret(text)


def _known(table: Mapping[str, Named]) -> Callable[[str], Named]:
    """Return a parser that accepts the names in a table."""

    def parse(text: str) -> Named:
        if text not in table:
            raise ValueError(f"{text!r} is not defined; defined are: {', '.join(sorted(table)) or 'none'}")
        return table[text]

    return parse


def _from_pairs(name: str, pairs: Iterable[tuple[str, str]]) -> Options:
    location = Location(f'auth "{name}"', 0)
    options = tuple(Option(key, value, location) for key, value in pairs)
    return Options(Section("auth", name, options, location), [])
