"""dns-01 by the API of a DNS provider, through dns-lexicon (RFC 8555 section 8.4)."""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import dns.exception
import dns.name

from acmems.challenges.context import ValidatorContext
from acmems.challenges.contract import Proof
from acmems.challenges.dns_options import (
    aliases_from,
    environment_option,
    label_option,
    locate,
    longest_wait,
    propagation_from,
    recall,
)
from acmems.challenges.txt import TxtRecord, plain, possible_records, record_of
from acmems.dns.client.aliases import AliasEnd, Aliases, Record
from acmems.dns.client.propagation import Propagation
from acmems.exceptions import ValidatorUnavailable
from acmems.settings.findings import hint
from acmems.settings.options import Options
from acmems.settings.values import positive_int, seconds, text
from acmems.system.clock import SYSTEM, Clock, Deadline
from acmems.system.locks import KeyedLocks
from acmems.system.permissions import NamedFile, reason
from acmems.system.programs import ProgramResult, environment, program_slots, run
from acmems.text import Secret, one_line
from acmems.x509.identifiers import Identifier, IdentifierType

_log = logging.getLogger(__name__)

_WORKER = "acmems.challenges.programs.provider_worker"
# Where the HTTP calls of a provider go through, and whom they trust.
_HTTP_VARIABLES = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
)
_VARIABLES = (*_HTTP_VARIABLES, *(name.lower() for name in _HTTP_VARIABLES[:4]), "PYTHONPATH")
_SHORTEST_SECRET = 4  # characters; shorter ones stand in every text
_OPTION = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)\s*=\s*(\S.*)")


@dataclass(frozen=True, slots=True)
class ProviderOption:
    """An option of a provider; its value is text, `file:` and a path, or `env:` and a variable's name."""

    key: str
    value: Secret

    @property
    def file(self) -> Path | None:
        """The file that the value is read from, None if it is from elsewhere."""
        kind, _, path = self.value.reveal().partition(":")
        return Path(path) if kind == "file" else None

    def read(self) -> str:
        """Return the value, from wherever it is.

        Raises:
            OSError: its file cannot be read.
            ValueError: there is none, or it is not text.
        """
        value = self.value.reveal()
        if self.file is not None:
            value = self.file.read_text(encoding="utf-8").strip()
        elif value.startswith("env:"):
            value = os.environ.get(value.removeprefix("env:"), "")
        if not value:
            raise ValueError("it is empty")
        return value


