"""A program that has dns-lexicon change the records of one zone.

`python -m acmems.challenges.programs.provider_worker` reads one JSON object from standard input and
writes one to standard output. It is killed when it takes too long, since the calls of many providers
have no time limit.
"""

from __future__ import annotations

import contextlib
import json
import sys
from types import SimpleNamespace
from typing import Any, Protocol

import lexicon.client
import tldextract
from lexicon.config import ConfigResolver
from lexicon.exceptions import AuthenticationError, ProviderNotAvailableError

_REFUSED = frozenset({401, 403})


class Operations(Protocol):
    """What lexicon's client can do with the records of a zone, as far as it is used here."""

    def create_record(self, rtype: str, name: str, content: str) -> bool:
        """Add a record; nothing happens if it is there."""

    def delete_record(
        self,
        identifier: str | None = None,
        rtype: str | None = None,
        name: str | None = None,
        content: str | None = None,
    ) -> bool:
        """Remove the records of this type, name and content."""

    def list_records(
        self, rtype: str | None = None, name: str | None = None, content: str | None = None
    ) -> list[dict[str, Any]]:
        """Return the records of this type, name and content."""


class _ZoneIsKnown:
    """Tells lexicon which zone a name is in, in place of tldextract and the public suffix list.

    tldextract would fetch the list from the Internet, and the list knows nothing of a site's own zones.
    """

    def __init__(self, zone: str) -> None:
        self._zone = zone

    def __call__(self, *_: object, **__: object) -> SimpleNamespace:
        domain, suffix = self._zone.split(".", 1)
        return SimpleNamespace(
            domain=domain,
            suffix=suffix,
            subdomain="",
            registered_domain=self._zone,
            top_domain_under_public_suffix=self._zone,
        )


def main() -> None:
    """Do what standard input asks for."""
    asked = json.load(sys.stdin)
    answer = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # a provider may print
        result = work(asked)
    json.dump(result, answer)


def work(asked: dict[str, Any]) -> dict[str, Any]:
    """Add or remove records.

    Args:
        asked: `action` (`present` or `withdraw`), `provider`, `zone`, `ttl` (seconds), `options` of the
            provider, and `records`, each a name and a value.

    Returns:
        `{}` if all went well; else `reason`, fit for a client, `detail`, which may hold secrets, and
        `record`, the name that it failed for, if it was about one.
    """
    extractor = _ZoneIsKnown(asked["zone"])
    # lexicon has no option for it, and some of its providers call tldextract themselves.
    tldextract.TLDExtract = lambda *_, **__: extractor  # type: ignore[misc, assignment] # the same call, no more
    tldextract.extract = extractor  # type: ignore[assignment] # the same
    name = ""
    try:
        with lexicon.client.Client(_configuration(asked)) as operations:
            for name, value in asked["records"]:
                if asked["action"] == "present":
                    _add(operations, name, value)
                else:
                    _remove(operations, name, value)
    except Exception as error:  # noqa: BLE001 - some 90 providers, each with errors of its own
        return {"reason": _reason(error), "detail": f"{type(error).__name__}: {error}", "record": name}
    return {}


def _configuration(asked: dict[str, Any]) -> ConfigResolver:
    options: dict[str, str] = {}
    for key, value in asked["options"].items():
        # lexicon looks most options up with _, and some with -.
        options[key.replace("-", "_")] = options[key.replace("_", "-")] = value
    return ConfigResolver().with_dict(  # type: ignore[no-untyped-call] # its constructor says no types
        {
            "provider_name": asked["provider"],
            "domain": asked["zone"],
            "ttl": asked["ttl"],
            asked["provider"]: options,
        }
    )


def _add(operations: Operations, name: str, value: str) -> None:
    try:
        operations.create_record("TXT", name, value)
    except Exception:
        # Some providers fail for a record that is there already.
        if not _is_there(operations, name, value):
            raise


def _remove(operations: Operations, name: str, value: str) -> None:
    try:
        operations.delete_record(None, "TXT", name, value)
    except Exception:
        # Some providers fail for a record that is not there.
        if _is_there(operations, name, value) is not False:
            raise


def _is_there(operations: Operations, name: str, value: str) -> bool | None:
    """Tell whether a record is there; None if that cannot be told either."""
    try:
        found = operations.list_records("TXT", name, None)
    except Exception:  # noqa: BLE001 - whatever it is, the first error is the one to tell
        return None
    return any(str(record.get("content", "")).strip('"') == value for record in found)


def _reason(error: Exception) -> str:
    """Say what went wrong, by the class of the error: its words may hold secrets."""
    classes = {cls.__name__ for cls in type(error).__mro__}
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int):
        return f"{'authentication was refused: ' if status in _REFUSED else ''}HTTP {status}"
    if isinstance(error, AuthenticationError):
        return "authentication was refused, or the zone is not in this account"
    if isinstance(error, ProviderNotAvailableError):
        return "it needs packages that are not installed"
    if classes & {"Timeout", "TimeoutError", "ReadTimeout"}:
        return "it did not answer in time"
    if "SSLError" in classes:
        return "its TLS certificate is not trusted"
    if classes & {"ConnectionError", "gaierror"}:
        return "it cannot be reached"
    return type(error).__name__


if __name__ == "__main__":
    main()
