"""How a command ends."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """The exit codes of all commands."""

    DONE = 0
    FAILED = 1
    UNUSABLE = 2
    """Usage or configuration."""
