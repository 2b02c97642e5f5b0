"""dns-persist-01: a TXT record that stays says who may ask whom (draft-ietf-acme-dns-persist)."""

from __future__ import annotations

import datetime
import functools
import logging
import re
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, Self

import dns.exception
import dns.name

from acmems.challenges.context import ValidatorContext
from acmems.challenges.contract import Proof
from acmems.dns.client.records import Records
from acmems.dns.client.resolver import Resolver
from acmems.exceptions import NoChallengeMethodsSupported, ValidatorUnavailable
from acmems.net.address import parse_address
from acmems.settings.options import Options
from acmems.settings.values import days, seconds
from acmems.system.clock import SYSTEM, Clock
from acmems.text import one_line
from acmems.x509.identifiers import Identifier, IdentifierType

logger = logging.getLogger(__name__)

_WARN_BEFORE = datetime.timedelta(days=30)
_AT_ONCE = 8  # names looked up at a time for one order
_ONCE_IN = datetime.timedelta(days=1)
_PARAMETER = re.compile(r"\s*([A-Za-z0-9-]+)\s*=\s*([!-:<-~]*)\s*", re.ASCII)
_TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PersistRecord:
    """What a record allows: make it with `parse`.

    Args:
        issuer: the CA's domain name, in lower case.
        account_url: whose orders the CA may fulfil.
        wildcard: whether wildcards, and names below, are included.
        until: when it ends, in seconds since 1970; None: never.
    """

    issuer: str
    account_url: str
    wildcard: bool = False
    until: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read the text of a record, None where it is none that a CA would take (RFC 8659 section 4.2)."""
        issuer, *parts = text.split(";")
        parameters: dict[str, str] = {}
        for part in parts:
            if not part.strip():
                continue
            found = _PARAMETER.fullmatch(part)
            if found is None or found[1].lower() in parameters:
                return None
            parameters[found[1].lower()] = found[2]
        until = parameters.get("persistuntil")
        if "accounturi" not in parameters or not (until is None or _TIMESTAMP.fullmatch(until)):
            return None
        return cls(
            _issuer(issuer),
            parameters["accounturi"],
            parameters.get("policy", "").lower() == "wildcard",
            None if until is None else int(until),
        )

    def fits(self, issuers: Collection[str], account_url: str, *, wildcard: bool) -> bool:
        """Tell whether it is for one of these issuers and this account, its end apart."""
        ours = {_issuer(issuer) for issuer in issuers}
        return self.issuer in ours and self.account_url == account_url and (self.wildcard or not wildcard)


class TextSource(Protocol):
    """Looks TXT records up; `acmems.dns.client.records.Records` does, with its exceptions."""

    def texts(self, name: dns.name.Name) -> Collection[str]:
        """Return the TXT values of a name."""


class DnsPersist:
    """Proves names by records that stand in DNS already; it looks, and changes nothing.

    Args:
        resolver: tells who has authority for the records.
        issuer: which of the CA's names the records have; None: the first that the CA gives.
        until: the end for new records, in seconds since 1970; None: none.
        warn_before: how long before the end of a record the log warns.
        records: looks records up; None: by that resolver.
    """

    challenge_type = "dns-persist-01"
    sees_requests = False
    leaves_traces = False
    is_immediate = False
    shows_one_at_a_time = False

    def __init__(
        self,
        name: str,
        resolver: Resolver,
        issuer: str | None = None,
        until: int | None = None,
        warn_before: datetime.timedelta = _WARN_BEFORE,
        *,
        records: TextSource | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.name = name
        self.resolver = resolver
        self._records = records or Records(resolver)
        self.issuer = issuer
        self.until = until
        self.warn_before = warn_before
        self._clock = clock
        self._lock = threading.Lock()  # guards what follows
        # When the log last warned of a record. A name may have several records, each with an end of its own.
        self._warned: dict[tuple[dns.name.Name, PersistRecord], datetime.datetime] = {}

    @classmethod
    def from_options(cls, name: str, options: Options, context: ValidatorContext) -> Self:  # noqa: ARG003 - the contract
        """Make the validator that a section describes."""
        resolvers = options.many(
            "resolver",
            functools.partial(parse_address, default_port=53),
            meaning="resolver to query, `host` or `host:port`; default: those of the system",
        )
        timeout = options.one(
            "timeout", seconds, 5.0, meaning="seconds that one answer of a resolver may take"
        )
        issuer = options.one(
            "issuer",
            _issuer_option,
            None,
            meaning="which of its names identifies the CA in new records, such as `letsencrypt.org`; "
            "default: the first that the CA gives",
        )
        until = options.one(
            "persist-until", _date, None, meaning="last day of new records, as `2030-12-31`; default: no end"
        )
        warn = options.one(
            "warn-before",
            days,
            _WARN_BEFORE,
            meaning="how many days before the end of a record warnings are logged",
        )
        return cls(name, Resolver(resolvers, timeout), issuer, until, warn)

    def proves(self, identifier: Identifier) -> bool:
        """Tell whether it is a DNS name, wildcard or not."""
        return identifier.type is IdentifierType.DNS

    def present(self, proofs: Sequence[Proof]) -> None:
        """See that the record of each name is there; an error says which one to create."""
        with ThreadPoolExecutor(min(_AT_ONCE, len(proofs)), thread_name_prefix="acmems-persist") as pool:
            list(pool.map(self._look, proofs))

    def withdraw(self, proofs: Sequence[Proof]) -> None:
        """Do nothing: the records stay."""

    def covers(
        self, texts: Iterable[str], issuers: Collection[str], account_url: str, *, wildcard: bool
    ) -> bool:
        """Tell whether one of the TXT values of a name lets a CA issue for an account now.

        Args:
            texts: the values.
            issuers: the names by which the CA calls itself.
            account_url: the account.
            wildcard: whether it is asked for the wildcard below the name.
        """
        return self._best(texts, issuers, account_url, wildcard=wildcard) is not None

    def _best(
        self, texts: Iterable[str], issuers: Collection[str], account_url: str, *, wildcard: bool
    ) -> PersistRecord | None:
        """Return the record that lasts longest of those that fit and have not ended."""
        now = self._clock.now().timestamp()
        fitting = [
            found
            for text in texts
            if (found := PersistRecord.parse(text)) is not None
            and found.fits(issuers, account_url, wildcard=wildcard)
            and (found.until is None or found.until > now)
        ]
        return max(
            fitting, key=lambda found: float("inf") if found.until is None else found.until, default=None
        )

    def _look(self, proof: Proof) -> None:
        base, wildcard = proof.identifier.base, proof.is_wildcard
        name = record_name(base)
        issuers = tuple(map(one_line, (*([self.issuer] if self.issuer else []), *proof.issuers)))
        found = name
        best = self._best(self._records.texts(name), issuers, proof.account_url, wildcard=wildcard)
        parent = base
        while best is None and parent.count(".") > 1:
            # A record of a name above counts where it includes the names below.
            parent = parent.partition(".")[2]
            found = record_name(parent)
            best = self._best(self._records.texts(found), issuers, proof.account_url, wildcard=True)
        if best is None:
            text = record_text(
                issuers[0] if issuers else "(the CA)",
                one_line(proof.account_url),
                wildcard=wildcard,
                until=self.until,
            )
            raise ValidatorUnavailable(
                f"DNS lacks the TXT record {name.to_text(omit_final_dot=True)}, or it has ended: "
                f'it must be "{text}"',
                retry_after=300.0,
                advice="create it; `acmems check --records` prints all that are needed",
            )
        self._warn(found, best)

    def _warn(self, name: dns.name.Name, best: PersistRecord) -> None:
        if best.until is None:
            return
        now = self._clock.now()
        left = best.until - now.timestamp()
        if left >= self.warn_before.total_seconds():
            return
        with self._lock:
            recent = {key: told for key, told in self._warned.items() if now - told < _ONCE_IN}
            known = (name, best) in recent
            self._warned = {(name, best): now, **recent}
        if not known:
            logger.warning(
                "the TXT record %s ends in %d days (persistUntil=%d): replace it, or its names cannot be "
                "proved any more",
                name.to_text(omit_final_dot=True),
                left // 86400,
                best.until,
            )

    def __repr__(self) -> str:
        return f"DnsPersist({self.name!r})"


def record_name(base: str) -> dns.name.Name:
    """Return the name of the record that stands for a name (without `*.`).

    Raises:
        NoChallengeMethodsSupported: the name is too long to have one.
    """
    try:
        return dns.name.from_text(f"_validation-persist.{base}")
    except dns.exception.DNSException:
        raise NoChallengeMethodsSupported(
            f"{base} is too long to be proved by dns-persist-01: with _validation-persist. in front it is "
            f"no DNS name"
        ) from None


def record_text(issuer: str, account_url: str, *, wildcard: bool, until: int | None) -> str:
    """Return the text of a record; `until` is its end in seconds since 1970, None for none."""
    parts: Mapping[str, str | None] = {
        "accounturi": account_url,
        "policy": "wildcard" if wildcard else None,
        "persistUntil": None if until is None else str(until),
    }
    return "; ".join([issuer, *(f"{key}={value}" for key, value in parts.items() if value is not None)])


def _issuer(text: str) -> str:
    return text.strip().removesuffix(".").lower()


def _issuer_option(text: str) -> str:
    return Identifier.dns(_issuer(text)).value


def _date(text: str) -> int:
    """Return the end of a day, in seconds since 1970."""
    try:
        day = datetime.date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a date, such as 2030-12-31") from None
    end = datetime.datetime.combine(day, datetime.time(23, 59, 59), datetime.UTC)
    return int(end.timestamp())
