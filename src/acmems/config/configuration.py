"""Everything that a person configures: the sections that there are, and what must fit together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from acmems.auth import Authenticator, Block
from acmems.auth.methods import HmacAuthMethod
from acmems.challenges import (
    VALIDATORS,
    ChallengeResponses,
    Http01,
    Validator,
    ValidatorContext,
    Waiting,
)
from acmems.challenges.dns01_server import DnsServer
from acmems.challenges.http01 import DEFAULT_LISTENERS
from acmems.config.acme_clients import check_acme_clients
from acmems.config.building import (
    built,
    keep_unchanged,
    make_storage,
    make_target,
    read_accounts,
    read_limits,
    read_local_cas,
)
from acmems.config.files import read_file
from acmems.config.listener_uses import ListenerUse, check_listeners, listeners_of, written
from acmems.config.tls_uses import misfits, ungranted_names
from acmems.exceptions import ConfigurationError
from acmems.frontends.acme.options import AcmeOptions
from acmems.frontends.metrics.options import MetricsOptions
from acmems.frontends.options import MgmtOptions, part
from acmems.frontends.tls.options import TlsOptions
from acmems.issuers.acme.options import AccountOptions
from acmems.issuers.local.options import LocalCaOptions
from acmems.issuing.limits.limit import Limit
from acmems.issuing.limits.options import limits_of
from acmems.logs.options import LoggingOptions
from acmems.notices.contract import NoticeTarget
from acmems.notices.targets import NOTICE_TARGETS
from acmems.settings.findings import NOWHERE, Finding, Location, hint
from acmems.settings.grammar import Section, read_sections
from acmems.settings.options import Options
from acmems.settings.sections import Naming, gives, of_kind, unnamed, well_formed
from acmems.state.options import StateOptions
from acmems.storages import PROCESS_MEMORY, STORAGES, NoStorage, Storage

KINDS: Mapping[str, Naming] = {
    "account": Naming.MAY,
    "local-ca": Naming.ALWAYS,
    "mgmt": Naming.NEVER,
    "logging": Naming.NEVER,
    "state": Naming.NEVER,
    "metrics": Naming.NEVER,
    "acme": Naming.NEVER,
    "verification": Naming.ALWAYS,
    "storage": Naming.ALWAYS,
    "limit": Naming.ALWAYS,
    "notice": Naming.ALWAYS,
    "auth": Naming.ALWAYS,
}
"""The kinds of sections."""

_UNNAMED = ("account", "mgmt", "logging", "state", "metrics", "acme")
_EMPTY = (
    "there is no section in it: it needs [account] with 'dir = …', and [auth \"NAME\"], which says who may "
    "have what"
)


class Configuration:
    """Everything that a person configures, checked.

    Make it with `load` or `from_text`.

    Args:
        sections: the sections of all files, in order.
        findings: what was found while reading them.
        location: where to report what is missing altogether.
        previous: the configuration that this one replaces in a running server. Verifications and storages
            whose sections are the same are those of that one, and what validators present is found where
            it was.

    Attributes:
        account: the ACME account of the section without a name; where `accounts` has none of that name, it
            says nothing but what holds for all.
        accounts: all ACME accounts, by name; that one has none. There is none where only local CAs are
            described.
        local_cas: the CAs of one's own, by name.
        default_issuers: accounts or local CAs for auth blocks that name none, best first.
        mgmt: where clients ask, and the limits of what they may ask.
        logging: what is logged, and where to.
        state: where open orders are kept.
        metrics: where monitoring systems ask.
        acme: where ACME clients ask, and what they must show.
        validators: what proves names, by name.
        storages: where chains are kept, by name; `none` is always among them.
        account_limits: the limits that are counted of each account's CA, by the account's name.
        notices: where operators are told of what fails, by name.
        default_validators: for auth blocks that name none, best first.
        default_validator: the first of them, None if there is none.
        default_storage: for auth blocks that name none.
        auth: who may ask for what.
        context: what its validators share with those of other configurations of the same server.
        responses: the one table that http-01 listeners answer from.
        sections: the sections that were read, each once.
        listener_uses: every address that is listened on, and whose it is.
        warnings: findings that stop nothing.

    Raises:
        ConfigurationError: with every finding, if one of them is more than a warning.
    """

    def __init__(
        self,
        sections: Sequence[Section],
        findings: Iterable[Finding] = (),
        location: Location = NOWHERE,
        previous: Configuration | None = None,
    ) -> None:
        found = list(findings)
        if not sections and not found:
            found.append(Finding(Location(location.path, 0), _EMPTY))
            raise ConfigurationError(found)
        kept = well_formed(sections, KINDS, found)
        self.sections, self._location = tuple(kept), location
        account, mgmt, logging, state, metrics, acme = (
            unnamed(kind, kept, location, found) for kind in _UNNAMED
        )
        is_local = any(of_kind("local-ca", kept)) and not any(of_kind("account", kept))
        account = unnamed("account", kept, location, []) if is_local else account  # nothing is missing there
        self.account = AccountOptions.from_options(account)
        self.mgmt = MgmtOptions.from_options(mgmt)
        self.logging = LoggingOptions.from_options(logging)
        self.state = StateOptions.from_options(state)
        self.metrics, self.acme = MetricsOptions.from_options(metrics), AcmeOptions.from_options(acme)
        for options in (account, mgmt, logging, state, metrics, acme):
            options.finish()
        self.local_cas: Mapping[str, LocalCaOptions] = read_local_cas(of_kind("local-ca", kept), found)
        described = read_limits(of_kind("limit", kept), found)
        limits = {"": limits_of(self.account.limits, self.account.directory_url, described, account)}
        further = read_accounts(of_kind("account", kept), described, limits, found)
        accounts = {} if is_local else {self.account.name: self.account, **further}
        found += [*self._shared_directories({**accounts, **self.local_cas}), *self._shared_names(accounts)]
        self.accounts: Mapping[str, AccountOptions] = accounts
        self.default_issuers = tuple(self.local_cas)[:1] if is_local else ("",)
        self.account_limits: Mapping[str, tuple[Limit, ...]] = limits
        self.context: ValidatorContext = previous.context if previous is not None else ValidatorContext()
        self.responses: ChallengeResponses = self.context.responses
        validators = built(
            of_kind("verification", kept), VALIDATORS, "dns01-dnsUpdate", self._make_validator, found
        )
        storages = built(of_kind("storage", kept), STORAGES, "none", make_storage, found)
        self.notices: Mapping[str, NoticeTarget] = built(
            of_kind("notice", kept), NOTICE_TARGETS, "exec", make_target, found
        )
        if previous is not None:
            keep_unchanged("verification", validators, previous.validators, kept, previous.sections)
            keep_unchanged("storage", storages, previous.storages, kept, previous.sections)
        self.default_validators = self._default_validators(validators, mgmt)
        self.default_validator = self.default_validators[0] if self.default_validators else None
        self.default_storage = self._default_storage(storages, mgmt)
        self.validators: Mapping[str, Validator] = validators
        self.storages: Mapping[str, Storage] = storages
        found += [*self._impatient(), *self._undecided(of_kind("auth", kept))]
        self.listener_uses = tuple(self._listener_uses(mgmt.section, metrics.section, acme.section, kept))
        check_listeners(self.listener_uses, found)
        blocks = tuple(
            Block(section.name or "", Options(section, found), self) for section in of_kind("auth", kept)
        )
        if not any(section.kind == "auth" for section in sections):
            found.append(Finding(location, "there is no [auth] section: nobody may ask", warning=True))
        rules = replace(self.mgmt.csr_rules, subject_names_only=self.account.subject == "names")
        self.auth = Authenticator(blocks, self.mgmt.max_size, rules, self.mgmt.trusted_proxies)
        found += [*self._unshared(), *self._misfits()]
        found.sort()
        if any(not finding.warning for finding in found):
            raise ConfigurationError(found)
        self.warnings = tuple(found)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        /,
        *more: str | os.PathLike[str],
        previous: Configuration | None = None,
    ) -> Self:
        """Read one or more files as one configuration.

        Args:
            path: a file.
            more: further files.
            previous: the configuration that this one replaces in a running server.

        Raises:
            ConfigurationError: with every problem of all files.
        """
        findings: list[Finding] = []
        read = [read_file(file, findings) for file in (path, *more)]
        start = Location(os.fspath(path), 1)
        try:
            sections = [section for found in read for section in found or ()]
            return cls(sections, findings, start, previous)
        except ConfigurationError as error:
            if None not in read:
                raise
            # What is missing altogether may stand in a file that cannot be read.
            kept = [
                found
                for found in error.findings
                if found in findings or getattr(found, "location", None) != start
            ]
            raise ConfigurationError(kept) from None

    @classmethod
    def from_text(cls, text: str, path: str = "<text>", *, previous: Configuration | None = None) -> Self:
        """Read a configuration from text.

        Args:
            text: what a file would hold.
            path: what to call it in findings.
            previous: the configuration that this one replaces in a running server.

        Raises:
            ConfigurationError: with every problem.
        """
        findings: list[Finding] = []
        return cls(read_sections(text, path, findings), findings, Location(path, 1), previous)

    def where(self, kind: str, name: str | None, key: str) -> Location:
        """Return where a key stands, or its section if it does not, or the file if that does not either.

        Args:
            kind: the kind of section, such as `storage`.
            name: the section's name, None where it has none.
            key: the key.
        """
        for section in self.sections:
            if (section.kind, section.name) == (kind, name):
                given = [option.location for option in section.options if option.key == key]
                return given[0] if given else section.location
        return self._location

    @property
    def home(self) -> Path:
        """Where the state is kept unless it is told, and where commands find the server.

        That is the directory of the account without a name; of the first local CA where there is no account.
        """
        first = next(iter(self.local_cas.values()), None)
        return self.account.dir if self.accounts or first is None else first.dir

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits that are counted of any CA, each once."""
        return tuple(dict.fromkeys(limit for limits in self.account_limits.values() for limit in limits))

    @property
    def tls(self) -> Mapping[str, TlsOptions]:
        """How front ends encrypt, by the kinds of their sections; those that do."""
        found = {"mgmt": self.mgmt.tls.within(self.home)} if self.mgmt.tls_listeners else {}
        if self.acme.listeners:
            own = self.acme.tls if self.acme.tls.is_given else self.mgmt.tls
            found["acme"] = replace(own, client_ca=self.mgmt.tls.client_ca).within(self.home)
        return found

    def take_share(self, position: int) -> None:
        """Let limits be those of one of several processes, so that all of them together keep the given ones.

        Args:
            position: its place among them, from 0 on.
        """
        for block in self.auth.blocks:
            if block.max_orders is not None:
                block.max_orders = part(block.max_orders, self.mgmt.processes, position)
        self.mgmt = self.mgmt.share(position)

    def _make_validator(self, made_by: type[Validator], name: str, options: Options) -> Validator:
        return made_by.from_options(name, options, self.context)

    def _shared_directories(
        self, issuers: Mapping[str, AccountOptions | LocalCaOptions]
    ) -> Iterator[Finding]:
        """Yield the accounts and local CAs whose files would lie where those of another one do."""
        owners: dict[Path, AccountOptions | LocalCaOptions] = {}
        for issuer in issuers.values():
            owner = owners.setdefault(Path(os.path.normpath(issuer.dir)), issuer)
            if owner is not issuer and issuer.dir != Path():
                kind = "local-ca" if isinstance(issuer, LocalCaOptions) else "account"
                yield Finding(
                    self.where(kind, issuer.name or None, "dir"),
                    f"dir: {issuer.dir} is that of {owner.section}: each needs one of its own",
                )

    def _shared_names(self, accounts: Mapping[str, AccountOptions]) -> Iterator[Finding]:
        """Yield the local CAs that an auth block could not tell from accounts."""
        for name, local_ca in self.local_cas.items():
            if name in accounts:
                yield Finding(
                    self.where("local-ca", name, ""),
                    f"{local_ca.section}: there is {accounts[name].section} as well, so 'issuer = {name}' "
                    f"could mean either: give one of them another name",
                )

    def _impatient(self) -> Iterator[Finding]:
        """Yield what clients never see the end of, because their own time is over before it."""
        for name, validator in self.validators.items():
            longest = validator.longest_wait if isinstance(validator, Waiting) else 0.0
            if longest > self.mgmt.request_timeout:
                yield Finding(
                    self.where("verification", name, "propagation-timeout"),
                    f"propagation-timeout ({longest:g} s) exceeds request-timeout "
                    f"({self.mgmt.request_timeout:g} s): clients get 504 meanwhile, and their certificate "
                    f"when they ask again",
                    warning=True,
                )

    def _unshared(self) -> Iterator[Finding]:
        """Yield what each of several processes would have for itself, where one for all is meant."""
        if self.mgmt.processes == 1:
            return
        if any(block.storage is PROCESS_MEMORY for block in self.auth.blocks):
            yield Finding(
                self.where("mgmt", None, "processes"),
                f"chains are kept in memory, which {self.mgmt.processes} processes do not share: each orders "
                f"a certificate of its own for the same request; add a [storage] with 'type = sql' or "
                f"'type = file'",
                warning=True,
            )
        for block in self.auth.blocks:
            if any(isinstance(each, HmacAuthMethod) and each.freshness is not None for each in block.methods):
                yield Finding(
                    self.where("auth", block.name, "hmac-fresh"),
                    f"each of {self.mgmt.processes} processes remembers by itself who used an HMAC first: "
                    f"whoever has seen one on its way may use it at another process while it is fresh",
                    warning=True,
                )

    def _misfits(self) -> Iterator[Finding]:
        """Yield what of TLS, of clients and of ACME does not fit together."""
        blocks, is_shown = self.auth.blocks, bool(self.acme.listeners)
        yield from misfits(self.mgmt, blocks, self.where, is_shown_elsewhere=is_shown)
        yield from ungranted_names(self.tls, blocks, self.where)
        has_certificate = self.acme.tls.is_given or self.mgmt.tls.is_given
        yield from check_acme_clients(self.acme, blocks, self.where, has_certificate=has_certificate)

    def _undecided(self, blocks: Sequence[Section]) -> Iterator[Finding]:
        """Yield the auth blocks that leave open which of several verifications is theirs."""
        if self.accounts and self.mgmt.default_verification is None and not self.default_validators:
            for section in blocks:
                if not gives(section, "verification") and not self._is_local(section):
                    yield Finding(
                        section.location,
                        f"{section} names no verification, and of several none is the default: add "
                        f"'verification = …' ({' or '.join(self.validators)}) here, or "
                        f"'default-verification = …' to [mgmt]",
                    )

    def _is_local(self, block: Section) -> bool:
        """Tell whether all issuers of an auth block are local CAs, to which nothing is proved."""
        given = [option.value.split(",") for option in block.options if option.key == "issuer"]
        names = given[0] if given else self.default_issuers
        return all(each.strip() in self.local_cas for each in names)

    def _default_validators(self, validators: dict[str, Validator], mgmt: Options) -> tuple[Validator, ...]:
        name = self.mgmt.default_verification
        if name is None and len(validators) == 1:
            return tuple(validators.values())
        if name is None and not validators and not self.accounts:
            return ()
        if name is None and not validators:
            validators["http01"] = Http01("http01", DEFAULT_LISTENERS, self.responses)
            return (validators["http01"],)
        names = [each.strip() for each in name.split(",")] if name else []
        for each in names:
            if each not in validators:
                mgmt.report(
                    f'there is no [verification "{each}"]{hint(each, validators)}', "default-verification"
                )
        return tuple(validators[each] for each in dict.fromkeys(names) if each in validators)

    def _default_storage(self, storages: dict[str, Storage], mgmt: Options) -> Storage:
        name = self.mgmt.default_storage
        if name is None and len(storages) == 1:
            name = next(iter(storages))
        is_chosen = name is not None or "none" in storages
        none = storages.setdefault("none", NoStorage("none"))
        if not is_chosen:
            return PROCESS_MEMORY  # nobody wants an order for each request without saying so
        if name and name not in storages:
            mgmt.report(f'there is no [storage "{name}"]{hint(name, storages)}', "default-storage")
        return storages.get(name or "none", none)

    def _listener_uses(
        self, mgmt: Section, metrics: Section, acme: Section, kept: Iterable[Section]
    ) -> Iterator[ListenerUse]:
        """Yield who listens on what; what stands in no section comes first, for the others to differ."""
        sections = {section.name or "": section for section in of_kind("verification", kept)}
        for name in self.validators.keys() - sections.keys():
            for address in listeners_of(self.validators[name]):
                yield ListenerUse(
                    address, mgmt.location, f'the default [verification "{name}"]', is_written=False
                )
        yield from written(mgmt, self.mgmt.listeners)
        yield from written(mgmt, self.mgmt.tls_listeners)
        yield from written(metrics, self.metrics.listeners)
        yield from written(acme, self.acme.listeners)
        for name, section in sections.items():
            validator = self.validators[name]
            for use in written(section, listeners_of(validator)):
                yield replace(use, takes_datagrams=isinstance(validator, DnsServer))
