"""What is in the directory of a file storage, as records of the state: for an import."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acmems.exceptions import PayloadInvalid, StorageUnavailable
from acmems.state.chains import ChainRecord
from acmems.storages import listing
from acmems.storages.contract import IssuerIdentity, digest_of, identity_digest
from acmems.storages.file import FileStorage
from acmems.system import files
from acmems.x509 import chain as chains
from acmems.x509 import csr
from acmems.x509.chain import Chain

_LARGEST_CHAIN = 256 * 1024
_LARGEST_FILE = 64 * 1024  # a request, or a description


@dataclass(frozen=True, slots=True)
class DamagedEntry:
    """What lies in a storage and cannot be taken for a chain.

    Args:
        path: where it is.
        reason: what is wrong with it.
    """

    path: str
    reason: str


class StoredTree:
    """The chains in the directory of a file storage; nothing there is changed.

    Args:
        storage: the storage.
        issuer: whose the chains are that 0.3 to 0.5 have left, which did not say.
    """

    def __init__(self, storage: FileStorage, issuer: IssuerIdentity) -> None:
        self._name = storage.name
        self._directory = storage.directory
        self._issuer = issuer
        self._issuers = {issuer}  # those that were met
        self._seen: set[str] = set()  # identities and fingerprints of what was found already

    def check(self) -> None:
        """Find out whether the directory can be read.

        Raises:
            StorageUnavailable: it cannot.
        """
        try:
            with os.scandir(self._directory):
                pass
        except OSError as error:
            raise StorageUnavailable(
                f"storage '{self._name}' cannot be read: {error.strerror or error} ({self._directory})"
            ) from error

    def records(self) -> Iterator[ChainRecord | DamagedEntry]:
        """Yield each chain, once, and what is damaged or cannot be read."""
        unread: list[DamagedEntry] = []

        def note(folder: str, error: OSError) -> None:
            unread.append(DamagedEntry(folder, error.strerror or str(error)))

        # The folders first: they tell whose chain lies in the index, too, and for which request it is.
        for path in listing.folders(self._directory, note):
            yield from self._read(path, self._in_folder)
        for path in listing.indexed(self._directory, note):
            yield from self._read(path, self._in_index)
        yield from unread

    def _read(
        self, path: str, record_of: Callable[[Path, Chain], ChainRecord | None]
    ) -> Iterator[ChainRecord | DamagedEntry]:
        try:
            chain = chains.parse_once(_content(path, _LARGEST_CHAIN))
            record = record_of(Path(path), chain)
        except FileNotFoundError:
            return  # a folder without a chain, or one that was moved meanwhile
        except OSError as error:
            reason = error.strerror or str(error)
            yield DamagedEntry(path, reason if error.filename == path else f"{error.filename}: {reason}")
            return
        except ValueError as error:
            yield DamagedEntry(path, str(error))
            return
        if record is not None:
            self._seen.add(f"{record.identity} {record.fingerprint}")
            yield record

    def _in_folder(self, path: Path, chain: Chain) -> ChainRecord | None:
        """Return the record of a chain in a folder that is named by its request."""
        issuer = self._described(path.with_name(listing.DESCRIPTION), chain)
        try:
            pem = _content(path.with_name(listing.REQUEST), _LARGEST_FILE)
            request = csr.parse(pem, csr.LENIENT)
        except (FileNotFoundError, PayloadInvalid):
            # What 0.3 to 0.5 accepted may be none by the rules of today, and nobody can send it again.
            return self._record(chain, issuer, _by_leaf(chain, issuer))
        if not chains.matches(chain, request):
            raise ValueError("a certificate for another key or other names than the request beside it")
        return self._record(chain, issuer, digest_of(request, issuer), request.pem)

    def _in_index(self, path: Path, chain: Chain) -> ChainRecord | None:
        """Return the record of a chain in the index, where the name of its file is its identity."""
        identity = path.stem
        if f"{identity} {chain.fingerprint}" in self._seen:
            return None
        for issuer, must_staple in itertools.product(self._issuers, (False, True)):
            if identity == _by_leaf(chain, issuer, must_staple=must_staple):
                return self._record(chain, issuer, identity)
        raise ValueError("nothing tells which CA it is of, and for which request")

    def _described(self, path: Path, chain: Chain) -> IssuerIdentity:
        """Return whose chain lies beside a description; 0.3 to 0.5 made none."""
        try:
            told = json.loads(_content(path, _LARGEST_FILE))
            issuer = _issuer_of(told)
            is_about_it = told["sha256"] == hashlib.sha256(chain.pem).hexdigest()
        except FileNotFoundError:
            return self._issuer
        except (LookupError, TypeError, RecursionError, ValueError):
            raise ValueError(f"{path} does not say whose chain lies beside it") from None
        if not is_about_it:
            raise ValueError(f"{path} is about another chain")
        self._issuers.add(issuer)
        return issuer

    def _record(
        self, chain: Chain, issuer: IssuerIdentity, identity: str, request: bytes | None = None
    ) -> ChainRecord:
        return ChainRecord.of(
            chain,
            identity=identity,
            directory=issuer.directory,
            profile=issuer.profile,
            issued=chain.not_before,  # nothing tells it more exactly
            storage=self._name,
            csr=request,
        )


def _issuer_of(told: Any) -> IssuerIdentity:
    """Return the issuer that a description names.

    Raises:
        LookupError, TypeError: it names none.
    """
    issuer = IssuerIdentity(told["directory"], told["profile"], told.get("account"))
    parts: list[object] = [issuer.directory, *(part for part in issuer.parts if part is not None)]
    if not all(isinstance(part, str) and part.isprintable() for part in parts):  # what every database keeps
        raise TypeError
    return issuer


def _content(path: str | Path, limit: int) -> bytes:
    """Return the content of a file; errors name it.

    Raises:
        OSError: it cannot be read.
    """
    try:
        return files.read(path, limit)
    except OSError as error:
        error.filename = str(path)
        raise


def _by_leaf(chain: Chain, issuer: IssuerIdentity, *, must_staple: bool = False) -> str:
    """Return the identity of a request for the key and the names that a leaf has."""
    return identity_digest(issuer, hashlib.sha256(chain.spki).hexdigest(), must_staple, chain.identifiers)


def size(storage: FileStorage) -> int:
    """Return about how many chains there are, for whoever waits for all of them."""
    return sum(1 for _ in listing.folders(storage.directory))
