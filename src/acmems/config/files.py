"""The files of a configuration, read as text and as sections."""

from __future__ import annotations

import os
from pathlib import Path

from acmems.settings.findings import Finding, Location
from acmems.settings.grammar import Section, read_sections
from acmems.system.permissions import reason


def read_file(file: str | os.PathLike[str], findings: list[Finding]) -> list[Section] | None:
    """Return the sections of a file, None along with a finding where it cannot be read."""
    path = os.fspath(file)
    try:
        data = Path(file).read_bytes()
    except OSError as error:
        findings.append(Finding(Location(path, 0), _unreadable(error, path)))
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        findings.append(Finding(Location(path, line), "this is not UTF-8: save the file as such"))
        return None
    return read_sections(text, path, findings)


def _unreadable(error: OSError, path: str) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "this is a directory: name the configuration files in it"
    return f"cannot be read: {reason(error, path)}"
