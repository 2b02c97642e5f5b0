"""What goes over the socket: one line of JSON that asks, lines of progress, and one with the outcome."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from acmems.exceptions import ActFailed, ConfigurationError

LARGEST = 1024 * 1024
"""Bytes of a line; a chain of certificates has some 30 KiB at most."""
UNUSABLE = 2
"""The exit code of a command that the configuration, or what was asked, makes impossible."""
FAILED = 1
"""The exit code of a command that failed while working."""


@dataclass(frozen=True, slots=True)
class ActRequest:
    """What the command line asks for.

    Args:
        act: the name of an act.
        arguments: what it takes, as JSON values.
    """

    act: str
    arguments: Mapping[str, Any]

    def line(self) -> bytes:
        """Return it as a line."""
        return _line({"act": self.act, "arguments": dict(self.arguments)})

    @classmethod
    def parse(cls, line: bytes) -> ActRequest:
        """Read a line.

        Raises:
            ActFailed: it is none.
        """
        document = _document(line)
        act, arguments = document.get("act"), document.get("arguments", {})
        if not isinstance(act, str) or not isinstance(arguments, dict):
            raise ActFailed("the request names no act: is the command of the same version as the server?")
        return cls(act, arguments)


def progress_line(words: str) -> bytes:
    """Return the line that tells how an act gets on."""
    return _line({"progress": words})


def outcome_line(outcome: Mapping[str, Any]) -> bytes:
    """Return the line that tells what an act has come to."""
    return _line({"outcome": dict(outcome)})


def error_line(error: Exception) -> bytes:
    """Return the line that tells why an act has failed, with the exit code for the command."""
    code = UNUSABLE if isinstance(error, ConfigurationError) else FAILED
    return _line({"error": str(error), "exit": code})


def read_answer(line: bytes) -> str | Mapping[str, Any]:
    """Return the words of a line of progress, or the outcome.

    Raises:
        ConfigurationError, ActFailed: the act has failed, or the line cannot be read.
    """
    document = _document(line)
    match document:
        case {"progress": str(words)}:
            return words
        case {"outcome": dict(outcome)}:
            return outcome
        case {"error": str(words), "exit": 2}:
            raise ConfigurationError(words.splitlines())
        case {"error": str(words)}:
            raise ActFailed(words)
    raise ActFailed("the server's answer cannot be read: is it of the same version as this command?")


def _document(line: bytes) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ActFailed("what came over the control socket is no line of JSON")
    return document


def _line(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode() + b"\n"
