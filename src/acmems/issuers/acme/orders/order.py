"""Orders as the CA states them (RFC 8555 section 7.1.3)."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Sequence
from dataclasses import dataclass

from acmems.exceptions import CAProblem, CAProtocolError
from acmems.issuers.acme.session import Response, problem_in
from acmems.text import one_line
from acmems.x509.identifiers import Identifier


class OrderStatus(enum.StrEnum):
    """The states of an order (section 7.1.6)."""

    PENDING = "pending"
    READY = "ready"
    PROCESSING = "processing"
    VALID = "valid"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Order:
    """An order: make it with `parse`.

    Args:
        url: its URL.
        status: its state.
        authorizations: the URLs of its authorizations.
        finalize: where the CSR is sent.
        certificate: where the chain is, None while there is none.
        error: why it is invalid, None where the CA gave no reason.
        expires: when the CA forgets it (aware), None where it does not say.
    """

    url: str
    status: OrderStatus
    authorizations: tuple[str, ...]
    finalize: str
    certificate: str | None = None
    error: CAProblem | None = None
    expires: datetime.datetime | None = None


def parse(response: Response, url: str, identifiers: Sequence[Identifier]) -> Order:
    """Return the order in a CA's response.

    Args:
        response: the response.
        url: the order's URL.
        identifiers: what was ordered; an order for anything else stops everything.

    Raises:
        CAProtocolError: it cannot be read, is for other names, or lists more authorizations than it has
            identifiers: each of them would cost a request.
    """
    raw = {name: value for name, value in response.json().items() if value is not None}
    status, urls, certificate = raw.get("status"), raw.get("authorizations"), raw.get("certificate")
    if not isinstance(status, str) or status not in set(OrderStatus):
        raise CAProtocolError(f"an order has the unknown status {one_line(status, 40)!r}")
    if not isinstance(urls, list) or not urls or not all(isinstance(each, str) for each in urls):
        raise CAProtocolError("an order lacks its authorizations")
    authorizations = tuple(dict.fromkeys(urls))
    if len(authorizations) > len(identifiers):
        raise CAProtocolError(
            f"an order for {len(identifiers)} names lists {len(authorizations)} authorizations"
        )
    if not isinstance(raw.get("finalize"), str):
        raise CAProtocolError("an order lacks the URL to finalize it")
    if _ordered(raw.get("identifiers")) != {(each.type.value, each.value) for each in identifiers}:
        raise CAProtocolError("the CA answered with an order for other names than were asked for")
    return Order(
        url,
        OrderStatus(status),
        authorizations,
        raw["finalize"],
        certificate if isinstance(certificate, str) else None,
        problem_in(raw["error"]) if isinstance(raw.get("error"), dict) else None,
        _date(raw.get("expires")),
    )


def _ordered(identifiers: object) -> set[tuple[str, str]]:
    if not isinstance(identifiers, list):
        raise CAProtocolError("an order cannot be read: it does not say what it is for")
    found = set()
    for each in identifiers:
        kind, value = (each.get("type"), each.get("value")) if isinstance(each, dict) else (None, None)
        if not isinstance(kind, str) or not isinstance(value, str):
            raise CAProtocolError("an order cannot be read: one of its identifiers is none")
        found.add((kind, value.lower()))
    return found


def _date(value: object) -> datetime.datetime | None:
    """Return a date of RFC 3339, None where it is none."""
    try:
        date = datetime.datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return date.replace(tzinfo=datetime.UTC) if date is not None and date.tzinfo is None else date
