"""Errors as JSON documents, so that another process can raise them again with class, words and fields."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

from acmems.exceptions import AcmeException


def encoded(error: AcmeException) -> dict[str, Any]:
    """Return an error as a part of a JSON document, which `decoded` reads."""
    fields = {name: _encoded(field) for name, field in vars(error).items()}
    return {"error": type(error).__name__, "args": _encoded(error.args), "fields": fields}


def decoded(document: Any) -> AcmeException:
    """Return the error that a part of a document tells of.

    Where this version has no such error, it is one with the same words.
    """
    try:
        found = _decoded(document)
    except (ValueError, KeyError, TypeError, AttributeError):
        found = None
    return (
        found if isinstance(found, AcmeException) else AcmeException("what was wrong is not known any more")
    )


def _encoded(value: object) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, datetime.datetime):
        return {"time": value.isoformat()}
    if isinstance(value, tuple | list):
        return [_encoded(each) for each in value]
    if isinstance(value, AcmeException):
        return encoded(value)
    return str(value)


def _decoded(value: Any) -> Any:
    """Return what a part of a document stands for.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it stands for nothing.
    """
    if isinstance(value, list):
        return tuple(_decoded(each) for each in value)
    if not isinstance(value, dict):
        return value
    if "time" in value:
        return datetime.datetime.fromisoformat(value["time"])
    args, fields = _decoded(value["args"]), value["fields"]
    kind = next((each for each in _kinds(AcmeException) if each.__name__ == value["error"]), None)
    if kind is None:
        return AcmeException(*args[:1])
    error = kind.__new__(kind, *args)
    vars(error).update({name: _decoded(field) for name, field in fields.items()})
    return error


def _kinds(base: type[AcmeException]) -> Iterator[type[AcmeException]]:
    yield base
    for each in base.__subclasses__():
        yield from _kinds(each)
