"""Auth blocks: one combination of methods, and the names that it grants."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from acmems.auth.methods import (
    METHODS,
    AllAuthMethod,
    AuthMethod,
    Caller,
    ClientCertificateMethod,
    HmacAuthMethod,
    TokenAuthMethod,
)
from acmems.auth.required_proof import RequiredProof
from acmems.challenges import Validator
from acmems.issuers.local.options import LocalCaOptions
from acmems.net.address import IPNetwork, parse_network
from acmems.settings.findings import Location
from acmems.settings.grammar import Option, Section
from acmems.settings.options import Options
from acmems.settings.values import positive_int
from acmems.storages import Storage
from acmems.x509.identifiers import Glob, Identifier, IdentifierType

Named = TypeVar("Named")


class PlugIns(Protocol):
    """What a block needs of a configuration: the validators and storages it may name."""

    @property
    def validators(self) -> Mapping[str, Validator]:
        """Validators by name."""

    @property
    def storages(self) -> Mapping[str, Storage]:
        """Storages by name."""

    @property
    def accounts(self) -> Mapping[str, object]:
        """Accounts by name, which turn requests into chains; the one without a name has an empty one."""

    @property
    def local_cas(self) -> Mapping[str, LocalCaOptions]:
        """CAs of one's own by name, which turn requests into chains as accounts do."""

    @property
    def default_issuers(self) -> tuple[str, ...]:
        """The accounts or local CAs of blocks that name none, best first."""

    @property
    def default_validators(self) -> tuple[Validator, ...]:
        """The validators of blocks that name none, best first."""

    @property
    def default_storage(self) -> Storage:
        """The storage of blocks that name none."""


class Block:
    """One authentication block - combination of authentications and list of allowed domains.

    A client is accepted when every method of the block accepts it, and a request when every name in
    it matches one of the block's globs. A block without methods or without domains accepts nobody.

    Args:
        options: its options, an `Options` or pairs of key and value.
        config: where the validators and storages that it names are found.

    Raises:
        ConfigurationError: pairs were given, and they do not make a block (an `Options` keeps its
            own list of findings).
    """

    def __init__(self, name: str, options: Options | Iterable[tuple[str, str]], config: PlugIns) -> None:
        read = options if isinstance(options, Options) else _from_pairs(name, options)
        self.name = name
        self.globs: tuple[Glob, ...] = read.many(
            "domain", Glob.parse, meaning="glob for names that this block grants; or use `address`"
        )
        self.addresses: tuple[IPNetwork, ...] = read.many(
            "address",
            parse_network,
            meaning="IP address or network whose addresses this block grants as names; not the same as `ip`",
        )
        made = [method.from_options(read) for method in METHODS]
        self.methods: tuple[AuthMethod, ...] = tuple(method for method in made if method is not None)
        self.issuers: tuple[str, ...] = read.one(
            "issuer",
            _names(config.accounts, config.local_cas),
            config.default_issuers,
            meaning="names of accounts and local CAs, separated by commas, in order of preference: the first "
            "issues that works and can issue what is asked for; an empty name is `[account]` (default)",
        )
        local = [config.local_cas[name] for name in self.issuers if name in config.local_cas]
        self.local_cas: tuple[LocalCaOptions, ...] = tuple(local) if len(local) == len(self.issuers) else ()
        self.validators: tuple[Validator, ...] = read.one(
            "verification",
            listed(config.validators),
            () if self.local_cas else config.default_validators,
            meaning="names of verifications, separated by commas, in order of preference; each name of a "
            "request is validated by the first that can and that the CA offers for it",
        )
        self.storage = read.one(
            "storage",
            _known(config.storages),
            config.default_storage,
            meaning="name of the storage in which chains are kept",
        )
        self.proof = RequiredProof.from_options(read)
        self.max_orders: int | None = read.one(
            "max-orders",
            positive_int,
            None,
            meaning="maximum number of simultaneous orders of this block; default: half of what other blocks "
            "leave of `max-orders` in `[mgmt]`",
        )
        self._check(read)
        read.finish()
        if read is not options:
            read.raise_findings()

    def _check(self, options: Options) -> None:
        if not options.has("domain") and not options.has("address"):
            options.report("an auth block needs at least one domain: add 'domain = host.example.org'")
        if not any(options.has(key) for method in METHODS for key in method.KEYS):
            options.report(
                "an auth block needs ip, hmac_key or 'all = yes' (or token, client-certificate, eab-kid): "
                "without one of them nobody may use it"
            )
        elif AllAuthMethod.is_refused(options) and not any(
            options.has(key) for method in METHODS if method is not AllAuthMethod for key in method.KEYS
        ):
            options.report(
                f"{options.section} accepts nobody, because 'all = no' is its only method: write 'all = yes' "
                f"for anyone, or ip or hmac_key for some",
                "all",
            )
        unproved = (("hmac_key", "HMAC"), ("token", "token"), ("token-file", "token"))
        for key, words in unproved if self.proof.is_required else ():
            if options.has(key):
                options.report(
                    f"prove is for ACME clients, which send no {words}: use another method than {key}",
                    "prove",
                )
        if self.local_cas and options.has("verification"):
            options.report(
                "verification is given, but nothing is proved to a local CA: remove it", "verification"
            )
        self._check_globs(options)

    def _check_globs(self, options: Options) -> None:
        for glob in self.globs:
            if self.local_cas and not any(each.permits.meets(glob) for each in self.local_cas):
                sections = " or ".join(each.section for each in self.local_cas)
                options.report(
                    f"'{glob.text}' matches no name that {sections} permits: it grants nothing",
                    "domain",
                    warning=True,
                )
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
        return not self.objections(caller, body)

    def objections(self, caller: Caller, body: bytes) -> list[str]:
        """Return why methods of the block do not accept a client, for the operator."""
        # A list, not a generator: all methods are asked, so that the time tells nobody which one refused.
        answers = [method.refusal(caller, body) for method in self.methods]
        return [answer for answer in answers if answer is not None] if answers else ["it has no method"]

    def use(self, caller: Caller) -> str | None:
        """Note that an accepted client uses the block, and return why it cannot, None if it can.

        Only what the block accepts as a whole is noted: otherwise, somebody at another address could use
        up the HMAC of a request that he has seen on its way.
        """
        answers = [method.use(caller) for method in self.methods if isinstance(method, HmacAuthMethod)]
        return next((answer for answer in answers if answer is not None), None)

    @property
    def validator(self) -> Validator | None:
        """The first of its validators, None if it has none."""
        return self.validators[0] if self.validators else None

    def refresh(self) -> None:
        """Read anew the files with tokens that have changed. It may wait for a disk."""
        for method in self.token_methods:
            method.refresh()

    def self_check(self) -> Iterator[tuple[str, str]]:
        """Say what is wrong with the files with tokens. It may wait for a disk."""
        for method in self.token_methods:
            yield from method.self_check()

    @property
    def token_methods(self) -> tuple[TokenAuthMethod, ...]:
        """Those of its methods that know tokens."""
        return tuple(method for method in self.methods if isinstance(method, TokenAuthMethod))

    def refusal(self, identifiers: Sequence[Identifier], caller: Caller | None) -> str | None:
        """Return why the block does not grant these names, None if it grants every one of them.

        Args:
            identifiers: the names.
            caller: the accepted client that asks for them, whose certificate may not cover all of them; None
                where they were granted to a client before, and nobody asks now.
        """
        for identifier in identifiers:
            if not self.grants(identifier):
                matched = "domain" if identifier.type is IdentifierType.DNS else "address"
                return f"{identifier.value} matches no {matched} of it"
            if self.local_cas:  # to which nothing is proved
                continue
            is_provable = any(each.proves(identifier) for each in self.validators)
            if not is_provable and (self.validators or identifier.is_wildcard):
                kinds = "by DNS" if identifier.type is IdentifierType.DNS else "of type http01 or tls-alpn01"
                return f"{identifier.value} needs a verification {kinds}"
        if not identifiers:
            return "the request holds no name"
        # All by one: a request is not split over issuers.
        refused = [(each.section, each.permits.refused(identifiers)) for each in self.local_cas]
        if refused and all(names for _, names in refused):
            section, names = refused[0]
            return f"no 'permit' of {section} covers {', '.join(each.value for each in names)}"
        return None if caller is None else self._uncovered(identifiers, caller)

    def _uncovered(self, identifiers: Sequence[Identifier], caller: Caller) -> str | None:
        """Return why an accepted client may not ask for names that the block grants, None if it may."""
        certifying = [method for method in self.methods if isinstance(method, ClientCertificateMethod)]
        refusals = [method.names_refusal(caller, identifiers) for method in certifying]
        return next((refusal for refusal in refusals if refusal is not None), None)

    def grants(self, identifier: Identifier) -> bool:
        """Tell whether a glob or address of the block covers a name."""
        if identifier.type is IdentifierType.DNS:
            return any(glob.matches(identifier) for glob in self.globs)
        address = ipaddress.ip_address(identifier.value)
        return any(address in granted for granted in self.addresses)

    def __repr__(self) -> str:
        return f"Block({self.name!r})"


