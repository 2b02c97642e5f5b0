"""The journal of proofs that outlive this process: what a crash leaves behind is found in it and withdrawn.

One file for each batch of proofs, there before the first of them is presented and gone after the last is
withdrawn. A file is locked by the process that will remove it, so a file without a lock is left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acmems.challenges import Proof
from acmems.system import files
from acmems.x509.identifiers import Identifier, IdentifierType

logger = logging.getLogger(__name__)

_MOST = 1024 * 1024  # octets of one note: an order has a hundred names


class Entry:
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
        self._lock = threading.Lock()  # guards the three before

    def settle(self, *, withdrawn: bool) -> None:
        """Take note that one proof was withdrawn, or could not be; after the last one the entry is over.

        Args:
            withdrawn: whether it is gone; otherwise the file stays, for `Journal.abandoned`.
        """
        with self._lock:
            self._left -= 1
            self._failed = self._failed or not withdrawn
            over, failed = self._left == 0, self._failed
        if not over:
            return
        if self._path is not None and not failed:
            with contextlib.suppress(OSError):
                self._path.unlink()
        if self._descriptor is not None:
            os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class AbandonedProofs:
    """Proofs that nobody will withdraw any more but whoever finds them.

    Args:
        verification: the name of the validator that presented them.
        proofs: the proofs.
    """

    verification: str
    proofs: tuple[Proof, ...]
    _path: Path

    def forget(self) -> None:
        """Remove them from the journal, once they are withdrawn."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()


class Journal:
    """The journal of one account directory.

    Args:
        folder: where its files are; made when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def note(self, verification: str, proofs: Sequence[Proof]) -> Entry:
        """Write down, durably, what will be presented.

        A disk that cannot take it stops no order: then it is logged.

        Args:
            verification: the name of the validator.
            proofs: what it will present.
        """
        name = secrets.token_hex(8)
        hidden, path = self.folder / f".{name}", self.folder / name
        try:
            files.make_directory(self.folder)
            descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            _complain(path, error)
            return Entry(None, None, len(proofs))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.write(descriptor, _encoded(verification, proofs))
            os.fsync(descriptor)
            hidden.rename(path)
            files.sync_directory(self.folder)
        except OSError as error:
            _complain(path, error)
        return Entry(path, descriptor, len(proofs))

    @contextlib.contextmanager
    def abandoned(self) -> Iterator[Sequence[AbandonedProofs]]:
        """Yield what no living process will withdraw; it is this one's while the context lasts."""
        found: list[AbandonedProofs] = []
        with contextlib.ExitStack() as locks:
            for path in self._files():
                if not _locked(path, locks):
                    continue
                if path.name.startswith("."):  # noted half: nothing of it was presented
                    with contextlib.suppress(FileNotFoundError):
                        path.unlink()
                    continue
                try:
                    found.append(_decoded(path))
                except (OSError, ValueError, KeyError, TypeError) as error:
                    logger.warning("%s is no note of proofs and is removed: %s", path, type(error).__name__)
                    with contextlib.suppress(OSError):
                        path.unlink()
            yield found

    def _files(self) -> list[Path]:
        try:
            return sorted(self.folder.iterdir())
        except OSError:
            return []


def _locked(path: Path, locks: contextlib.ExitStack) -> bool:
    """Lock a file until `locks` ends, and tell whether nobody else holds it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    locks.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _encoded(verification: str, proofs: Sequence[Proof]) -> bytes:
    noted = [
        {
            "type": proof.identifier.type.value,
            "name": proof.identifier.value,
            "wildcard": proof.is_wildcard,
            "token": proof.token,
            "key-authorization": proof.key_authorization,
            "account": proof.account_url,
        }
        for proof in proofs
    ]
    return json.dumps({"verification": verification, "proofs": noted}).encode("ascii")


def _decoded(path: Path) -> AbandonedProofs:
    noted: dict[str, Any] = json.loads(files.read(path, _MOST))
    proofs = tuple(
        Proof(
            Identifier(IdentifierType(proof["type"]), str(proof["name"])),
            str(proof["token"]),
            str(proof["key-authorization"]),
            lambda: None,
            account_url=str(proof["account"]),
            is_wildcard=bool(proof["wildcard"]),
        )
        for proof in noted["proofs"]
    )
    return AbandonedProofs(str(noted["verification"]), proofs, path)


def _complain(path: Path, error: OSError) -> None:
    logger.warning("%s: %s; a crash now would leave proofs behind in DNS", path, error.strerror)
