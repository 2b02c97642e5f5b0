"""The keys of `[logging]`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from acmems.settings import values
from acmems.settings.options import Options


@dataclass(frozen=True, slots=True)
class LoggingOptions:
    """`[logging]`: what is logged, where to, and in which form.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        destination: `stderr`, `stdout`, `syslog`, `journal`, or the path of a file.
        format: `text` or `json`.
    """

    level: str
    destination: str | Path
    format: str

    @classmethod
    def from_options(cls, options: Options) -> Self:
        """Read the section; what is wrong becomes findings."""
        return cls(
            level=options.one(
                "level",
                values.choice("debug", "info", "warning", "error"),
                "info",
                meaning="lowest severity that is logged: `debug`, `info`, `warning` or `error`",
            ),
            destination=options.one(
                "destination",
                _destination,
                "stderr",
                meaning="`stderr`, `stdout`, `syslog`, `journal`, or a file's path, which contains a `/`",
            ),
            format=options.one(
                "format", values.choice("text", "json"), "text", meaning="line format: `text` or `json`"
            ),
        )


def _destination(value: str) -> str | Path:
    if value in {"stderr", "stdout", "syslog", "journal"}:
        return value
    if "/" not in value:
        raise ValueError(f"{value!r} is none of stderr, stdout, syslog, journal; a file's path has a '/'")
    return Path(value)