class DnsProvider:
    """Proves names by TXT records that it adds and removes at a DNS provider.

    Args:
        provider: the provider, as dns-lexicon calls it.
        propagation: how to wait until the records are seen, and whom to ask for zones.
        provider_options: what the provider wants to know, such as its API token.
        zones: the domains at the provider; empty: asked for in the DNS.
        ttl: of the records, in seconds.
        timeout: how long the calls for one zone may take, in seconds, and how long to wait for others that
            change it.
        challenge_type: `dns-01` or `dns-account-01`.
        aliases: where records are added whose names are CNAMEs; None: at these names.
        variables: names of environment variables that the provider's process gets from this one.
        zone_locks: shared by all validators that may change the same zones.
        slots: one is held while a process runs.
    """

    sees_requests = False
    leaves_traces = True
    is_immediate = False
    shows_one_at_a_time = False

    def __init__(
        self,
        name: str,
        provider: str,
        propagation: Propagation,
        *,
        provider_options: Sequence[ProviderOption] = (),
        zones: Iterable[dns.name.Name] = (),
        ttl: int = 60,
        timeout: float = 60.0,
        challenge_type: str = "dns-01",
        aliases: Aliases | None = None,
        variables: Sequence[str] = (),
        zone_locks: KeyedLocks | None = None,
        slots: threading.BoundedSemaphore | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.name = name
        self.provider = provider
        self.zones = tuple(sorted(zones, key=len, reverse=True))
        self.ttl = ttl
        self.timeout = timeout
        self.challenge_type = challenge_type
        self._provider_options = tuple(provider_options)
        self._propagation = propagation
        self._aliases = aliases or Aliases(propagation.delegations, self.zones, follow=False)
        self._zone_locks = KeyedLocks() if zone_locks is None else zone_locks
        self._variables = tuple(variables)
        self._slots = slots or program_slots()
        self._clock = clock

    @classmethod
    def from_options(cls, name: str, options: Options, context: ValidatorContext) -> Self:
        """Make the validator that a section describes."""
        provider = options.required(
            "provider",
            text,
            meaning="name of the DNS provider in dns-lexicon, such as `gandi`",
        )
        if provider is not None:
            known = known_providers()
            if not known:
                options.report("dns-lexicon is not installed: pip install 'acmems[providers]'", "provider")
            elif provider not in known:
                options.report(
                    f"there is no provider '{one_line(provider, 40)}'{hint(provider, known)}", "provider"
                )
        given = options.many(
            "option",
            _provider_option,
            meaning="`key = value`, an option of the provider as dns-lexicon names it, such as "
            "`auth_token = …`; when it is used, the value `file:/path` is read from that file and "
            "`env:NAME` from the environment",
        )
        zones = options.many(
            "zone",
            _zone,
            meaning="domain at the provider in which records are created, also as the target of CNAMEs; the "
            "longest match counts; default: looked up in the DNS",
        )
        ttl = options.one("ttl", positive_int, 60, meaning="time to live of the records, in seconds")
        timeout = options.one(
            "timeout", seconds, 60.0, meaning="seconds after which the calls for one zone are abandoned"
        )
        challenge_type = label_option(options)
        propagation = propagation_from(options)
        return cls(
            name,
            provider or "",
            propagation,
            provider_options=given,
            zones=zones,
            ttl=ttl,
            timeout=timeout,
            challenge_type=challenge_type,
            aliases=aliases_from(options, propagation, zones, strict=True),
            variables=environment_option(options),
            zone_locks=context.zone_locks,
            slots=context.program_slots,
        )

    def proves(self, identifier: Identifier) -> bool:
        """Tell whether it is a DNS name, wildcard or not."""
        return identifier.type is IdentifierType.DNS

    def self_check(self) -> Iterable[tuple[str, str]]:
        """Say which options cannot be read from where they are."""
        for option in self._provider_options:
            try:
                option.read()
            except OSError as error:
                yield "option", f"{option.key}: {error.filename}: {reason(error)}"
            except ValueError as error:
                yield "option", f"{option.key}: {error}"

    def named_files(self) -> Iterable[NamedFile]:
        """Name the files that options are read from."""
        for option in self._provider_options:
            if option.file is not None:
                yield NamedFile("option", option.file, is_secret=True)

    def locate(self, proofs: Sequence[Proof]) -> Mapping[Proof, str]:
        """Find where the CNAMEs of the records' names lead."""
        return locate(self._aliases, proofs, self.challenge_type)

    def recall(self, places: Mapping[Proof, str]) -> None:
        """Take over where records were added."""
        recall(self._aliases, places, self.challenge_type)

    def forget(self, proofs: Sequence[Proof]) -> None:
        """Remember no more where records are."""
        self._aliases.forget(record.pair for record, _ in possible_records(proofs, self.challenge_type))

    def present(self, proofs: Sequence[Proof]) -> None:
        """Add the TXT records where the CNAMEs of their names lead, those of one zone in one process."""
        records = dict.fromkeys(record_of(proof, self.challenge_type).pair for proof in proofs)
        self._change("present", self._aliases.known(tuple(records)))

    def withdraw(self, proofs: Sequence[Proof]) -> None:
        """Remove exactly these TXT records from where they were added."""
        records = dict.fromkeys(record.pair for record, _ in possible_records(proofs, self.challenge_type))
        self._change("withdraw", self._aliases.recall(records))
        self.forget(proofs)

    @property
    def longest_wait(self) -> float:
        """Seconds that the records may take to be seen."""
        return longest_wait(self._propagation)

    def wait(self, proofs: Sequence[Proof], deadline: Deadline, stopping: threading.Event) -> None:
        """Return as soon as the records are seen, as `propagation` says."""
        records = [record_of(proof, self.challenge_type).pair for proof in proofs]
        self._propagation.wait(records, deadline, stopping, self._aliases.places(records))

    def _change(self, action: str, ends: Mapping[Record, AliasEnd]) -> None:
        deadline = self._clock.deadline(self.timeout)
        by_zone: dict[dns.name.Name, dict[TxtRecord, None]] = {}
        zones: dict[dns.name.Name, dns.name.Name] = {}
        for (_, value), end in ends.items():
            if end.name not in zones:
                zones[end.name] = self._zone(end)
            by_zone.setdefault(zones[end.name], {})[TxtRecord(end.name, value)] = None
        failed = None
        for zone, found in by_zone.items():
            try:
                self._call(action, zone, tuple(found), deadline)
            except ValidatorUnavailable as error:  # the records of other zones can be changed all the same
                failed = failed or error
        if failed is not None:
            raise failed

    def _zone(self, end: AliasEnd) -> dns.name.Name:
        if not self.zones:
            return end.zone or self._propagation.delegations.zone_of(end.name)
        return next(zone for zone in self.zones if end.name.is_subdomain(zone))  # the longest comes first

    def _call(
        self, action: str, zone: dns.name.Name, records: Sequence[TxtRecord], deadline: Deadline
    ) -> None:
        values = self._values(records[0])
        asked = {
            "action": action,
            "provider": self.provider,
            "zone": plain(zone),
            "ttl": self.ttl,
            "options": values,
            "records": [[str(record), record.value] for record in records],
        }
        command = [sys.executable, "-P", "-m", _WORKER]
        feed = json.dumps(asked).encode()
        try:
            # Many providers read all values of a name and write them back, so that of two changes at the
            # same time one would be lost.
            with self._zone_locks.hold((self.provider, zone), deadline), self._slots:
                environ = environment(*_VARIABLES, *self._variables)
                ended = run(command, environ, self._clock.deadline(self.timeout), feed=feed, apart=True)
        except TimeoutError:
            raise self._late(records[0]) from None
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise self._failure(records[0], f"its process cannot be started: {reason}") from None
        self._judge(action, records, ended, values)

    def _judge(
        self, action: str, records: Sequence[TxtRecord], ended: ProgramResult, values: dict[str, str]
    ) -> None:
        hide = functools.partial(_without_secrets, secrets=tuple(values.values()))
        for line in ended.errors.decode(errors="replace").splitlines():
            if words := one_line(hide(line)):
                _log.debug("%s: provider %s wrote: %s", self.name, self.provider, words)
        if ended.code is None:
            raise self._late(records[0])
        answer = _answer(ended.output)
        if answer is None:
            raise self._failure(records[0], "its process ended without an answer")
        if not answer:
            for record in records:
                _log.info("%s: provider %s: %s %s", self.name, self.provider, action, record)
            return
        name = answer.get("record") or str(records[0])
        detail = one_line(hide(str(answer.get("detail"))))
        _log.warning("%s: provider %s failed for record %s: %s", self.name, self.provider, name, detail)
        raise self._failure(name, hide(str(answer.get("reason"))))

    def _values(self, record: TxtRecord) -> dict[str, str]:
        values = {}
        for option in self._provider_options:
            try:
                values[option.key] = option.read()
            except (OSError, ValueError) as error:
                reason = (error.strerror if isinstance(error, OSError) else None) or "there is no text"
                raise ValidatorUnavailable(
                    f"provider {self.provider} was not asked for record {record}: its option "
                    f"{option.key} cannot be read",
                    advice=f"see what 'option = {option.key} = …' of [verification \"{self.name}\"] points "
                    f"to: {reason}",
                ) from None
        return values

    def _late(self, record: TxtRecord) -> ValidatorUnavailable:
        return self._failure(record, f"it was not done within {self.timeout:g} s")

    def _failure(self, record: object, reason: str) -> ValidatorUnavailable:
        return ValidatorUnavailable(
            f"provider {self.provider} failed for record {record}: {one_line(reason)}",
            advice=f"see 'provider', 'option' and 'zone' of [verification \"{self.name}\"] and the warning "
            f"before this; some providers need more: pip install 'dns-lexicon[{self.provider}]'",
        )

    def __repr__(self) -> str:
        return f"DnsProvider({self.name!r}, {self.provider!r})"


def known_providers() -> frozenset[str]:
    """Return the names of the providers that dns-lexicon has; none where it is not installed."""
    # Its files are listed, and nothing is imported: that would cost every start of the server.
    found = importlib.util.find_spec("lexicon")
    folders = [Path(folder) for folder in (found and found.submodule_search_locations) or ()]
    files = [file for folder in folders for file in folder.glob("_private/providers/*.py")]
    # "auto" looks at name servers to guess the provider.
    return frozenset(file.stem for file in files) - {"__init__", "auto", "base"}


def _answer(output: bytes) -> dict[str, Any] | None:
    try:
        answer = json.loads(output)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _without_secrets(words: str, secrets: Iterable[str]) -> str:
    """Return a text without any secret, as it is or as in a URL."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            for spelling in (secret, quote(secret), quote(secret, safe=""), repr(secret)[1:-1]):
                words = words.replace(spelling, "***")
    return words


def _provider_option(value: str) -> ProviderOption:
    match = _OPTION.fullmatch(value)
    if match is None:
        raise ValueError("must be 'key = value'")  # not quoted: it may be a secret
    return ProviderOption(match[1], Secret(match[2]))


def _zone(value: str) -> dns.name.Name:
    try:
        zone = dns.name.from_text(value)
    except (dns.exception.DNSException, UnicodeError):
        raise ValueError(f"{one_line(value)} is no domain") from None
    if len(zone) < 3:  # noqa: PLR2004 - two labels and the root
        raise ValueError(f"{one_line(value)} is no domain that a provider has")
    return zone
