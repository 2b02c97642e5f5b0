"""INI text with repeated keys: its sections and options, where each one stands, and what is wrong there.

`read` turns text into sections; `Options` gives typed access to one section. Neither raises for bad
text: both collect findings, so that a person sees every problem of a file at once. No finding of this
module repeats a value that may be a secret.
"""

from __future__ import annotations

import datetime
import difflib
import ipaddress
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from acmems.exceptions import ConfigurationError
from acmems.secret import Secret

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

T = TypeVar("T")
D = TypeVar("D")

_HEADER = re.compile(r'\[\s*([A-Za-z][A-Za-z0-9_-]*)(?:\s+"([^"]*)")?\s*\]')
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_INLINE_COMMENT = re.compile(r"\s[#;].*")
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")
_LARGEST_PORT = 65535


@dataclass(frozen=True, order=True, slots=True)
class Location:
    """A line of a file, counted from 1; line 0 stands for what is no file."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" if self.line else self.path


NOWHERE = Location("", 0)


@dataclass(frozen=True, order=True, slots=True)
class Finding:
    """Something that a person should know about one line; a warning stops nothing."""

    location: Location
    message: str
    warning: bool = False

    def __str__(self) -> str:
        return f"{self.location}: {'warning: ' if self.warning else ''}{self.message}"


@dataclass(frozen=True, slots=True)
class Option:
    """One `key = value`; the value may be a secret and is never shown."""

    key: str
    value: str = field(repr=False)
    location: Location


@dataclass(frozen=True, slots=True)
class Section:
    """One `[kind]` or `[kind "name"]` with its options, in the order of the text."""

    kind: str
    name: str | None
    options: tuple[Option, ...]
    location: Location

    def __str__(self) -> str:
        return f"[{self.kind}]" if self.name is None else f'[{self.kind} "{self.name}"]'


@dataclass(frozen=True, order=True, slots=True)
class Address:
    """A host (IP address in short form, or name) and a TCP or UDP port; port 0 is any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read(text: str, path: str, findings: list[Finding]) -> list[Section]:
    """Read INI text into sections.

    Args:
        text: the text of one file.
        path: its name, for findings.
        findings: problems are appended here.
    """
    found: list[tuple[Section, list[Option]]] = []
    in_broken_section = False
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip()
        location = Location(path, number)
        if not line or line[0] in "#;":
            continue
        if any(unicodedata.category(char) == "Cc" and char != "\t" for char in line):
            findings.append(Finding(location, "control characters have no place here"))
        elif line[0] == "[":
            header = _HEADER.fullmatch(line)
            in_broken_section = header is None
            if header is None:
                findings.append(
                    Finding(location, 'a section begins with [kind] or [kind "name"], and no more')
                )
            else:
                found.append((Section(header[1], header[2], (), location), []))
        else:
            option = _option(line, location, findings)
            if option is None or in_broken_section:
                continue
            if found:
                found[-1][1].append(option)
            else:
                findings.append(Finding(location, f"'{option.key}' stands before any [section]"))
    return [Section(head.kind, head.name, tuple(options), head.location) for head, options in found]


def _option(line: str, location: Location, findings: list[Finding]) -> Option | None:
    key, equals, value = line.partition("=")
    key = key.rstrip()
    if not equals:
        findings.append(Finding(location, "neither 'key = value' nor [section] nor # comment"))
    elif not _KEY.fullmatch(key):
        # Not quoted: with another sign than '=' in front, a secret may stand here.
        findings.append(Finding(location, "what stands before '=' is no key (letters, digits, '-' and '_')"))
    else:
        return Option(key, value.lstrip(), location)
    return None


def hint(word: str, known: Iterable[str]) -> str:
    """Return what to add to a message about an unknown word: the nearest known one, or all of them."""
    candidates = sorted(known)
    by_lower_case = {candidate.lower(): candidate for candidate in candidates}
    near = difflib.get_close_matches(word.lower(), by_lower_case, n=1)
    if near:
        return f", did you mean '{by_lower_case[near[0]]}'?"
    return f" (known: {', '.join(candidates)})" if candidates else ""


@dataclass(frozen=True, slots=True)
class Declared:
    """A key that some code reads: for hints, and for the reference that is made from them.

    Args:
        keys: the key and its aliases.
        meaning: what it does, one phrase.
        default: what holds without it.
        required: whether it must be given.
        repeatable: whether it may be given several times.
    """

    keys: tuple[str, ...]
    meaning: str = ""
    default: object = None
    required: bool = False
    repeatable: bool = False


