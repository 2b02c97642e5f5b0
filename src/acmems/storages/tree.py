"""What is in the directory of a file storage, as records of the state: for an import."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from acmems.exceptions import PayloadInvalid
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

    def records(self) -> Iterator[ChainRecord | DamagedEntry]:
        """Yield each chain, once, and what is damaged."""
        # The folders first: they tell whose chain lies in the index, too, and for which request it is.
        for path in listing.folders(self._directory):
            yield from self._read(path, self._in_folder)
        for path in listing.indexed(self._directory):
            yield from self._read(path, self._in_index)

    def _read(
        self, path: str, record_of: Callable[[Path, Chain], ChainRecord | None]
    ) -> Iterator[ChainRecord | DamagedEntry]:
        try:
            chain = chains.parse_once(files.read(path, _LARGEST_CHAIN))
            record = record_of(Path(path), chain)
        except FileNotFoundError:
            return  # a folder without a chain, or one that was moved meanwhile
        except OSError as error:
            yield DamagedEntry(path, error.strerror or str(error))
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
            pem = files.read(path.with_name(listing.REQUEST), _LARGEST_FILE)
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
            told = json.loads(files.read(path, _LARGEST_FILE))
            issuer = IssuerIdentity(told["directory"], told["profile"], told.get("account"))
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


def _by_leaf(chain: Chain, issuer: IssuerIdentity, *, must_staple: bool = False) -> str:
    """Return the identity of a request for the key and the names that a leaf has."""
    return identity_digest(issuer, hashlib.sha256(chain.spki).hexdigest(), must_staple, chain.identifiers)


def size(storage: FileStorage) -> int:
    """Return about how many chains there are, for whoever waits for all of them."""
    return sum(1 for _ in listing.folders(storage.directory))
