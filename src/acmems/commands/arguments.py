"""What several commands are given on the command line, and how it is read."""

from __future__ import annotations

import argparse
import datetime
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from acmems.net.address import IPNetwork, parse_network
from acmems.x509.identifiers import Glob, Identifier

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_MOST_DIGITS = 6
_LIKE = str.maketrans({"\\": "\\\\", "%": "\\%", "_": "\\_", "*": "%", "?": "_"})


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """Declare the configuration files, before arguments that follow them."""
    parser.add_argument(
        "config", nargs="+", metavar="CONFIG", help="configuration file; several are read as one"
    )


def has_configuration(parser: argparse.ArgumentParser) -> bool:
    """Tell whether the configuration files are declared already."""
    if parser.get_default("config") is not None:  # by a command that takes none
        return True
    return any(action.dest == "config" for action in parser._actions)  # noqa: SLF001 - argparse has no public way


def add_json(parser: argparse.ArgumentParser, words: str = "print one JSON document") -> None:
    """Declare `--json`."""
    parser.add_argument("--json", action="store_true", help=words)


@dataclass(frozen=True, slots=True)
class NamePattern:
    """Which names are meant: a glob as in auth blocks, or an IP address; make it with `parse`.

    Args:
        text: the pattern in the normal form of names.
        glob: the glob, None for an IP address.
    """

    text: str
    glob: Glob | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a pattern.

        Raises:
            ArgumentTypeError: no name could ever match.
        """
        try:
            return cls(str(ipaddress.ip_address(text)), None)
        except ValueError:
            pass
        try:
            glob = Glob.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return cls(glob.text, glob)

    def matches(self, names: Iterable[str]) -> bool:
        """Tell whether one of some names is meant."""
        return any(self._matches(name) for name in names)

    @property
    def like(self) -> str:
        """A pattern of SQL for names together, one a line: what it does not match is not meant."""
        stars = self.text.replace("**", "*")
        return f"%{stars.translate(_LIKE)}%"

    def _matches(self, name: str) -> bool:
        if name == self.text:
            return True
        if self.glob is None:
            return False
        try:
            return self.glob.matches(Identifier.dns(name))
        except ValueError:  # an IP address
            return False


def duration(text: str) -> datetime.timedelta:
    """Read a duration, such as `14d` or `3h`.

    Raises:
        ArgumentTypeError: it is none.
    """
    found = re.fullmatch(rf"([0-9]{{1,{_MOST_DIGITS}}})([smhdw])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration, such as 90s, 30m, 3h, 14d or 2w")
    return datetime.timedelta(**{_UNITS[found[2]]: int(found[1])})


def moment(text: str) -> datetime.timedelta | datetime.datetime:
    """Read a point in time: how long ago it was, or a date with or without a time, which is UTC.

    Raises:
        ArgumentTypeError: it is neither.
    """
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        pass
    else:
        return found if found.tzinfo is not None else found.replace(tzinfo=datetime.UTC)
    try:
        return duration(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a time, such as 2026-11-01 or 2026-11-01T12:00:00Z, nor how long ago one "
            f"was, such as 2d or 3h"
        ) from None


def network(text: str) -> IPNetwork:
    """Read an IP address or network.

    Raises:
        ArgumentTypeError: it is neither.
    """
    try:
        return parse_network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive(text: str) -> int:
    """Read a whole number above zero.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not re.fullmatch(rf"[0-9]{{1,{_MOST_DIGITS}}}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
