"""What a failure may stop: a CSR, names, whatever uses a verification; as values and as texts."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

PausedSubject = Literal["csr", "block", "names", "name", "account", "verification", "domain", "everything"]

_encode = json.JSONEncoder(ensure_ascii=False).encode
_LONGEST = 500  # characters of a text; databases limit what they find rows by


@dataclass(frozen=True, slots=True)
class Subject:
    """What a failure may stop."""

    kind: ClassVar[PausedSubject]

    def text(self, directory: str) -> str:
        """Return a text that is the same in every process, and another one for each subject and CA.

        Args:
            directory: the URL of the CA's directory.
        """
        fields = [getattr(self, field.name) for field in dataclasses.fields(self)]
        words = _encode([*fields, directory])
        if len(words) > _LONGEST:
            words = hashlib.sha256(words.encode()).hexdigest()
        return f"{self.kind}:{words}"


@dataclass(frozen=True, slots=True)
class CsrSubject(Subject):
    """A CSR as it is, even if it is signed again."""

    kind = "csr"

    content_digest: str


@dataclass(frozen=True, slots=True)
class BlockSubject(Subject):
    """Whatever one auth block's clients ask for exactly these names.

    Args:
        block: the auth block.
        names: the names.
        after: what stops them: `failure`, `csrs` (several that were refused) or `limit`.
    """

    kind = "block"

    block: str | None
    names: tuple[str, ...]
    after: str = "failure"


@dataclass(frozen=True, slots=True)
class NamesSubject(Subject):
    """Certificates for exactly these names."""

    kind = "names"

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NameSubject(Subject):
    """Certificates with this name among others, however it is proved."""

    kind = "name"

    name: str


@dataclass(frozen=True, slots=True)
class AccountNameSubject(Subject):
    """Certificates with a name, of one account: the CA takes no orders for them until a person has acted.

    Args:
        name: the name, without "*.".
        account: the URL of the account, None while it is not known.
    """

    kind = "account"

    name: str
    account: str | None


@dataclass(frozen=True, slots=True)
class VerificationSubject(Subject):
    """Certificates with a name that would be proved as it was when that failed.

    Args:
        name: the name.
        verifications: the beginning of a block's list, up to the verification that is used. The CA offers no
            challenge for those before it.
    """

    kind = "verification"

    name: str
    verifications: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DomainSubject(Subject):
    """Certificates with this name or any name below it."""

    kind = "domain"

    name: str


@dataclass(frozen=True, slots=True)
class EverythingSubject(Subject):
    """Whatever is ordered with the account."""

    kind = "everything"


def kind_of(text: str) -> PausedSubject:
    """Return the kind of the subject that a text stands for."""
    return cast("PausedSubject", text.partition(":")[0])
