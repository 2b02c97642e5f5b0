"""TSIG keys (RFC 8945): from the configuration, or from a file of BIND in any of its forms."""

from __future__ import annotations

import base64
import binascii
import re
import threading
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.name
import dns.tsig

from acmems.exceptions import ValidatorUnavailable
from acmems.system.permissions import reason
from acmems.text import Secret

ALGORITHMS = ("hmac-sha256", "hmac-sha1", "hmac-sha224", "hmac-sha384", "hmac-sha512", "hmac-md5")
# Algorithms by their numbers in K*.private and K*.key, which only BIND knows (dst.h).
_NUMBERS = {
    "157": "hmac-md5",
    "161": "hmac-sha1",
    "162": "hmac-sha224",
    "163": "hmac-sha256",
    "164": "hmac-sha384",
    "165": "hmac-sha512",
}
_MD5 = "hmac-md5.sig-alg.reg.int"  # the only algorithm that is called differently in messages
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*|#[^\n]*", re.DOTALL)
_KEY = re.compile(r'\bkey\s+"?([^\s"{;]+)"?\s*\{([^}]*)\}\s*;?', re.IGNORECASE)
_ALGORITHM = re.compile(r'\balgorithm\s+"?([A-Za-z0-9.-]+)"?\s*;', re.IGNORECASE)
_SECRET = re.compile(r'\bsecret\s+(?:"([A-Za-z0-9+/=\s]+)"|([A-Za-z0-9+/=]+))\s*;', re.IGNORECASE)
_PRIVATE = re.compile(r"^Private-key-format:.*^Algorithm:\s*(\d+).*^Key:\s*(\S+)", re.DOTALL | re.MULTILINE)
_PRIVATE_FILE = re.compile(r"K(.+)\.\+\d+\+\d+\.private")
_LARGEST_FILE = 65536


@dataclass(frozen=True, slots=True)
class KeyText:
    """What a text tells of a key.

    Args:
        secret: the secret in base64.
        name: the key's name; None: not told.
        algorithm: one of `ALGORITHMS`; None: not told.
    """

    secret: Secret
    name: dns.name.Name | None = None
    algorithm: str | None = None


_FileState = tuple[int, int, int]
"""Inode, size and time of the last change (ns) of a file."""


class TsigKey:
    """A key, whose file is read when it is first needed, and again when it has changed.

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
        self._lock = threading.Lock()  # guards what follows
        self._key: dns.tsig.Key | None = None
        self._read_as: _FileState | None = None  # what the file was then

    def load(self) -> dns.tsig.Key:
        """Return the key.

        Raises:
            ValidatorUnavailable: its file cannot be read, or holds no such key.
        """
        with self._lock:
            state = None if self.file is None else _state_of(self.file)
            if self._key is None or state != self._read_as:
                self._key, self._read_as = self._read(), state
            return self._key

    def _read(self) -> dns.tsig.Key:
        if self._secret is not None or self.file is None:
            name, secret, algorithm = self.name, self._secret, self.algorithm
        else:
            found = self._from_file(self.file)
            name, secret, algorithm = found.name, found.secret, self.algorithm or found.algorithm
        if name is None or secret is None:
            raise _unusable(f"{self.file} does not tell the name of its key: add `tsig-name`")
        algorithm = algorithm or ALGORITHMS[0]
        return dns.tsig.Key(name, secret.reveal(), _MD5 if algorithm == "hmac-md5" else algorithm)

    def _from_file(self, path: Path) -> KeyText:
        try:
            with path.open(encoding="utf-8") as file:
                content = file.read(_LARGEST_FILE)
        except OSError as error:
            raise _unusable(f"{path}: {reason(error, path)}") from None
        except UnicodeDecodeError:
            raise _unusable(f"{path} is no text") from None
        try:
            keys = _keys(content, path.name)
        except ValueError:
            raise _unusable(f"{path} holds a key with a name, secret or algorithm that is none") from None
        unnamed = [KeyText(key.secret, self.name, key.algorithm) for key in keys if key.name is None]
        fitting = unnamed or [key for key in keys if self.name in {None, key.name}]
        # A name that is given twice counts the last time.
        if len({key.name for key in fitting}) != 1:
            what = "more than one key or none" if self.name is None else "no key of that name"
            raise _unusable(f"{path} holds {what}: correct `tsig-name`")
        return fitting[-1]

    def __repr__(self) -> str:
        return f"TsigKey({self.name})"


def _state_of(path: Path) -> _FileState | None:
    """Return what shows whether a file has changed; None where it cannot be looked at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def tsig_algorithm(value: str) -> str:
    """Parse the name of an algorithm as configurations and messages have it (RFC 8945 section 6).

    Returns:
        One of `ALGORITHMS`.

    Raises:
        ValueError: it is none of them.
    """
    name = value.lower().removesuffix(".").removesuffix(_MD5.removeprefix("hmac-md5"))
    if name not in ALGORITHMS:
        raise ValueError(f"{value!r} is not one of {', '.join(ALGORITHMS)}")
    return name


def key_text(value: str) -> KeyText:
    """Parse `SECRET`, `NAME:SECRET` or `ALGORITHM:NAME:SECRET`, as `nsupdate -y` takes them.

    Raises:
        ValueError: it is none of them; the words do not quote it.
    """
    *front, secret = (part.strip() for part in value.split(":"))
    found = base64_secret(secret)
    try:
        match front:
            case []:
                return KeyText(found)
            case [name]:
                return KeyText(found, dns_name(name))
            case [algorithm, name]:
                return KeyText(found, dns_name(name), tsig_algorithm(algorithm))
    except ValueError:
        pass  # its words quote what may be the secret, in the wrong place
    raise ValueError("is not SECRET, NAME:SECRET or ALGORITHM:NAME:SECRET")


def _keys(content: str, file_name: str) -> list[KeyText]:
    """Return the keys of a file: a text alone, a `K*.private`, or key statements of `named.conf`."""
    if private := _PRIVATE.search(content):
        name = _PRIVATE_FILE.fullmatch(file_name)
        algorithm = tsig_algorithm(_NUMBERS.get(private[1], private[1]))
        return [KeyText(base64_secret(private[2]), dns_name(name[1]) if name else None, algorithm)]
    statements = _KEY.findall(_without_comments(content))
    if not statements:
        try:
            return [key_text(content)]
        except ValueError:
            return []
    keys = []
    for name, body in statements:
        secret, told = _SECRET.search(body), _ALGORITHM.search(body)
        text = (secret[1] or secret[2]) if secret else ""
        keys.append(KeyText(base64_secret(text), dns_name(name), tsig_algorithm(told[1]) if told else None))
    return keys


def dns_name(value: str) -> dns.name.Name:
    """Parse a DNS name; it is absolute, with or without a dot at its end."""
    if not value:
        raise ValueError("must not be empty")
    try:
        return dns.name.from_text(value).canonicalize()
    except dns.exception.DNSException:
        raise ValueError(f"{value!r} is not a DNS name") from None


def base64_secret(value: str) -> Secret:
    """Parse a secret in base64; blanks in it, as some tools print them, count for nothing.

    Raises:
        ValueError: it is not base64.
    """
    value = "".join(value.split())
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
