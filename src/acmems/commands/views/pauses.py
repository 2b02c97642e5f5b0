"""Pauses as the state has them, in words: what is not tried again for now, and why."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from acmems.commands.tables import Column, Row, cell
from acmems.commands.views.documents import for_person, rfc3339
from acmems.state.overview import LastingPause
from acmems.text import one_line

COLUMNS = (
    Column("paused", is_flexible=True),
    Column("until (UTC)"),
    Column("after"),
    Column("failures", is_number=True),
    Column("block", is_flexible=True),
    Column("client", is_flexible=True),
)
"""What a table of pauses has."""

_RATE_LIMITS = ("RateLimited", "NamesPaused", "QueueFull")  # classes of errors


@dataclass(frozen=True, slots=True)
class PauseSubject:
    """What is paused, as far as this version knows such texts: make it with `parse`.

    Args:
        kind: `csr`, `block`, `names`, `name`, `account`, `verification`, `domain` or `everything`; empty
            where the text is not known.
        fields: what it is about, by its kind.
        text: the text.
    """

    kind: str
    fields: tuple[Any, ...]
    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a subject: its kind, and a JSON list that ends with the CA."""
        kind, _, words = text.partition(":")
        try:
            *fields, _ = json.loads(words)
        except (ValueError, TypeError):
            return cls("", (), text)
        found = cls(kind, tuple(fields), text)
        try:
            found._words()
        except (LookupError, TypeError):
            return cls("", (), text)
        return found

    @property
    def words(self) -> str:
        """What is paused, for a person."""
        return one_line(self._words())

    @property
    def names(self) -> tuple[str, ...]:
        """The names that it is about."""
        match self.kind, self.fields:
            case "block", (_, names, *_):
                return tuple(names)
            case "names", (names, *_):
                return tuple(names)
            case "name" | "account" | "verification" | "domain", (name, *_):
                return (name,)
        return ()

    @property
    def block(self) -> str | None:
        """The auth block that it is about, None for any."""
        return self.fields[0] if self.kind == "block" else None

    def concerns(self, names: Collection[str], block: str | None, csr: str | None) -> bool:
        """Tell whether it holds up a certificate.

        Args:
            names: the names of the certificate.
            block: its auth block.
            csr: the digest of what its certificate request asks for.
        """
        match self.kind:
            case "everything":
                return True
            case "csr":
                return csr is not None and self.fields[0] == csr
            case "block":
                return self.block == block and set(self.names) == set(names)
            case "names":
                return set(self.names) == set(names)
            case "name" | "verification":
                return self.fields[0] in names
            case "account":
                return self.fields[0] in {name.removeprefix("*.") for name in names}
            case "domain":
                return any(f".{name}".endswith(f".{self.fields[0]}") for name in names)
        return False

    def _words(self) -> str:
        match self.kind:
            case "csr":
                return "one CSR"
            case "block":
                return f"{', '.join(self.fields[1])} of this block"
            case "names":
                return f"exactly {', '.join(self.fields[0])}"
            case "name":
                return str(self.fields[0])
            case "account":
                return f"{self.fields[0]} for the account, by the CA"
            case "verification":
                return f"{self.fields[0]} by verification {self.fields[1][-1]}"
            case "domain":
                return f"{self.fields[0]} and all below it"
            case "everything":
                return "everything"
        return self.text


@dataclass(frozen=True, slots=True)
class PauseView:
    """A pause, and who caused it as far as that is known.

    Args:
        pause: the pause.
        subject: what is paused.
        error: the name of the class of the error that began it, None where it is not known.
        reason: the words of that error, and what to do where that is known.
        visit: a page of the CA on which a person can end it, None where there is none.
        block: the auth block of the request that caused it.
        client: the client that caused it.
    """

    pause: LastingPause
    subject: PauseSubject
    error: str | None
    reason: str
    visit: str | None
    block: str | None = None
    client: str | None = None

    @classmethod
    def of(cls, pause: LastingPause, block: str | None = None, client: str | None = None) -> Self:
        """Read a pause.

        Args:
            pause: as the state has it.
            block: the auth block of the request that caused it.
            client: the client that caused it.
        """
        error, words, fields = _read_error(pause.error)
        subject, advice, visit = PauseSubject.parse(pause.subject), fields.get("advice"), fields.get("visit")
        reason = one_line(f"{words}; {advice}" if advice else words, 4000)
        page = one_line(str(visit), 2000) if visit else None
        return cls(pause, subject, error, reason, page, subject.block or block, client)

    @property
    def is_limit(self) -> bool:
        """Whether a rate limit is the cause."""
        return self.error in _RATE_LIMITS

    def document(self) -> dict[str, Any]:
        """Return the members of a JSON document; docs/operations.md describes each."""
        return {
            "subject": self.subject.kind or None,
            "paused": self.subject.words,
            "names": list(self.subject.names),
            "until": rfc3339(self.pause.until),
            "limited": self.is_limit,
            "failures": self.pause.failures,
            "reason": self.reason,
            "visit": self.visit,
            "block": self.block,
            "client": self.client,
        }

    def row(self) -> Row:
        """Return the row of a table."""
        cells = (
            cell(self.subject.words),
            cell(for_person(self.pause.until), whole=rfc3339(self.pause.until)),
            cell("a rate limit" if self.is_limit else "a failure"),
            cell(self.pause.failures),
            cell(self.block),
            cell(self.client),
        )
        return Row(cells, self.reason)


def _read_error(document: str) -> tuple[str | None, str, Mapping[str, Any]]:
    """Return class, words and fields of the error that a document tells of, as far as it can be read."""
    try:
        found = json.loads(document)["error"]
        args: Sequence[Any] = found["args"]
        return str(found["error"]), str(args[0]) if args else "", dict(found["fields"])
    except (ValueError, LookupError, TypeError):
        return None, document, {}
