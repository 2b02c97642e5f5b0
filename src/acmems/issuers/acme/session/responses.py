"""What a CA answered, and what its errors mean (RFC 8555 section 6.7, RFC 9457)."""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import urljoin

from acmems.exceptions import CAProblem, CAProtocolError, RateLimited
from acmems.text import one_line

LONGEST_RETRY_AFTER = 3600.0
"""Seconds; no CA makes acmems or its clients wait longer than this before they ask again."""

_MOST_SUBPROBLEMS = 100  # as many as an order has names
_MOST_ALGORITHMS = 20  # RFC 7518 has nine for signatures
_DEEPEST = 32  # levels of objects and lists; what ACME knows has six
_TEXTS = frozenset({"type", "title", "detail", "instance"})
_URLS = frozenset(
    {"newNonce", "newAccount", "newOrder", "newAuthz", "revokeCert", "keyChange", "renewalInfo"}
    | {"url", "orders", "authorizations", "finalize", "certificate"}
)  # the members of RFC 8555 and RFC 9773 that hold one, or a list of them
_RELATIVE = re.compile(
    r"(?![A-Za-z][A-Za-z0-9+.-]*:)[!-~]+"
)  # a reference without a scheme (RFC 3986 section 4.2)
# Possessive quantifiers: a hostile header costs no backtracking.
_LINK = re.compile(r'<([^<>]*+)>((?:\s*+;\s*+[^\s;,="]++\s*+(?:=\s*+(?:"[^"]*+"|[^\s;,"]*+))?)*+)')
_RELATION = re.compile(r';\s*+rel\s*+=\s*+(?:"([^"]*+)"|([^\s;,"]*+))', re.IGNORECASE)


class Headers:
    """Header fields as they came; few of them are ever looked at.

    Args:
        fields: names and values.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self._fields = list(fields)

    def add(self, name: bytes, value: bytes) -> None:
        """Add a field."""
        self._fields.append((name, value))

    def field(self, name: str) -> str | None:
        """Return the value of a field, whatever the case of its name; None where there is none.

        The values of several fields of one name are joined by commas (RFC 9110 section 5.3).
        """
        wanted = name.lower().encode("latin-1")
        found = [
            value.strip(b" \t").decode("latin-1") for key, value in self._fields if key.lower() == wanted
        ]
        return ", ".join(found) if found else None


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer of the CA.

    Args:
        status: the HTTP status.
        headers: the header fields.
        body: the body, whole.
        url: what was asked.
    """

    status: int
    headers: Headers
    body: bytes = field(repr=False)
    url: str

    def json(self) -> dict[str, Any]:
        """Return the JSON object in the body, with its URLs made absolute (RFC 3986 section 5).

        ACME's URLs are absolute, but there are CAs that send references to where they are.

        Raises:
            CAProtocolError: the body is something else.
        """
        try:
            value: object = json.loads(self.body, object_hook=self._absolute)
        except (ValueError, RecursionError):
            raise CAProtocolError(f"the CA's answer from {self.url} is not JSON") from None
        if not isinstance(value, dict):
            raise CAProtocolError(f"the CA's answer from {self.url} is not a JSON object")
        # Whatever reads it, or prints a part of it, may recurse. Few brackets are not nested deep.
        if self.body.count(b"{") + self.body.count(b"[") > _DEEPEST and _is_deep(value):
            raise CAProtocolError(f"the CA's answer from {self.url} is nested too deep")
        return value

    def retry_after(self, now: datetime.datetime, *, longest: float = LONGEST_RETRY_AFTER) -> float | None:
        """Return the seconds after which to ask again, None if the CA did not say (RFC 9110 section 10.2.3).

        Args:
            now: the wall clock (aware), which a date is compared with.
            longest: seconds that a longer wait is cut to; a past date is no wait.
        """
        text = (self.headers.field("Retry-After") or "").strip()
        if re.fullmatch(r"[0-9]+", text):
            return min(float(text), longest)
        seconds = _seconds_until(text, now)
        return None if seconds is None else min(max(0.0, seconds), longest)

    @property
    def date(self) -> datetime.datetime | None:
        """The time by the CA's clock when it answered, None if it did not say (RFC 9110 section 6.6.1).

        An answer that a cache has kept is as much older as its `Age` says (RFC 9111 section 5.1).
        """
        date = _http_date((self.headers.field("Date") or "").strip())
        age = (self.headers.field("Age") or "").strip()
        if date is None or not re.fullmatch(r"[0-9]{1,9}", age):
            return date
        with contextlib.suppress(OverflowError):
            return date + datetime.timedelta(seconds=int(age))
        return None

    @property
    def location(self) -> str | None:
        """The URL of what was made, or of where to ask instead (RFC 9110 section 10.2.2)."""
        location = self.headers.field("Location")
        return None if location is None else self._resolved(location)

    def links(self, relation: str) -> list[str]:
        """Return the targets of the `Link` headers of one relation, such as `alternate` (RFC 8288)."""
        return [
            self._resolved(target)
            for target, parameters in _LINK.findall(self.headers.field("Link") or "")
            if (match := _RELATION.search(parameters))
            and relation in (match[1] or match[2] or "").lower().split()
        ]

    @property
    def problem_type(self) -> str | None:
        """The type of the problem document that the answer is, None if it is none."""
        return self._problem().get("type") if self.status >= 400 else None  # noqa: PLR2004 - HTTP's own

    def error(self, now: datetime.datetime) -> RateLimited | CAProblem:
        """Return the exception that an answer of status 400 or more stands for.

        Args:
            now: the wall clock (aware), which a `Retry-After` date is compared with.
        """
        problem = self._problem()
        detail = one_line(problem.get("detail") or problem.get("title") or self._status_in_words())
        kind = one_line(problem.get("type") or "about:blank")
        retry_after = self.retry_after(now)
        subproblems = [_subproblem(entry) for entry in problem.get("subproblems", ())]
        error = CAProblem(
            self.status,
            kind,
            detail,
            subproblems=subproblems,
            retry_after=retry_after,
            visit=one_line(problem.get("instance") or ""),
            terms=one_line(next(iter(self.links("terms-of-service")), "")),
            algorithms=[one_line(name, 40) for name in problem.get("algorithms", ())],
        )
        is_acmes = kind == CAProblem.PREFIX + "rateLimited"
        if self.status != HTTPStatus.TOO_MANY_REQUESTS and not is_acmes:
            return error
        return RateLimited(
            str(error),
            retry_after=retry_after,
            identifiers=[identifier for identifier, _, _ in subproblems if identifier],
            # What stands before a CA knows no certificates; with 503 the CA speaks of its own load.
            is_overall=not is_acmes or self.status == HTTPStatus.SERVICE_UNAVAILABLE,
        )

    def _status_in_words(self) -> str:
        """Say what came from where; that is all there is to say where no problem document explains it."""
        try:
            phrase = f" {HTTPStatus(self.status).phrase}"
        except ValueError:
            phrase = ""
        return f"HTTP status {self.status}{phrase} from {self.url}"

    def _absolute(self, members: dict[str, Any]) -> dict[str, Any]:
        """Make the URLs among the members of a JSON object absolute, and return it."""
        for name in _URLS.intersection(members):
            value = members[name]
            if isinstance(value, str):
                members[name] = self._resolved(value)
            elif isinstance(value, list):
                members[name] = [self._resolved(each) if isinstance(each, str) else each for each in value]
        return members

    def _resolved(self, reference: str) -> str:
        """Return a URL for a reference; what is absolute, or no reference at all, stays as it is."""
        if not _RELATIVE.fullmatch(reference):
            return reference
        try:
            return urljoin(self.url, reference)
        except ValueError:  # a broken IPv6 address
            return reference

    def _problem(self) -> dict[str, Any]:
        """Return the problem document, empty where the body is anything else: proxies answer HTML."""
        try:
            return readable_problem(self.json())
        except CAProtocolError:
            return {}


