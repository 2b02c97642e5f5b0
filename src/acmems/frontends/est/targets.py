"""What EST clients ask for, by the paths of RFC 7030 section 3.2.2."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote

from acmems.exceptions import HttpRefusal

ROOT = "/.well-known/est"
_LABEL = re.compile(r"[A-Za-z0-9_.~%-]{1,200}", re.ASCII)


class EstOperation(StrEnum):
    """The operations of EST that this server knows."""

    CA_CERTIFICATES = "cacerts"
    ENROLL = "simpleenroll"
    REENROLL = "simplereenroll"
    ATTRIBUTES = "csrattrs"

    @property
    def method(self) -> str:
        """The HTTP method that it is asked by."""
        return "POST" if self in {EstOperation.ENROLL, EstOperation.REENROLL} else "GET"


_OPTIONAL = ("fullcmc", "serverkeygen")


@dataclass(frozen=True, slots=True)
class EstTarget:
    """What a request is about.

    Args:
        operation: what is to be done.
        label: the auth block that alone is asked; None: any of them.
    """

    operation: EstOperation
    label: str | None = None


def is_est(target: str) -> bool:
    """Tell whether a request is one of EST."""
    return target == ROOT or target.startswith(f"{ROOT}/")


def parse(target: str, method: str) -> EstTarget:
    """Return what a request is about.

    Raises:
        HttpRefusal: there is nothing at this path, or not by this method.
    """
    labels = target.removeprefix(ROOT).split("/")[1:]
    if len(labels) not in {1, 2}:
        raise _nothing()
    *before, name = labels
    if name in _OPTIONAL:  # RFC 7030 sections 4.3 and 4.4: an EST server may leave them out
        raise HttpRefusal(501, f"this server has no {name}: make a key and use {ROOT}/{EstOperation.ENROLL}")
    if name not in set(EstOperation) or any(not _LABEL.fullmatch(each) for each in before):
        raise _nothing()
    operation = EstOperation(name)
    if method != operation.method:
        allowed = operation.method
        raise HttpRefusal(405, f"use {allowed} for {operation}", {"Allow": allowed})
    return EstTarget(operation, unquote(before[0]) if before else None)


def _nothing() -> HttpRefusal:
    operations = ", ".join(EstOperation)
    return HttpRefusal(404, f"there is nothing here: EST has {operations} at {ROOT} or {ROOT}/BLOCK")
