"""The CA's directory: where its resources are, and what it says of itself (RFC 8555 section 7.1.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from acmems.exceptions import CAProtocolError
from acmems.text import one_line

_REQUIRED = ("newNonce", "newAccount", "newOrder")
_META: Mapping[str, type] = {"termsOfService": str, "externalAccountRequired": bool, "profiles": dict}


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory: make it with `parse`.

    Args:
        urls: the URLs of resources by their names, such as `newOrder`; not checked, but for those required.
        terms_of_service: the URL of the terms, None where there are none.
        external_account_required: whether accounts must be bound to a customer (section 7.3.4).
        caa_identities: the CA's names in CAA records.
        profiles: the profiles that it offers, and what it says of them.
    """

    urls: Mapping[str, str]
    terms_of_service: str | None = None
    external_account_required: bool = False
    caa_identities: tuple[str, ...] = ()
    profiles: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """Read a directory.

        Raises:
            CAProtocolError: it lacks what every CA must offer, or its `meta` cannot be read.
        """
        urls = {name: value for name, value in document.items() if isinstance(value, str)}
        for name in _REQUIRED:
            if name not in urls:
                raise CAProtocolError(f"the CA's directory lacks {name}")
        meta = document.get("meta", {})
        if not isinstance(meta, dict) or not all(
            meta.get(name) is None or isinstance(meta[name], kind) for name, kind in _META.items()
        ):
            raise CAProtocolError("the CA's directory has a broken 'meta'")
        identities = meta.get("caaIdentities")
        return cls(
            urls,
            one_line(meta.get("termsOfService") or "") or None,
            bool(meta.get("externalAccountRequired")),
            # A CA may write anything there.
            tuple(each for each in identities if isinstance(each, str))
            if isinstance(identities, list)
            else (),
            meta.get("profiles") or {},
        )

    def __getitem__(self, name: str) -> str:
        """Return the URL of a resource.

        Raises:
            KeyError: the CA does not offer it.
        """
        return self.urls[name]

    def __contains__(self, name: str) -> bool:
        return name in self.urls

    @property
    def required(self) -> tuple[str, ...]:
        """The URLs that every CA has."""
        return tuple(self.urls[name] for name in _REQUIRED)