def problem_in(document: Mapping[str, Any]) -> CAProblem:
    """Return the problem that an order or a challenge has as its `error` (RFC 8555 sections 7.1.3, 8).

    Args:
        document: a JSON object.
    """
    problem = readable_problem(document)
    subproblems = [_subproblem(entry) for entry in problem.get("subproblems", ())]
    kind, detail = one_line(problem.get("type", "about:blank")), one_line(problem.get("detail", ""))
    if not detail and not subproblems and "type" not in problem:
        detail = "the CA gave no reason"
    return CAProblem(200, kind, detail, subproblems=subproblems)


def readable_problem(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a problem document has the types that it should have (RFC 9457 section 3.1).

    Args:
        document: a JSON object.

    Returns:
        its texts, its identifier, the algorithms that it lists (RFC 8555 section 6.2), and its subproblems,
        which have none of their own (section 6.7.1).
    """
    kept = _texts_and_identifier(document)
    listed = document.get("algorithms")
    if isinstance(listed, list):
        kept["algorithms"] = [name for name in listed[:_MOST_ALGORITHMS] if isinstance(name, str)]
    found = document.get("subproblems")
    if isinstance(found, list):
        entries = [entry for entry in found[:_MOST_SUBPROBLEMS] if isinstance(entry, dict)]
        kept["subproblems"] = [_texts_and_identifier(entry) for entry in entries]
    return kept


def _texts_and_identifier(document: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {
        name: value for name, value in document.items() if name in _TEXTS and isinstance(value, str)
    }
    identifier = document.get("identifier")
    if (
        isinstance(identifier, dict)
        and identifier.get("type") in ("dns", "ip")
        and isinstance(identifier.get("value"), str)
    ):
        kept["identifier"] = {"type": identifier["type"], "value": identifier["value"]}
    return kept


def _is_deep(value: object) -> bool:
    """Tell whether JSON is nested deeper than anything that ACME knows."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [child for part in level for child in _children(part)]
        if not level:
            return False
    return True


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _subproblem(entry: Mapping[str, Any]) -> tuple[str, str, str]:
    name = entry.get("identifier", {}).get("value", "")
    return one_line(name), one_line(entry.get("type", "")), one_line(entry.get("detail", ""))


def _seconds_until(text: str, now: datetime.datetime) -> float | None:
    """Return the seconds until an HTTP date, None if it is no date."""
    date = _http_date(text)
    return None if date is None else (date - now).total_seconds()


def _http_date(text: str) -> datetime.datetime | None:
    """Read an HTTP date, which is UTC, said or not; return None if it is no date."""
    try:
        date = email.utils.parsedate_to_datetime(text)
        return date.replace(tzinfo=datetime.UTC) if date.tzinfo is None else date.astimezone(datetime.UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
