"""Who listens where, by the words of a configuration."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from acmems.challenges import Http01, Listening, Validator
from acmems.net.address import Address, parse_address
from acmems.settings.findings import Finding, Location
from acmems.settings.grammar import Section

_LISTENER_KEYS = ("listener", "mgmt", "tls-listener")


@dataclass(frozen=True, slots=True)
class ListenerUse:
    """An address to be listened on, where that is configured, and by whom.

    Args:
        address: the address.
        location: the line that gives it, or the section that has it by default.
        owner: whose listener it is, for a person.
        is_written: whether a line gives it; what is there by default may be missed on this machine.
        takes_datagrams: whether datagrams are taken there, too.
    """

    address: Address
    location: Location
    owner: str
    is_written: bool = True
    takes_datagrams: bool = False


def listeners_of(validator: Validator) -> tuple[Address, ...]:
    """Return where a validator listens."""
    return validator.listeners if isinstance(validator, Http01 | Listening) else ()


def written(section: Section, addresses: Iterable[Address]) -> Iterator[ListenerUse]:
    """Yield each address with the line that gives it; the section's own line where none does."""
    lines: dict[Address, list[Location]] = {}
    for option in section.options:
        if option.key in _LISTENER_KEYS:
            with contextlib.suppress(ValueError):
                lines.setdefault(parse_address(option.value), []).append(option.location)
    for address in addresses:
        given = lines.get(address)
        location = given.pop(0) if given else section.location
        yield ListenerUse(address, location, f"{section}, see {location}", is_written=address in lines)


def check_listeners(uses: Iterable[ListenerUse], found: list[Finding]) -> None:
    """Report each address that is given twice."""
    first: dict[Address, ListenerUse] = {}
    for use in uses:
        taken = first.setdefault(use.address, use)
        if taken is not use and use.address.port:
            message = f"{use.address} is already a listener of {taken.owner}"
            found.append(Finding(use.location, message))