def _known(table: Mapping[str, Named]) -> Callable[[str], Named]:
    """Return a parser that accepts the names in a table."""

    def parse(text: str) -> Named:
        if text not in table:
            raise ValueError(f"{text!r} is not defined; defined are: {', '.join(sorted(table)) or 'none'}")
        return table[text]

    return parse


def listed(table: Mapping[str, Named]) -> Callable[[str], tuple[Named, ...]]:
    """Return a parser that accepts one or more names in a table, with commas between."""
    known = _known(table)

    def parse(text: str) -> tuple[Named, ...]:
        names = [name.strip() for name in text.split(",")]
        if len(set(names)) < len(names):
            raise ValueError(f"{text!r} names one twice")
        return tuple(map(known, names))

    return parse


def _names(
    accounts: Mapping[str, object], local_cas: Mapping[str, LocalCaOptions]
) -> Callable[[str], tuple[str, ...]]:
    """Return a parser that accepts one or more names of issuers, with commas between, and returns these."""

    def parse(text: str) -> tuple[str, ...]:
        names = tuple(name.strip() for name in text.split(","))
        if len(set(names)) < len(names):
            raise ValueError(f"{text!r} names one twice")
        for name in names:
            if name not in accounts and name not in local_cas:
                known = [f'[account "{each}"]' if each else "[account]" for each in accounts]
                known += [each.section for each in local_cas.values()]
                missing = f'[account "{name}"]' if name else "[account]"
                raise ValueError(f"there is no {missing}; there is {', '.join(known)}")
        return names

    return parse


def _from_pairs(name: str, pairs: Iterable[tuple[str, str]]) -> Options:
    location = Location(f'auth "{name}"', 0)
    options = tuple(Option(key, value, location) for key, value in pairs)
    return Options(Section("auth", name, options, location), [])
