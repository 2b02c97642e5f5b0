"""Authentication of ACME clients by an external account (RFC 8555 section 7.3.4)."""

from __future__ import annotations

import base64
import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from acmems.auth.methods.caller import Caller
from acmems.exceptions import StorageUnavailable
from acmems.settings import values
from acmems.settings.options import Options
from acmems.system.permissions import NamedFile
from acmems.text import Secret

SHORTEST_KEY = 32
"""Octets of an HMAC key: clients such as lego refuse shorter ones (RFC 7518 section 3.2)."""
_MAKE_KEY = "make one with 'openssl rand 32 | basenc --base64url | tr -d ='"
_BASE64URL = frozenset(f"{string.ascii_letters}{string.digits}-_")
_KID = re.compile(r"[!-~]{1,200}", re.ASCII)


class ExternalAccountMethod:
    """Authentication by the external account that an ACME account was bound to when it was made.

    Attributes:
        kid: the key identifier of the external account.
        secret: its HMAC key in base64url; None where a file has it.
        file: that file.
        is_for_one: whether only one ACME account at a time may be bound to it.
    """

    KEYS: ClassVar = ("eab-kid", "eab-hmac-key", "eab-hmac-key-file")

    def __init__(
        self, kid: str, secret: Secret | None = None, file: Path | None = None, *, is_for_one: bool = False
    ) -> None:
        self.kid = kid
        self.secret = secret
        self.file = file
        self.is_for_one = is_for_one

    @classmethod
    def from_options(cls, options: Options) -> ExternalAccountMethod | None:
        """Return the method of a block, None where it has no good `eab-kid`."""
        kid = options.one(
            "eab-kid",
            _parse_kid,
            None,
            meaning="key identifier that ACME clients register with (external account binding)",
        )
        secret = options.one(
            "eab-hmac-key",
            _parse_key,
            None,
            meaning="HMAC key of `eab-kid`, at least 32 octets in base64url: " + _MAKE_KEY.replace("'", "`"),
        )
        file = options.one(
            "eab-hmac-key-file",
            values.path,
            None,
            meaning="file to read `eab-hmac-key` from, instead of writing it here",
        )
        once = options.one(
            "eab-once",
            values.boolean,
            default=False,
            meaning="`yes`: only one ACME account can be bound to `eab-kid`, until that is deactivated",
        )
        given = [key for key in ("eab-hmac-key", "eab-hmac-key-file") if options.has(key)]
        if len(given) > 1:
            options.report(
                "'eab-hmac-key' and 'eab-hmac-key-file' are both given: remove one of them", given[1]
            )
        if options.has("eab-kid") and not given:
            options.report(f"eab-kid is given, but no eab-hmac-key: {_MAKE_KEY}", "eab-kid")
        for key in (*given, *(["eab-once"] if options.has("eab-once") else [])):
            if not options.has("eab-kid"):
                options.report(f"{key} is given, but no eab-kid", key)
        if kid is None or (secret is None and file is None):
            return None
        return cls(kid, secret, file, is_for_one=once)

    def named_files(self) -> Iterator[NamedFile]:
        """Yield the file that it reads."""
        if self.file is not None:
            yield NamedFile("eab-hmac-key-file", self.file, is_secret=True)

    def hmac_key(self) -> bytes:
        """Return the HMAC key. It may wait for a disk.

        Raises:
            StorageUnavailable: its file cannot be read, or holds none.
        """
        if self.file is None:
            return decoded_key(self.secret.reveal() if self.secret is not None else "")
        try:
            return decoded_key(self.file.read_text(encoding="ascii").strip())
        except OSError as error:
            raise StorageUnavailable(f"eab-hmac-key-file: {self.file}: {error.strerror or error}") from error
        except ValueError:
            raise StorageUnavailable(
                f"eab-hmac-key-file: {self.file} does not hold a key of {SHORTEST_KEY} octets in base64url"
            ) from None

    def may_accept(self, caller: Caller) -> bool:
        """Tell whether the client's ACME account is bound to this external account."""
        return caller.external_account == self.kid

    def refusal(self, caller: Caller, body: bytes) -> str | None:  # noqa: ARG002 - the contract
        """Return why the client is not accepted, None if its account is bound to this external account."""
        if self.may_accept(caller):
            return None
        if caller.external_account is None:
            return f"it requires an ACME account that is bound to the external account {self.kid}"
        return f"the ACME account is bound to {caller.external_account}, not to {self.kid}"

    def accepts(self, caller: Caller, body: bytes) -> bool:
        """Tell whether the client's account is bound to this external account."""
        return self.refusal(caller, body) is None


def decoded_key(text: str) -> bytes:
    """Return the octets of an HMAC key.

    Args:
        text: the key in base64url, with padding or without.

    Raises:
        ValueError: it is no base64url, or too short; the reason never shows the key.
    """
    bare = text.rstrip("=")
    if not _BASE64URL.issuperset(bare) or len(bare) % 4 == 1:
        raise ValueError(f"must be base64url: {_MAKE_KEY}")
    key = base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
    if len(key) < SHORTEST_KEY:
        raise ValueError(f"has {len(key)} octets, and needs {SHORTEST_KEY}: {_MAKE_KEY}")
    return key


def _parse_key(text: str) -> Secret:
    decoded_key(text)
    return Secret(text)


def _parse_kid(text: str) -> str:
    if not _KID.fullmatch(text):
        raise ValueError("must be 1 to 200 printable ASCII characters without blanks")
    return text
