"""Parsers of values: each turns text into a value, or raises ValueError with a reason for a person."""

from __future__ import annotations

import datetime
import re
import shlex
from collections.abc import Callable
from pathlib import Path, PurePath
from urllib.parse import urlsplit

from acmems.text import Secret

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_INLINE_COMMENT = re.compile(r"\s[#;].*")


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
    if value[:1] in {'"', "'"}:
        raise ValueError("quotes are part of a value: write the path without them")
    if value[:1] == "~":
        raise ValueError("~ stands for nothing here: write the whole path")
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


def period(value: str) -> datetime.timedelta:
    """Parse a time with its unit, such as `90s`, `30m`, `3h` or `7d`; at most ten years."""
    match = re.fullmatch(r"([0-9]{1,9})\s*([smhd])", value)
    length = datetime.timedelta(seconds=0 if match is None else int(match[1]) * _UNITS[match[2]])
    if not datetime.timedelta() < length <= datetime.timedelta(days=3650):
        raise ValueError(f"{value!r} is not a time, such as 90s, 30m, 3h or 7d")
    return length


def choice(*words: str) -> Callable[[str], str]:
    """Return a parser that takes one of some words."""

    def parse(value: str) -> str:
        if value not in words:
            raise ValueError(f"{value!r} is not one of {', '.join(words)}")
        return value

    return parse


def https_url(value: str, example: str = "https://acme.example.org/directory") -> str:
    """Parse an https URL with a host and nothing secret in it."""
    try:
        parts = urlsplit(value)
        good = parts.scheme == "https" and is_host(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    else:
        good = good and "@" not in parts.netloc
    # What urlsplit drops silently, such as line breaks, must not be there.
    if not good or not re.fullmatch(r"[!-~]+", value):
        raise ValueError(f"must be an https URL, such as {example}")
    return value


def is_host(name: str | None) -> bool:
    """Tell whether the host of a URL can be looked up: each label has 1 to 63 characters."""
    try:
        return bool((name or "").encode("idna"))
    except UnicodeError:
        return False


def command_line(value: str) -> tuple[str, ...]:
    """Parse the absolute path of a program and its arguments, quoted as for a shell."""
    try:
        words = tuple(shlex.split(value))
    except ValueError as error:
        raise ValueError(f"its quotes do not fit: {str(error).lower()}") from None
    if not words or not PurePath(words[0]).is_absolute():
        raise ValueError("must begin with the absolute path of a program")
    return words


def variable(value: str) -> str:
    """Parse the name of an environment variable."""
    if not _VARIABLE.fullmatch(value):
        raise ValueError("must be the name of an environment variable")  # not quoted: it may hold a secret
    return value
