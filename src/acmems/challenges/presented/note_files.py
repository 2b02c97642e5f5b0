"""A journal in files, for a server that has no state: after a crash it says what is still to be withdrawn.

Each batch of proofs has one file, a note, which is there before the first of them is presented and is
removed after the last of them is withdrawn. Whoever will remove a note holds a lock on it (flock(2)), and
the kernel drops that lock when the process ends, however it ends: a note without a lock is abandoned.

A note is written under a name that begins with a dot and renamed when all of it is on disk, so a name
without a dot always stands for a whole note. Between opening a file and locking it, another process may
lock or remove it. Therefore a lock counts only where the file still has its name once it is locked.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acmems.challenges.contract import Proof, Validator
from acmems.exceptions import CAProtocolError
from acmems.system import files
from acmems.x509.identifiers import Identifier, IdentifierType

logger = logging.getLogger(__name__)

_LARGEST = 1024 * 1024  # octets of one note: an order has a hundred names
_DAMAGED = ".damaged"  # the end of the name of a file that holds no note and was moved aside


class FileNote:
    """A batch of proofs that are noted in one file.

    Args:
        path: the file; None where it could not be written.
        descriptor: holds its lock.
        size: how many proofs it holds.
    """

    def __init__(self, path: Path | None, descriptor: int | None, size: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._left = size
        self._failed = False
        self._lock = threading.Lock()  # guards the two before

    def is_free(self) -> bool:
        """Tell that they may be presented: `PresentedProofs` knows all that is withdrawn."""
        return True

    def leave(self, proofs: Sequence[Proof]) -> Sequence[Proof]:
        """Return all of them: no other server presents them."""
        return proofs

    def settle(self, proofs: Sequence[Proof], *, withdrawn: bool) -> None:
        """Take note that proofs were withdrawn, or could not be; remove the file after the last one.

        Args:
            proofs: some or all of them.
            withdrawn: whether they are gone; otherwise the file stays, for `NoteFiles.abandoned`.
        """
        with self._lock:
            self._left -= len(proofs)
            self._failed = self._failed or not withdrawn
            over, failed = self._left == 0, self._failed
        if not over:
            return
        if self._path is not None and not failed:
            # Where this fails the note is abandoned, and a sweep withdraws once more, which does no harm.
            with contextlib.suppress(OSError):
                self._path.unlink()
        if self._descriptor is not None:
            os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class AbandonedFile:
    """A file whose proofs its process does not withdraw any more.

    Args:
        verification: the name of the validator that presented them.
        places: the proofs, and where each was put; empty where that is not noted.
    """

    verification: str
    places: Mapping[Proof, str]
    _path: Path

    def forget(self) -> None:
        """Remove the note, once its proofs are withdrawn.

        Raises:
            OSError: it cannot be removed.
        """
        self._path.unlink(missing_ok=True)


class NoteFiles:
    """The journal of one account directory, which earlier versions used as well.

    Args:
        folder: where its files are; made when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._unreadable: set[Path] = set()  # files of which the log has told that they cannot be read

    def keeps(self, validator: Validator) -> bool:
        """Tell whether the proofs of a validator outlive this process."""
        return validator.leaves_traces

    def note(self, validator: Validator, places: Mapping[Proof, str]) -> FileNote:
        """Write down, durably, what will be presented.

        A disk that does not take it stops no order; the log then says what a crash would mean.

        Args:
            validator: what will present it.
            places: the proofs, and where each will be.
        """
        try:
            files.make_directory(self.folder)
            path, descriptor = self._write(_encoded(validator.name, places))
        except OSError as error:
            _complain(self.folder, error)
            return FileNote(None, None, len(places))
        try:
            files.sync_directory(self.folder)
        except OSError as error:  # the note is there, and only a crash of the whole machine could lose it
            _complain(self.folder, error)
        return FileNote(path, descriptor, len(places))

    @contextlib.contextmanager
    def abandoned(self) -> Iterator[Sequence[AbandonedFile]]:
        """Yield the notes of no living process; no other process gets them while the context lasts."""
        found: list[AbandonedFile] = []
        with contextlib.ExitStack() as locks:
            for path in self._files():
                descriptor = self._take(path, locks)
                if descriptor is None:
                    continue
                if path.name.startswith("."):  # not yet renamed, so nothing of it was presented
                    with contextlib.suppress(OSError):
                        path.unlink()
                    continue
                note = self._read(path, descriptor)
                if note is not None:
                    found.append(note)
            yield found

    def _write(self, data: bytes) -> tuple[Path, int]:
        """Return the path of a new note, and the descriptor that holds its lock."""
        if len(data) > _LARGEST:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        name, descriptor = self._create()
        hidden, path = self.folder / f".{name}", self.folder / name
        try:
            files.write_all(descriptor, data)
            os.fsync(descriptor)
            hidden.rename(path)
        except BaseException:
            with contextlib.suppress(OSError):
                hidden.unlink()
            os.close(descriptor)
            raise
        return path, descriptor

    def _create(self) -> tuple[str, int]:
        """Return the name of a new empty file, without its dot, and a descriptor that holds its lock."""
        while True:
            name = secrets.token_hex(8)
            path = self.folder / f".{name}"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                if _locked(path, descriptor):
                    return name, descriptor
            except BaseException:
                with contextlib.suppress(OSError):
                    path.unlink()
                os.close(descriptor)
                raise
            # A sweep was faster and removes the file. It listed the folder before, and takes no second one.
            os.close(descriptor)

    def _take(self, path: Path, locks: contextlib.ExitStack) -> int | None:
        """Return a descriptor that locks a file until `locks` ends; None where the file has an owner."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn_once(path, error)
            return None
        try:
            if _locked(path, descriptor):
                locks.callback(os.close, descriptor)
                return descriptor
        except OSError as error:
            self._warn_once(path, error)
        os.close(descriptor)
        return None

    def _read(self, path: Path, descriptor: int) -> AbandonedFile | None:
        try:
            data = files.read_descriptor(descriptor, path, _LARGEST)
        except OSError as error:  # the note may be whole, so it stays, and the next sweep tries again
            self._warn_once(path, error)
            return None
        try:
            return _decoded(data, path)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, CAProtocolError) as error:
            aside = path.with_name(path.name + _DAMAGED)
            logger.warning("%s is no note of proofs and becomes %s: %s", path, aside, type(error).__name__)
            with contextlib.suppress(OSError):
                path.rename(aside)
            return None

    def _warn_once(self, path: Path, error: OSError) -> None:
        if path not in self._unreadable:
            self._unreadable.add(path)
            logger.warning(
                "%s cannot be read, so the proofs in it stay where they are: %s", path, error.strerror
            )

    def _files(self) -> list[Path]:
        try:
            found = sorted(path for path in self.folder.iterdir() if path.suffix != _DAMAGED)
        except OSError:
            return []
        self._unreadable.intersection_update(found)
        return found


def _locked(path: Path, descriptor: int) -> bool:
    """Lock a file; tell whether it is ours now: nobody else holds it, and it still has its name."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(path.stat(follow_symlinks=False), os.fstat(descriptor))
    except (BlockingIOError, FileNotFoundError):
        return False


