"""Authentication by a bearer token (RFC 6750)."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from acmems.auth.headers import Headers, header_values
from acmems.auth.methods.caller import Caller
from acmems.auth.methods.weakness import warn_of_weakness
from acmems.settings import values
from acmems.settings.options import Options
from acmems.system.files import signature as signature_of
from acmems.system.permissions import NamedFile, reason
from acmems.text import Secret

logger = logging.getLogger(__name__)

WRONG_TOKEN = "the token is none of its tokens"  # noqa: S105 - no secret
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{1,512}=*", re.ASCII)
_BEARER = re.compile(rf"bearer +({_TOKEN.pattern})", re.ASCII | re.IGNORECASE)
_LARGEST_FILE = 65_536


def bearer_token(headers: Headers) -> Secret | None:
    """Return the token of a request; a malformed one is as good as none (RFC 6750 section 2.1)."""
    sent = header_values(headers, "Authorization")
    match = _BEARER.fullmatch(sent[0].strip(" \t")) if len(sent) == 1 else None
    return None if match is None else Secret(match[1])


class TokenAuthMethod:
    """Authentication by a bearer token: who sends one of a block's tokens is accepted.

    What is compared is their hashes, in constant time; each of them, so that time tells nobody which it was.

    Args:
        tokens: those that the configuration gives.
        file: holds further ones, one in a line; None where there is none.
    """

    KEYS: ClassVar = ("token", "token-file")

    def __init__(self, tokens: tuple[Secret, ...], file: Path | None = None) -> None:
        self.file = file
        self._given = tokens
        self._from_file: tuple[Secret, ...] = ()
        self._digests: tuple[bytes, ...] = ()
        self._signature: tuple[int, int, int] | None = None
        self._put_down(())

    @classmethod
    def from_options(cls, options: Options) -> TokenAuthMethod | None:
        """Return the method of a block, None where it has neither a `token` nor a file."""
        tokens = options.many(
            "token",
            _parse,
            meaning="bearer token of clients, who send it as `Authorization: Bearer TOKEN`; several are for "
            "changing it",
        )
        file = options.one(
            "token-file",
            values.path,
            None,
            meaning="file with bearer tokens, one in each line; read anew when it changes",
        )
        for token in tokens:
            warn_of_weakness(options, "token", token, "so it can be guessed")
        return cls(tokens, file) if tokens or file is not None else None

    @property
    def tokens(self) -> tuple[Secret, ...]:
        """The tokens that are accepted."""
        return (*self._given, *self._from_file)

    def named_files(self) -> Iterator[NamedFile]:
        """Yield the file."""
        if self.file is not None:
            yield NamedFile("token-file", self.file, is_secret=True)

    def self_check(self) -> Iterator[tuple[str, str]]:
        """Say what is wrong with the file. It may wait for a disk."""
        if self.file is None:
            return
        try:
            self._read(self.file)
        except OSError as error:
            yield "token-file", f"{self.file} cannot be read: {reason(error, self.file)}"
        except ValueError as error:
            yield "token-file", f"{self.file}: {error}"

    def refresh(self) -> None:
        """Read the file if it has changed. It may wait for a disk; what cannot be read changes nothing."""
        if self.file is None:
            return
        signature = signature_of(self.file)
        if signature == self._signature:
            return
        self._signature = signature
        try:
            self._put_down(self._read(self.file))
        except (OSError, ValueError) as error:
            words = reason(error, self.file) if isinstance(error, OSError) else str(error)
            logger.warning("token-file: %s: %s; the tokens of before are still accepted", self.file, words)

    def may_accept(self, caller: Caller) -> bool:
        """Tell whether one of the tokens came along."""
        return self.refusal(caller, b"") is None

    def refusal(self, caller: Caller, body: bytes) -> str | None:  # noqa: ARG002 - the contract
        """Return why the client is not accepted, None if it sends one of the tokens."""
        if caller.token is None:
            return "it requires a token (Authorization: Bearer)"
        sent = _digest(caller.token)
        # A list, not a generator: all are compared.
        found = [hmac.compare_digest(sent, known) for known in self._digests]
        return None if any(found) else WRONG_TOKEN

    def accepts(self, caller: Caller, body: bytes) -> bool:
        """Tell whether the client sends one of the tokens."""
        return self.refusal(caller, body) is None

    def _put_down(self, from_file: tuple[Secret, ...]) -> None:
        self._from_file = from_file
        self._digests = tuple(map(_digest, self.tokens))

    @staticmethod
    def _read(path: Path) -> tuple[Secret, ...]:
        """Return the tokens of a file.

        Raises:
            OSError: it cannot be read.
            ValueError: it holds something else, or nothing; the words do not quote it.
        """
        with path.open(encoding="ascii") as file:
            lines = [line.strip() for line in file.read(_LARGEST_FILE).splitlines()]
        tokens = tuple(_parse(line) for line in lines if line)
        if not tokens:
            raise ValueError("holds no token: make one with 'openssl rand -hex 32'")
        return tokens


def _digest(token: Secret) -> bytes:
    return hashlib.sha256(token.reveal().encode("ascii")).digest()


def _parse(text: str) -> Secret:
    if not _TOKEN.fullmatch(text):
        raise ValueError("must be letters, digits and -._~+/ only: make one with 'openssl rand -hex 32'")
    return Secret(text)