class Options:
    """Typed access to the options of one section; what is wrong becomes a finding.

    Args:
        section: the section.
        findings: problems are appended here.
    """

    def __init__(self, section: Section, findings: list[Finding]) -> None:
        self.section = section
        self.declared: list[Declared] = []
        self._findings = findings
        self._finished = False

    @property
    def name(self) -> str:
        """The name of the section, its kind where it has none."""
        return self.section.kind if self.section.name is None else self.section.name

    @property
    def location(self) -> Location:
        """Where the section begins."""
        return self.section.location

    def one(
        self, key: str | tuple[str, ...], parse: Callable[[str], T], default: D, *, meaning: str = ""
    ) -> T | D:
        """Return the value of a key that may be given once.

        Args:
            key: the key, or the key and its aliases.
            parse: turns the text into the value; its ValueError becomes a finding.
            default: the value when the key is absent or its text does not parse.
            meaning: what the key does, for the reference.
        """
        given = self._given(Declared(_keys(key), meaning, default))
        return self._single(given, parse, default)

    def required(
        self, key: str | tuple[str, ...], parse: Callable[[str], T], *, meaning: str = ""
    ) -> T | None:
        """Return the value of a key that must be given once; None only along with a finding."""
        given = self._given(Declared(_keys(key), meaning, required=True))
        if not given:
            self.report(f"{self.section} needs '{_keys(key)[0]} = …'")
        return self._single(given, parse, None)

    def many(
        self,
        key: str | tuple[str, ...],
        parse: Callable[[str], T],
        default: tuple[T, ...] = (),
        *,
        empty_is_none: bool = False,
        meaning: str = "",
    ) -> tuple[T, ...]:
        """Return the values of a key that may be given any number of times.

        Args:
            key: the key, or the key and its aliases.
            parse: turns each text into a value; its ValueError becomes a finding.
            default: the values when the key is absent.
            empty_is_none: an empty text adds no value, instead of being parsed.
            meaning: what the key does, for the reference.
        """
        given = self._given(Declared(_keys(key), meaning, default, repeatable=True))
        if not given:
            return default
        values = []
        for option in given:
            if option.value or not empty_is_none:
                try:
                    values.append(parse(option.value))
                except ValueError as error:
                    self._findings.append(Finding(option.location, f"{option.key}: {error}"))
        return tuple(values)

    def has(self, key: str) -> bool:
        """Tell whether the key is given, whatever its value."""
        return any(option.key == key for option in self.section.options)

    def report(self, message: str, key: str | None = None, *, warning: bool = False) -> None:
        """Add a finding at the first line of a key, or at the section's where the key is absent."""
        options = [option for option in self.section.options if option.key == key]
        location = options[0].location if options else self.location
        self._findings.append(Finding(location, message, warning))

    def finish(self) -> None:
        """Add a finding for each key that nobody has asked for; more calls change nothing."""
        if self._finished:
            return
        self._finished = True
        known = {key for declared in self.declared for key in declared.keys}
        for option in self.section.options:
            if option.key not in known:
                message = f"{self.section} knows no '{option.key}'{hint(option.key, known)}"
                self._findings.append(Finding(option.location, message))

    def raise_findings(self) -> None:
        """Raise what was found so far, where nobody else collects it.

        Raises:
            ConfigurationError: there is a finding that is no mere warning.
        """
        if any(not finding.warning for finding in self._findings):
            raise ConfigurationError(self._findings)

    def _given(self, declared: Declared) -> list[Option]:
        self.declared.append(declared)
        return [option for option in self.section.options if option.key in declared.keys]

    def _single(self, given: list[Option], parse: Callable[[str], T], default: D) -> T | D:
        for again in given[1:]:
            self._findings.append(
                Finding(again.location, f"'{again.key}' is given twice, first at {given[0].location}")
            )
        if not given:
            return default
        try:
            return parse(given[0].value)
        except ValueError as error:
            self._findings.append(Finding(given[0].location, f"{given[0].key}: {error}"))
            return default


def _keys(key: str | tuple[str, ...]) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else key


# Parsers: each turns the text of a value into the value, or raises ValueError with a reason.


def text(value: str) -> str:
    """Parse any text but the empty one."""
    if not value:
        raise ValueError("must not be empty")
    return value


