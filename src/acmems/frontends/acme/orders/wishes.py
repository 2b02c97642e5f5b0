"""What a client asks for by a new order (RFC 8555 section 7.4), read strictly."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from acmems.frontends.acme.problems import AcmeProblem, Subproblem, malformed
from acmems.state.acme.order import OrderedName
from acmems.text import one_line
from acmems.x509.identifiers import Identifier, IdentifierType

_LONGEST_VALUE = 300  # characters; a name has 253, and a wildcard's star and dot come before it
_CERTIFICATE_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}\.[A-Za-z0-9_-]{1,100}", re.ASCII)


@dataclass(frozen=True, slots=True)
class OrderWish:
    """What a client asks for.

    Args:
        names: the names as they were sent.
        profile: the profile, None for none.
        replaces: what the certificate is called that is to be replaced (RFC 9773 section 5), None for none.
    """

    names: tuple[OrderedName, ...]
    profile: str | None = None
    replaces: str | None = None

    @property
    def identifiers(self) -> dict[Identifier, OrderedName]:
        """The names in normal form, each once, and how they were written first."""
        found: dict[Identifier, OrderedName] = {}
        for name in self.names:
            found.setdefault(name.identifier, name)
        return found


def read_wish(members: Mapping[str, Any], most: int) -> OrderWish:
    """Read the payload of a new order.

    Args:
        members: the payload.
        most: how many different names there may be.

    Raises:
        AcmeProblem: it is none that can be granted to anybody.
    """
    for member in ("notBefore", "notAfter"):
        if members.get(member) is not None:
            raise malformed(
                f"'{member}' is not supported: the CA decides how long certificates are valid; leave the "
                f"duration out of the configuration of your client"
            )
    wish = OrderWish(
        _names(members.get("identifiers"), most),
        _text(members, "profile"),
        _text(members, "replaces"),
    )
    if wish.replaces is not None and not _CERTIFICATE_NAME.fullmatch(wish.replaces):
        raise malformed("'replaces' must be what RFC 9773 section 4.1 calls a certificate")
    if len(wish.identifiers) > most:
        raise _too_many(most)
    return wish


def _names(members: object, most: int) -> tuple[OrderedName, ...]:
    if not isinstance(members, list) or not members:
        raise malformed("'identifiers' must be a list of at least one identifier")
    if len(members) > 2 * most:  # some clients send a name twice
        raise _too_many(most)
    names = tuple(map(_name, members))
    problems: list[Subproblem] = []
    for name in names:
        try:
            _ = name.identifier
        except ValueError as error:
            problems.append(Subproblem("malformed", str(error), (name.type, name.value)))
    if problems:
        details = "; ".join(each.detail for each in problems)
        raise AcmeProblem("rejectedIdentifier", details, status=400, subproblems=problems)
    return names


def _name(member: object) -> OrderedName:
    if not isinstance(member, dict):
        raise malformed("each of 'identifiers' must be an object with 'type' and 'value'")
    kind, value = member.get("type"), member.get("value")
    if not isinstance(kind, str) or not isinstance(value, str) or len(value) > _LONGEST_VALUE:
        raise malformed("each of 'identifiers' must be an object with 'type' and 'value', which are strings")
    if kind not in _kinds():
        shown = one_line(kind, 40)
        raise AcmeProblem(
            "unsupportedIdentifier",
            f"identifiers of the type {shown!r} cannot be ordered: only dns and ip can",
        )
    return OrderedName(IdentifierType(kind), value)


def _kinds() -> Sequence[str]:
    return [str(each) for each in IdentifierType]


def _text(members: Mapping[str, Any], name: str) -> str | None:
    value = members.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value or len(value) > _LONGEST_VALUE:
        raise malformed(f"'{name}' must be a string")
    return value


def _too_many(most: int) -> AcmeProblem:
    return malformed(f"an order can hold {most} names at most: split them over several")
