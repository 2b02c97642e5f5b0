"""The files of a local CA. Like the key of an account, its keys are never replaced silently."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from acmems.exceptions import LocalCaUnusable
from acmems.issuers.local.authority import IssuingAuthority, RootAuthority
from acmems.system import files
from acmems.system.permissions import reason

_LARGEST = 64 * 1024
_INIT = "'acmems ca init' with this configuration makes it"


class LocalCaDirectory:
    """The directory of a local CA.

    Args:
        path: the directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root_file = path / "root.pem"
        self.root_key_file = path / "root-key.pem"
        self.intermediate_file = path / "intermediate.pem"
        self.intermediate_key_file = path / "intermediate-key.pem"
        self._lock_file = path / "ca.lock"

    @property
    def files(self) -> tuple[Path, ...]:
        """What a new CA has; all but the root's key are needed to issue."""
        return self.root_file, self.root_key_file, self.intermediate_file, self.intermediate_key_file

    def existing(self) -> list[Path]:
        """Return those of its files that are there."""
        return [each for each in self.files if os.path.lexists(each)]

    def fingerprint(self) -> str | None:
        """Return the SHA-256 of the root's certificate, in hex; None where that cannot be read."""
        try:
            root = _certificate(self.root_file)
        except LocalCaUnusable:
            return None
        return hashlib.sha256(root.public_bytes(Encoding.DER)).hexdigest()

    def save_new(self, root: RootAuthority, issuing: IssuingAuthority) -> None:
        """Write a new CA, unless there is any of one.

        Raises:
            LocalCaUnusable: there is, or it cannot be written.
        """
        with self._locked():
            existing = self.existing()
            if existing:
                raise LocalCaUnusable(
                    f"there is a CA in {self.path} already, or what is left of one ({existing[0].name}): its "
                    f"keys are never replaced silently. Move it away to begin anew"
                )
            self._write(
                {
                    self.root_key_file: _pem_of(root.key),
                    self.intermediate_key_file: _pem_of(issuing.key),
                    self.intermediate_file: issuing.pem,
                    self.root_file: root.certificate.public_bytes(Encoding.PEM),
                }
            )

    def save_intermediate(self, issuing: IssuingAuthority) -> None:
        """Write a new intermediate, unless there is one.

        Raises:
            LocalCaUnusable: there is, or it cannot be written.
        """
        with self._locked():
            for file in (self.intermediate_key_file, self.intermediate_file):
                if os.path.lexists(file):
                    raise LocalCaUnusable(f"{file} is there: it is never replaced silently. Move it away")
            key = {self.intermediate_key_file: _pem_of(issuing.key)}
            self._write(key | {self.intermediate_file: issuing.pem})

    def load(self) -> IssuingAuthority:
        """Return what issues.

        Raises:
            LocalCaUnusable: a file is missing, readable by others, or not what it is to be.
        """
        if not self.existing():
            raise LocalCaUnusable(f"there is no CA in {self.path} yet: {_INIT}")
        root, certificate = _certificate(self.root_file), _certificate(self.intermediate_file)
        key = _key(self.intermediate_key_file)
        if certificate.public_key() != key.public_key():
            raise LocalCaUnusable(f"{self.intermediate_key_file} is not the key of {self.intermediate_file}")
        try:
            certificate.verify_directly_issued_by(root)
            return IssuingAuthority.of(root, certificate, key)
        except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            words = f"{self.intermediate_file} is no intermediate of {self.root_file}"
            raise LocalCaUnusable(f"{words}: restore both from your backup") from None

    def load_root(self) -> RootAuthority:
        """Return what makes intermediates.

        Raises:
            LocalCaUnusable: a file is missing, readable by others, or not what it is to be.
        """
        certificate, key = _certificate(self.root_file), _key(self.root_key_file)
        if certificate.public_key() != key.public_key():
            raise LocalCaUnusable(f"{self.root_key_file} is not the key of {self.root_file}")
        return RootAuthority(certificate, key)

    def root_pem(self) -> bytes:
        """Return the root's certificate in PEM, and nothing else that the file may hold.

        Raises:
            LocalCaUnusable: it cannot be read.
        """
        return _certificate(self.root_file).public_bytes(Encoding.PEM)

    def _write(self, contents: dict[Path, bytes]) -> None:
        try:
            files.write_together(self.path, {path.name: data for path, data in contents.items()})
        except OSError as error:
            raise LocalCaUnusable(f"{self.path} cannot be written: {reason(error, self.path)}") from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from making keys meanwhile; make the directory if its parent is there."""
        try:
            files.make_directory(self.path)
            descriptor = os.open(
                self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        except OSError as error:
            raise LocalCaUnusable(f"{self.path} cannot be used: {reason(error, self.path)}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _certificate(file: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(files.read(file, _LARGEST))
    except OSError as error:
        raise _unreadable(file, error) from error
    except ValueError:
        raise LocalCaUnusable(f"{file} holds no certificate in PEM") from None


def _key(file: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(files.read_private(file, _LARGEST), password=None)
    except OSError as error:
        raise _unreadable(file, error) from error
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise LocalCaUnusable(f"{file} holds no private key in PEM without a password") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise LocalCaUnusable(f"{file} holds no EC key, as 'acmems ca init' makes it")
    return key


def _unreadable(file: Path, error: OSError) -> LocalCaUnusable:
    if isinstance(error, FileNotFoundError):
        words = "a lost key or certificate of a CA is never replaced silently: restore it from your backup"
        return LocalCaUnusable(f"{file} does not exist: {words}")
    is_refused = error.errno == errno.EPERM  # by `read_private`, which says why
    return LocalCaUnusable(f"{file} {error.strerror}" if is_refused else f"{file}: {reason(error, file)}")


def _pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