def _encoded(verification: str, places: Mapping[Proof, str]) -> bytes:
    noted = [
        {
            "type": proof.identifier.type.value,
            "name": proof.identifier.value,
            "wildcard": proof.is_wildcard,
            "token": proof.token,
            "key-authorization": proof.key_authorization,
            "account": proof.account_url,
            "issuers": proof.issuers,
            "place": place,
        }
        for proof, place in places.items()
    ]
    return json.dumps({"verification": verification, "proofs": noted}).encode("ascii")


def _decoded(data: bytes, path: Path) -> AbandonedFile:
    noted: dict[str, Any] = json.loads(data)
    places = {
        Proof(
            Identifier(IdentifierType(proof["type"]), str(proof["name"])),
            str(proof["token"]),
            str(proof["key-authorization"]),
            lambda: None,
            account_url=str(proof["account"]),
            is_wildcard=bool(proof["wildcard"]),
            issuers=tuple(map(str, proof.get("issuers", ()))),  # older versions noted none
        ): str(proof.get("place", ""))  # the same
        for proof in noted["proofs"]
    }
    return AbandonedFile(str(noted["verification"]), places, path)


def _complain(folder: Path, error: OSError) -> None:
    logger.warning(
        "a note of proofs cannot be written to %s: %s; a crash now would leave them in DNS",
        folder,
        error.strerror,
    )
