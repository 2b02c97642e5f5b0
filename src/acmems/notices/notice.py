"""What is told to operators, as a frozen value that goes to every target in the same words."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self, get_args

from acmems.notices.wording import rfc3339

NoticeKind = Literal["renewal", "limit", "account", "ca", "state", "summary", "test"]
"""What a notice is about: renewals that fail, a limit that stops them, the account, the CA, the state."""
CauseKind = Literal["renewal", "limit", "account", "ca", "state"]
"""Those of them that begin and end."""
CAUSE_KINDS: Final[tuple[CauseKind, ...]] = get_args(CauseKind)

Severity = Literal["info", "warning", "critical"]
SEVERITIES: Final[tuple[Severity, ...]] = get_args(Severity)

Phase = Literal["begun", "continues", "ended", "once"]
"""Where a cause is: told for the first time, told again, over; `once` is what neither begins nor ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something to tell.

    Args:
        id: the same for all targets and at each try, so that a target can tell what it has already.
        cause: what it is about; the same for all notices of one cause.
        kind: of what kind that is.
        phase: whether it is new, or over.
        severity: how bad it is; of what is over, how bad it was.
        at: when that was found (aware).
        server: the name of the machine that tells.
        subject: one line.
        text: all of it, for a person; several lines.
        facts: the same for programs: what JSON can hold.
    """

    id: str
    cause: str
    kind: NoticeKind
    phase: Phase
    severity: Severity
    at: datetime.datetime
    server: str
    subject: str
    text: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The subject, with what it is at a glance: for a line in a mailbox or on a screen."""
        word = {"ended": "over", "continues": f"still {self.severity}"}.get(self.phase, self.severity)
        return f"[acmems {self.server}] {word}: {self.subject}"

    def document(self) -> dict[str, Any]:
        """Return it as a JSON document; docs/notices.md describes the members."""
        return {
            "id": self.id,
            "cause": self.cause,
            "kind": self.kind,
            "phase": self.phase,
            "severity": self.severity,
            "at": rfc3339(self.at),
            "server": self.server,
            "subject": self.subject,
            "text": self.text,
            "facts": dict(self.facts),
        }

    def to_json(self) -> str:
        """Return the document as text."""
        return json.dumps(self.document(), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` has written.

        Raises:
            ValueError, KeyError, TypeError: it is something else.
        """
        document = json.loads(text)
        at = datetime.datetime.fromisoformat(document.pop("at"))
        return cls(at=at, **document)


def is_at_least(severity: str, least: str) -> bool:
    """Tell whether a severity is as bad as another one, or worse."""
    ranks: tuple[str, ...] = SEVERITIES
    return ranks.index(severity) >= ranks.index(least)
