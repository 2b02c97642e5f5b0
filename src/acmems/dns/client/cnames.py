"""CNAMEs, followed from the name of a record to where the record belongs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import dns.name

from acmems.exceptions import ValidatorUnavailable
from acmems.text import one_line

LONGEST = 8
"""How many CNAMEs are followed."""

Z = TypeVar("Z")


def follow(
    record: dns.name.Name, look: Callable[[dns.name.Name], tuple[dns.name.Name | None, Z]]
) -> tuple[dns.name.Name, Z]:
    """Return the name that CNAMEs lead to, and what is known of its zone.

    Args:
        record: where they begin.
        look: returns the target of a name's CNAME, None if it has none, and what is known of its zone.

    Raises:
        ValidatorUnavailable: they lead in a circle, or more than `LONGEST` lead on.
    """
    passed = [record]
    while True:
        target, zone = look(passed[-1])
        if target is None:
            return passed[-1], zone
        if target in passed:
            raise refusal(record, f"its CNAMEs lead in a circle, back to {plain(target)}")
        if len(passed) > LONGEST:
            raise refusal(record, f"more than {LONGEST} CNAMEs lead on, beyond {plain(target)}")
        passed.append(target)


def refusal(record: dns.name.Name, reason: str, advice: str = "correct the CNAME") -> ValidatorUnavailable:
    """Return the error that says why the place of a record cannot be used."""
    return ValidatorUnavailable(f"TXT record {plain(record)}: {reason}", advice=advice)


def plain(name: dns.name.Name) -> str:
    """Return a name for a message: one line, without the dot at its end."""
    return one_line(name.to_text(omit_final_dot=True))
