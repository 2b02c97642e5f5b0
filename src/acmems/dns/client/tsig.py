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
from acmems.text import Secret

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
            bare = base64_secret(content.strip())
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
            told = _algorithm(algorithm[1]) if algorithm else None
            return wanted, base64_secret(secret[1] if secret else ""), told
        except ValueError:
            raise _unusable(f"{path} holds a key with a name, secret or algorithm that is none") from None

    def __repr__(self) -> str:
        return f"TsigKey({self.name})"


def _algorithm(text: str) -> str:
    name = text.lower().rstrip(".")
    if name not in ALGORITHMS:
        raise ValueError(f"{name!r} is not one of {', '.join(ALGORITHMS)}")
    return name


def dns_name(value: str) -> dns.name.Name:
    """Parse a DNS name; it is absolute, with or without a dot at its end."""
    if not value:
        raise ValueError("must not be empty")
    try:
        return dns.name.from_text(value).canonicalize()
    except dns.exception.DNSException:
        raise ValueError(f"{value!r} is not a DNS name") from None


def base64_secret(value: str) -> Secret:
    """Parse a secret in base64."""
    try:
        if base64.b64decode(value, validate=True):
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
