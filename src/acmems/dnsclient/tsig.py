"""TSIG keys (RFC 8945): from the configuration, or from a key file as BIND's tsig-keygen writes it."""

from __future__ import annotations

import base64
import binascii
import re
import threading
from pathlib import Path

import dns.exception
import dns.name
import dns.tsig

from acmems.exceptions import ValidatorUnavailable
from acmems.ini import Options, choice, text
from acmems.ini import path as path_of
from acmems.secret import Secret

ALGORITHMS = ("hmac-sha256", "hmac-sha1", "hmac-sha224", "hmac-sha384", "hmac-sha512")
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*|#[^\n]*", re.DOTALL)
_KEY = re.compile(r'key\s+"?([^\s"{;]+)"?\s*\{([^}]*)\}\s*;?')
_ALGORITHM = re.compile(r'\balgorithm\s+"?([A-Za-z0-9.-]+)"?\s*;')
_SECRET = re.compile(r'\bsecret\s+"?([A-Za-z0-9+/=]+)"?\s*;')
_LARGEST_FILE = 65536


class TsigKey:
    """A key, whose file is read when it is first needed.

    Args:
        name: its name; None: the only one of its file.
        secret: the secret in base64; None: it is in the file.
        file: the key file.
        algorithm: the algorithm; None: what the file says, else hmac-sha256.
    """

    def __init__(
        self,
        name: dns.name.Name | None,
        secret: Secret | None = None,
        file: Path | None = None,
        algorithm: str | None = None,
    ) -> None:
        self.name = name
        self.file = file
        self.algorithm = algorithm
        self._secret = secret
        self._key: dns.tsig.Key | None = None  # written under the lock, once
        self._lock = threading.Lock()

    @classmethod
    def from_options(cls, options: Options) -> TsigKey | None:
        """Read the four keys of a section; None where they are not given."""
        name = options.one(
            "tsig-name",
            dns_name,
            None,
            meaning="name of the TSIG key that signs updates; without it, none is signed",
        )
        secret = options.one("tsig-key", _base64, None, meaning="secret of that key, in base64")
        file = options.one(
            "tsig-key-file",
            path_of,
            None,
            meaning="file with the key instead, as `tsig-keygen` of BIND writes it, or with its secret alone",
        )
        algorithm = options.one(
            "tsig-algorithm",
            choice(*ALGORITHMS),
            None,
            meaning="algorithm of that key: "
            + ", ".join(f"`{word}`" for word in ALGORITHMS)
            + "; default: what the key file says, else `hmac-sha256`",
        )
        has_secret, has_file = options.has("tsig-key"), options.has("tsig-key-file")
        if has_secret and has_file:
            options.report("tsig-key and tsig-key-file exclude each other", "tsig-key-file")
        elif has_secret and not options.has("tsig-name"):
            options.report("tsig-key needs 'tsig-name = …'", "tsig-key")
        elif not has_secret and not has_file:
            for key in ("tsig-name", "tsig-algorithm"):
                if options.has(key):
                    options.report(f"{key} needs 'tsig-key = …' or 'tsig-key-file = …'", key)
        if secret is None and file is None:
            return None
        return cls(name, secret, file, algorithm)

    def load(self) -> dns.tsig.Key:
        """Return the key.

        Raises:
            ValidatorUnavailable: its file cannot be read, or holds no such key.
        """
        with self._lock:
            if self._key is None:
                self._key = self._read()
            return self._key

    def _read(self) -> dns.tsig.Key:
        name, secret, algorithm = self.name, self._secret, self.algorithm
        if secret is None and self.file is not None:
            name, secret, told = self._from_file(self.file)
            algorithm = algorithm or told
        if name is None or secret is None:
            raise _unusable(f"{self.file} does not tell the name of its key: add `tsig-name`")
        return dns.tsig.Key(name, secret.reveal(), algorithm or ALGORITHMS[0])

    def _from_file(self, path: Path) -> tuple[dns.name.Name | None, Secret, str | None]:
        try:
            with path.open(encoding="utf-8") as file:
                content = file.read(_LARGEST_FILE)
        except OSError as error:
            raise _unusable(f"{path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise _unusable(f"{path} is no text") from None
        try:
            bare = _base64(content.strip())
        except ValueError:
            pass
        else:
            return self.name, bare, None
        keys = _KEY.findall(_without_comments(content))
        try:
            named = {dns_name(name): body for name, body in keys}
            wanted = next(iter(named)) if self.name is None and len(named) == 1 else self.name
            if wanted is None or wanted not in named:
                what = "more than one key or none" if wanted is None else "no key of that name"
                raise _unusable(f"{path} holds {what}: correct `tsig-name`")
            body = named[wanted]
            secret, algorithm = _SECRET.search(body), _ALGORITHM.search(body)
            told = choice(*ALGORITHMS)(algorithm[1].lower().rstrip(".")) if algorithm else None
            return wanted, _base64(secret[1] if secret else ""), told
        except ValueError:
            raise _unusable(f"{path} holds a key with a name, secret or algorithm that is none") from None

    def __repr__(self) -> str:
        return f"TsigKey({self.name})"


def dns_name(value: str) -> dns.name.Name:
    """Parse a DNS name; it is absolute, with or without a dot at its end."""
    try:
        return dns.name.from_text(text(value)).canonicalize()
    except dns.exception.DNSException:
        raise ValueError(f"{value!r} is not a DNS name") from None


def _base64(value: str) -> Secret:
    try:
        if base64.b64decode(text(value), validate=True):
            return Secret(value)
    except binascii.Error:
        pass
    raise ValueError("is not base64")


def _without_comments(content: str) -> str:
    """Remove comments, but not what looks like one within quotes: base64 may hold //."""
    quoted = re.compile(rf'"[^"\n]*"|{_COMMENT.pattern}', re.DOTALL)
    return quoted.sub(lambda found: found[0] if found[0].startswith('"') else " ", content)


def _unusable(advice: str) -> ValidatorUnavailable:
    # The path is the operator's, and not for clients.
    return ValidatorUnavailable(
        "the TSIG key for DNS updates cannot be used", advice=f"`tsig-key-file`: {advice}"
    )
