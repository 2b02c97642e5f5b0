"""The value of an `issue` or `issuewild` property (RFC 8659 section 4.2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

_BLANKS = " \t"
_DOMAIN_LABEL = r"[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*"
_ISSUER = re.compile(rf"{_DOMAIN_LABEL}(?:\.{_DOMAIN_LABEL})*", re.ASCII)
_TAG_AND_VALUE = re.compile(rf"({_DOMAIN_LABEL})[ \t]*=[ \t]*([!-:<-~]*)", re.ASCII)
_METHODS = re.compile(r"[A-Za-z0-9-]+(?:,[A-Za-z0-9-]+)*", re.ASCII)

ACCOUNT = "accounturi"
METHODS = "validationmethods"


@dataclass(frozen=True, slots=True)
class IssueValue:
    """Whom a property authorises: make it with `parse`.

    Args:
        issuer: the CA's domain name, in lower case; empty: nobody.
        parameters: what else it says, by tags in lower case.
        is_contradictory: whether a parameter that restricts it (RFC 8657) is given twice, so that nobody can
            satisfy it.
    """

    issuer: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    is_contradictory: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a value; one that does not follow the grammar authorises nobody.

        Args:
            text: the value, each octet a character.
        """
        issuer, separator, rest = text.partition(";")
        issuer = issuer.strip(_BLANKS)
        if issuer and not _ISSUER.fullmatch(issuer):
            return cls()
        parameters: dict[str, str] = {}
        is_contradictory = False
        if separator and rest.strip(_BLANKS):
            for part in rest.split(";"):
                found = _TAG_AND_VALUE.fullmatch(part.strip(_BLANKS))
                if found is None:
                    return cls()
                tag = found[1].lower()
                is_contradictory = is_contradictory or (tag in parameters and tag in {ACCOUNT, METHODS})
                parameters[tag] = found[2]
        return cls(issuer.lower(), parameters, is_contradictory)

    @property
    def account_url(self) -> str | None:
        """The account that it is for (RFC 8657 section 3), None where it is for every one."""
        return self.parameters.get(ACCOUNT)

    @property
    def methods(self) -> frozenset[str] | None:
        """The types of challenge that it is for (RFC 8657 section 4), None where it is for all of them."""
        text = self.parameters.get(METHODS)
        if text is None:
            return None
        return frozenset(text.split(",")) if _METHODS.fullmatch(text) else frozenset()
