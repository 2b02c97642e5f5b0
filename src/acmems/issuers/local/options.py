"""`[local-ca "NAME"]`: CAs of one's own."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from acmems.issuers.local.permits import ANY, Permits, parse_permit, together
from acmems.settings import values
from acmems.settings.options import Options
from acmems.system.permissions import NamedFile

DEFAULT_LIFETIME = datetime.timedelta(days=7)
SHORTEST, LONGEST = datetime.timedelta(hours=1), datetime.timedelta(days=398)
"""Limits of the lifetime of leaves; clients refuse longer ones (CA/Browser Forum BR section 6.3.2)."""

LOCAL = "local:"
"""How what stands for a local CA begins, where ACME CAs are called by the URL of their directory."""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")  # it stands in URLs
_LONGEST_COMMON_NAME = 40  # characters; the names of intermediates are longer, and 64 is the most (RFC 5280)


@dataclass(frozen=True, slots=True)
class LocalCaOptions:
    """`[local-ca "NAME"]`: a CA of one's own.

    Args:
        name: of its section.
        dir: where its keys and certificates lie.
        common_name: of its root.
        lifetime: of the certificates that it issues.
        permits: what it may issue for.
        crl_url: where its list of revoked certificates can be had, which its certificates say; None: they say
            nothing.
    """

    name: str
    dir: Path
    common_name: str
    lifetime: datetime.timedelta
    permits: Permits
    crl_url: str | None = None

    @property
    def section(self) -> str:
        """Its section, as a configuration has it."""
        return f'[local-ca "{self.name}"]'

    @property
    def directory(self) -> str:
        """What it is called where ACME CAs are called by the URL of their directory."""
        return f"{LOCAL}{self.name}"

    @property
    def fixed(self) -> Mapping[str, object]:
        """What cannot be changed while it issues, by its key: whose chains these are."""
        return {"dir": self.dir}

    def named_files(self) -> Iterable[NamedFile]:
        """Return the files that the section names."""
        yield NamedFile("dir", self.dir, is_secret=True)

    @classmethod
    def from_options(cls, options: Options) -> Self:
        """Read the section; what is wrong becomes findings."""
        name = options.section.name or ""
        if name and not _NAME.fullmatch(name):
            options.report(f"{options.section}: use letters, digits, '.', '_' and '-' for its name")
        directory = options.required("dir", values.path, meaning="directory for its keys and certificates")
        common_name = options.one(
            "common-name",
            _common_name,
            None,
            meaning="name of its root, which people see; default: `acmems` and the name of the section",
        )
        lifetime = options.one(
            "lifetime",
            _lifetime,
            None,
            meaning="lifetime of the certificates that it issues, from `1h` to `398d`; default: `7d`",
        )
        permits = options.many(
            "permit",
            parse_permit,
            meaning="what it may issue for, which its root and intermediate certificate say as well: a "
            "domain, which stands for all names below it, a network, or `any`; at least one",
        )
        if not options.has("permit"):
            options.report(
                f"{options.section} needs 'permit = …', which its root certificate says as well: a domain "
                f"such as internal.example, or a network such as 10.0.0.0/8; '{ANY}' leaves it without limits"
            )
        crl_url = options.one(
            "crl-url",
            _http_url,
            None,
            meaning="where clients find its list of revoked certificates, which the certificates say: the "
            "URL of `/ca/NAME.crl` at a `listener` of `[mgmt]`, as those clients reach it",
        )
        common_name = common_name or f"acmems {name}"[:_LONGEST_COMMON_NAME]
        return cls(
            name, directory or Path(), common_name, lifetime or DEFAULT_LIFETIME, together(permits), crl_url
        )


def _common_name(value: str) -> str:
    if not 0 < len(value) <= _LONGEST_COMMON_NAME or not value.isprintable():
        raise ValueError(f"must be 1 to {_LONGEST_COMMON_NAME} printable characters")
    return value


def _lifetime(value: str) -> datetime.timedelta:
    length = values.period(value)
    if not SHORTEST <= length <= LONGEST:
        raise ValueError(f"{value!r} is not between 1h and {LONGEST.days}d")
    return length


def _http_url(value: str) -> str:
    """Parse the URL of a list: plain HTTP, since TLS would need what the list is for (BR 7.1.2.11.2)."""
    parts = urlsplit(value)
    if parts.scheme != "http" or not parts.hostname or not value.isascii() or " " in value:
        raise ValueError(f"{value!r} is not a URL that begins with http://")
    return value
