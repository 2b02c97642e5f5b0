"""What an action on the state has come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from acmems.commands.exit_code import ExitCode


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an action has come to, for a person and for programs.

    Args:
        facts: what it found or did, each with its name.
        document: the same as a JSON document.
        problems: what is wrong, one line each.
        code: how the command ends.
    """

    facts: Mapping[str, object]
    document: Mapping[str, object]
    problems: Sequence[str] = ()
    code: ExitCode = ExitCode.DONE
