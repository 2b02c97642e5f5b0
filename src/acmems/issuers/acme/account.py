"""The ACME account on disk: its key and its registration (RFC 8555 section 7.1.2)."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from acmems.exceptions import AccountError
from acmems.issuers.acme.key import AccountKey, is_jwk
from acmems.system import files
from acmems.system.permissions import closed_directories, reason, unwritable

logger = logging.getLogger(__name__)

# Members of an account object that are kept, and their types.
_MEMBERS: Mapping[str, type] = {
    "key": dict,
    "contact": list,
    "agreement": str,
    "status": str,
    "termsOfServiceAgreed": bool,
}
_SMALLEST_RSA = 2048  # bits
_SMALLEST_EXPONENT = 65537


@dataclass(frozen=True, slots=True)
class Account:
    """An account at a CA, as the CA last described it.

    Args:
        url: its URL, which names it in requests.
        body: the account object: those of its members that are kept, without what is empty.
        terms_of_service: the URL of the terms that it was registered under, None where it is not known.
        new_authzr_uri: what registrations of the first ACME draft had, kept as it was found.
    """

    url: str
    body: Mapping[str, Any] = field(default_factory=dict)
    terms_of_service: str | None = None
    new_authzr_uri: str | None = None

    @classmethod
    def of(cls, url: str, document: Mapping[str, Any], terms_of_service: str | None) -> Self:
        """Read the account object that a CA sent.

        Raises:
            ValueError: a member has a type that it cannot have.
        """
        return cls(url, _kept(document), terms_of_service)

    @classmethod
    def from_json(cls, document: object) -> Self:
        """Read what a registration file holds: a `RegistrationResource` as python-acme writes it.

        Raises:
            ValueError: it is none.
        """
        if not isinstance(document, dict) or not isinstance(document.get("body"), dict):
            raise ValueError("there is no account in it")  # noqa: TRY004 - the file's content is wrong, not a type of ours
        url = document.get("uri")
        texts = [document.get(name) for name in ("terms_of_service", "new_authzr_uri")]
        if not isinstance(url, str) or not all(isinstance(text, str | None) for text in texts):
            raise ValueError("it does not name its account by a URL")
        return cls(url, _kept(document["body"]), *texts)

    def to_json(self) -> dict[str, Any]:
        """Return what a registration file holds."""
        optional = {"new_authzr_uri": self.new_authzr_uri, "terms_of_service": self.terms_of_service}
        given = {name: value for name, value in optional.items() if value}
        return {"body": dict(self.body), "uri": self.url, **given}

    @property
    def status(self) -> str:
        """Its status; `valid` where the CA did not say."""
        return str(self.body.get("status", "valid"))

    @property
    def contacts(self) -> tuple[str, ...]:
        """Its contact URLs."""
        return tuple(self.body.get("contact", ()))


class AccountDirectory:
    """The directory that holds `account.pem` and `registration.json`.

    Args:
        path: the directory; it must exist before anything is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.key_file = path / "account.pem"
        self.next_key_file = path / "account.pem.next"
        self.registration_file = path / "registration.json"
        self.lock_file = path / "account.lock"
        self._registered_url: str | None = None  # as last read or written

    @property
    def registered_url(self) -> str | None:
        """The URL of the account by its registration, None where there is none that can be read."""
        if self._registered_url is None:
            with contextlib.suppress(AccountError):
                self.load_registration()
        return self._registered_url

    def exists(self) -> bool:
        """Tell whether the directory is there."""
        mode = _mode(self.path)
        return mode is not None and stat.S_ISDIR(mode)

    def has_key(self) -> bool:
        """Tell whether there is a key."""
        return _mode(self.key_file) is not None

    def has_next_key(self) -> bool:
        """Tell whether there is a key that is to take the place of the account's, or was to."""
        return _mode(self.next_key_file) is not None

    def has_registration(self) -> bool:
        """Tell whether there is a registration."""
        return _mode(self.registration_file) is not None

    @contextlib.contextmanager
    def founding(self) -> Iterator[None]:
        """Hold the directory's lock while a key or a registration is missing, so that one process makes them.

        Whoever comes second waits until the first is done or killed, and then finds what it has made:
        look for the key within. Where both files are there already, nothing is locked or written.

        Raises:
            AccountError: the directory does not exist, or cannot be locked.
        """
        self._check_exists()
        if self.has_key() and self.has_registration():
            yield
            return
        descriptor = self._open_lock()
        try:
            self._lock(descriptor)
            yield
        finally:
            os.close(descriptor)  # the lock goes with it; the file stays, since others may hold it open

    @contextlib.contextmanager
    def changing_key(self) -> Iterator[None]:
        """Hold the directory's lock while the account's key is changed, or it is found out whether it was.

        Raises:
            AccountError: another process has the lock, or it cannot be had.
        """
        self._check_exists()
        descriptor = self._open_lock()
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AccountError(
                    f"another process is changing the account in {self.path}: try again", retry_after=5.0
                ) from None
            except OSError as error:
                raise self._not_lockable(error) from error
            yield
        finally:
            os.close(descriptor)

    def _open_lock(self) -> int:
        try:
            return os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise self._not_lockable(error) from error

    def _lock(self, descriptor: int) -> None:
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.info("another process makes the account in %s: waiting for it", self.path)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            raise self._not_lockable(error) from error

    def _not_lockable(self, error: OSError) -> AccountError:
        return AccountError(f"{self.lock_file} cannot be locked: {reason(error, self.path)}")

    def _check_exists(self) -> None:
        if not self.exists():
            raise AccountError(f"the account directory {self.path} does not exist: create it, mode 0700")

    def self_check(self) -> Iterator[str]:
        """Say what is wrong with the directory, its key, or its registration; change nothing."""
        try:
            if not self.exists() or self.has_key() or self.has_registration():
                self.load_key()
                if self.has_registration():
                    os.close(os.open(self.registration_file, os.O_RDONLY | os.O_CLOEXEC))
            elif not os.access(self.path, os.W_OK | os.X_OK):
                yield f"the account directory {self.path} is not writable: {unwritable(self.path)}"
            presented = self.path / "presented"
            if presented in closed_directories(self.path):
                yield f"proofs in DNS that are noted there cannot be withdrawn: {unwritable(presented)}"
        except AccountError as error:
            yield str(error)
        except OSError as error:
            yield f"the account directory {self.path} cannot be read: {reason(error, self.path)}"

    def load_key(self) -> AccountKey:
        """Return the account's key.

        Raises:
            AccountError: it is missing, a link, readable by others, no key, or too weak a one.
        """
        self._check_exists()
        try:
            return self._read_key(self.key_file)
        except FileNotFoundError:
            hint = "run 'acmems account register' with this configuration"
            if self.has_registration():
                hint = "a lost account key is never replaced silently: restore it from your backup"
            raise AccountError(f"the account key {self.key_file} does not exist: {hint}") from None

    def load_next_key(self) -> AccountKey | None:
        """Return the key that is to take the place of the account's, or was to; None if there is none.

        Raises:
            AccountError: as `load_key`.
        """
        try:
            return self._read_key(self.next_key_file)
        except FileNotFoundError:
            return None

    def _read_key(self, file: Path) -> AccountKey:
        """Return the key in a file; FileNotFoundError where there is none."""
        try:
            pem = files.read_private(file)
        except FileNotFoundError:
            raise
        except OSError as error:
            # What `read_private` itself refuses is said of the file; the rest are the system's words.
            words = f"used: it {error.strerror}" if error.errno == errno.EPERM else f"read: {reason(error)}"
            raise AccountError(f"the account key {file} cannot be {words}") from error
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise AccountError(f"{file} holds no private key in PEM without a password") from None
        if isinstance(key, rsa.RSAPrivateKey):
            self._check_rsa(key)
        try:
            if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
                return AccountKey(key)
        except ValueError:
            pass
        raise AccountError(f"{file} holds a key that ACME does not use: RSA, P-256 and P-384 are")

    def _check_rsa(self, key: rsa.RSAPrivateKey) -> None:
        """Refuse what CAs refuse (RFC 7518 section 3.3; public CAs take no small exponents either)."""
        if key.key_size < _SMALLEST_RSA:
            weakness = f"an RSA key of {key.key_size} bits, and {_SMALLEST_RSA} are the least that is safe"
        elif key.public_key().public_numbers().e < _SMALLEST_EXPONENT:
            weakness = f"an RSA key whose public exponent is below {_SMALLEST_EXPONENT}, which CAs refuse"
        else:
            return
        raise AccountError(
            f"{self.key_file} holds {weakness}: move {self.both_files} away, and run "
            f"'acmems account register'"
        )

    @property
    def both_files(self) -> str:
        """What is moved away where the key cannot have an account any more (RFC 8555 section 7.3.6)."""
        return f"{self.key_file} and {self.registration_file}"

    def create_key(self, key_type: str) -> None:
        """Write a new account key, unless there is a registration, whose key is lost then.

        Raises:
            AccountError: there is, or as `save_key`.
        """
        if self.has_registration():
            raise AccountError(
                f"{self.registration_file} exists, but its key does not: a lost account key is "
                f"never replaced silently. Restore account.pem, or remove registration.json to begin anew"
            )
        self.save_key(AccountKey.generate(key_type))

    def save_key(self, key: AccountKey, *, force: bool = False) -> None:
        """Write a new account key, readable by its owner only.

        Args:
            key: the key.
            force: replace an existing one.

        Raises:
            AccountError: the directory is missing or not writable, or there is a key already.
        """
        self._check_exists()
        if not force and (self.has_key() or self.key_file.is_symlink()):
            raise AccountError(f"there is an account key already: {self.key_file}")
        self._write(self.key_file, key.pem())

    def restore_key(self, pem: bytes) -> None:
        """Write a key that the account has already, in place of the one that is there.

        Args:
            pem: the key.

        Raises:
            AccountError: the directory is missing or not writable.
        """
        self._check_exists()
        self._write(self.key_file, pem)

    def require_no_next_key(self) -> None:
        """See that no change of the key is still to be finished.

        Raises:
            AccountError: one is, or the file that lies in its place cannot be used.
        """
        try:
            key = self.load_next_key()
        except AccountError as error:
            raise AccountError(
                f"{error}; no change of the key can be finished with that: move it away"
            ) from error
        if key is not None:
            raise AccountError(
                f"{self.next_key_file} is of a change whose answer was lost, and which may be late: try "
                f"again in some minutes"
            )

    def save_next_key(self, key: AccountKey) -> None:
        """Write the key that is to take the place of the account's, durably, before the CA hears of it.

        Raises:
            AccountError: the directory is missing or not writable.
        """
        self._check_exists()
        self._write(self.next_key_file, key.pem())

    def next_key_age(self, now: float) -> float:
        """Return for how many seconds no change to the next key has been asked for.

        Args:
            now: seconds since 1970.

        Raises:
            AccountError: the file cannot be looked at.
        """
        try:
            return now - self.next_key_file.stat().st_mtime
        except OSError as error:
            raise AccountError(f"{self.next_key_file} cannot be read: {reason(error)}") from error

    def note_change(self, now: float) -> None:
        """Take note that the CA is asked to change to the next key.

        Args:
            now: seconds since 1970.

        Raises:
            AccountError: it cannot be noted.
        """
        try:
            os.utime(self.next_key_file, (now, now))
        except OSError as error:
            raise AccountError(f"{self.next_key_file} cannot be written: {reason(error)}") from error

    def use_next_key(self) -> None:
        """Have the next key take the place of the account's, which the CA does not accept any more.

        Raises:
            AccountError: it cannot be done.
        """
        try:
            self.next_key_file.replace(self.key_file)
            files.sync_directory(self.path)
        except OSError as error:
            raise AccountError(
                f"{self.next_key_file} is the key of the account now, and cannot be renamed to "
                f"{self.key_file.name}: {reason(error, self.path)}; the next start tries it again"
            ) from error

    def drop_next_key(self) -> None:
        """Remove the next key, which the CA does not know.

        Raises:
            AccountError: it cannot be removed.
        """
        try:
            self.next_key_file.unlink()
            files.sync_directory(self.path)
        except OSError as error:
            raise AccountError(
                f"{self.next_key_file} cannot be removed: {reason(error, self.path)}"
            ) from error

    def load_registration(self) -> Account | None:
        """Return the account as the CA once described it, None if it never did.

        Raises:
            AccountError: the file cannot be read.
        """
        try:
            text = self.registration_file.read_text()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            words = reason(error) if isinstance(error, OSError) else "it is not UTF-8"
            raise AccountError(f"{self.registration_file} cannot be read: {words}") from error
        try:
            account = Account.from_json(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise AccountError(
                f"{self.registration_file} holds no registration: remove it, and the next start asks the CA "
                f"for the account that belongs to the key"
            ) from error
        self._registered_url = account.url
        return account

    def save_registration(self, account: Account) -> None:
        """Write the account, as python-acme serialises it.

        Raises:
            AccountError: the directory is missing or not writable.
        """
        self._write(self.registration_file, json.dumps(account.to_json(), indent=2).encode())
        self._registered_url = account.url

    def _write(self, path: Path, data: bytes) -> None:
        try:
            files.write_atomically(path, data)
        except OSError as error:
            raise AccountError(f"{path} cannot be written: {reason(error, self.path)}") from error


def _mode(path: Path) -> int | None:
    """Return the mode of a file, None where there is none; from 3.14 on, Path hides that it may not look."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _kept(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of an account object that are kept; ValueError where one cannot be read."""
    # What is empty is left out: 0.3 to 0.5 would not write it, and the file would seem to have changed.
    kept = {name: document[name] for name in _MEMBERS if document.get(name)}
    if not all(isinstance(value, _MEMBERS[name]) for name, value in kept.items()):
        raise ValueError("a member of the account has a type that it cannot have")
    if not all(isinstance(contact, str) for contact in kept.get("contact", ())):
        raise ValueError("a contact of the account is no text")
    if "key" in kept and not is_jwk(kept["key"]):
        raise ValueError("the key of the account is none")
    return kept