def secret(value: str) -> Secret:
    """Parse a secret."""
    return Secret(text(value))


def path(value: str) -> Path:
    """Parse the path of a file or directory; nothing is looked up."""
    return Path(text(value))


def boolean(value: str) -> bool:
    """Parse yes or no; a comment may follow, as in the examples that 0.3 came with."""
    word = _INLINE_COMMENT.sub("", value).lower()
    if word in {"yes", "true", "on", "1"}:
        return True
    if word in {"no", "false", "off", "0"}:
        return False
    raise ValueError(f"{value!r} is neither yes nor no")


def positive_int(value: str) -> int:
    """Parse a whole number above zero."""
    if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) == 0:
        raise ValueError(f"{value!r} is not a whole number above 0")
    return int(value)


def size(value: str) -> int:
    """Parse a number of bytes; `k` means 1024 of them, `m` 1024 times as many."""
    match = re.fullmatch(r"([0-9]{1,9})\s*([kKmM]?)", value)
    if match is None or int(match[1]) == 0:
        raise ValueError(f"{value!r} is not a size, such as 4096, 4k or 1m")
    return int(match[1]) * {"": 1, "k": 1024, "m": 1024 * 1024}[match[2].lower()]


def seconds(value: str) -> float:
    """Parse a number of seconds above zero."""
    if not re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", value) or float(value) == 0:
        raise ValueError(f"{value!r} is not a number of seconds above 0")
    return float(value)


def days(value: str) -> datetime.timedelta:
    """Parse a whole number of days, at most ten years."""
    if not re.fullmatch(r"[0-9]{1,4}", value) or int(value) > 3650:  # noqa: PLR2004 - ten years
        raise ValueError(f"{value!r} is not a number of days")
    return datetime.timedelta(days=int(value))


def choice(*words: str) -> Callable[[str], str]:
    """Return a parser that takes one of some words."""

    def parse(value: str) -> str:
        if value not in words:
            raise ValueError(f"{value!r} is not one of {', '.join(words)}")
        return value

    return parse


def network(value: str) -> IPNetwork:
    """Parse an IP address or network, such as 192.0.2.7 or 2001:db8::/32."""
    try:
        return ipaddress.ip_network(value)
    except ValueError as error:
        raise ValueError(f"{value!r} is neither an IP address nor a network ({error})") from None


def https_url(value: str) -> str:
    """Parse an https URL with a host and nothing secret in it."""
    try:
        parts = urlsplit(value)
        good = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    else:
        good = good and "@" not in parts.netloc
    # What urlsplit drops silently, such as line breaks, must not be there.
    if not good or not re.fullmatch(r"[!-~]+", value):
        raise ValueError("must be an https URL, such as https://acme.example.org/directory")
    return value


def address(value: str, default_port: int | None = None) -> Address:
    """Parse `host:port`, `192.0.2.1:port` or `[2001:db8::1%eth0]:port`.

    Args:
        value: the text.
        default_port: the port where the text has none; None: it must have one.
    """
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", value)
    if bracketed:
        host, port = _ipv6(bracketed[1]), bracketed[2]
    elif default_port is not None and value.count(":") > 1:
        host, port = _ipv6(value), None
    else:
        name, colon, rest = value.rpartition(":")
        host, port = _host(name if colon else value), rest if colon else None
    if port is None and default_port is not None:
        return Address(host, default_port)
    if port is None or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > _LARGEST_PORT:
        raise ValueError(
            f"{value!r} needs a port from 0 to {_LARGEST_PORT}, such as 127.0.0.1:1313 or [::1]:1313"
        )
    return Address(host, int(port))


def _ipv6(host: str) -> str:
    try:
        return str(ipaddress.IPv6Address(host))
    except ValueError:
        raise ValueError(f"{host!r} is not an IPv6 address") from None


def _host(host: str) -> str:
    if host in {"", "*"}:
        raise ValueError("a host is missing; for all addresses write 0.0.0.0 and [::]")
    if ":" in host:
        raise ValueError("an IPv6 address stands in brackets, such as [::1]:1313")
    if re.fullmatch(r"[0-9.]+", host):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise ValueError(f"{host!r} is not an IPv4 address") from None
    if not _HOST_NAME.fullmatch(host):
        raise ValueError(f"{host!r} is not a host name")
    return host.lower()
