"""A storage in a directory: the tree of 0.3 to 0.5, and beside it an index by what was asked for.

    <directory>/<2 hex>/<94 hex>/csr.pem       the SHA-384 of the CSR's bytes names the folder
                                 cert.pem      the chain
                                 acmems.json   whose chain that is; 0.3 to 0.5 know no such file
    <directory>/identities/<64 hex>.pem        the newest chain for one issuer, key and set of names

A machine that makes a new CSR for the same key and names finds its chain through the index. The index
is what this version goes by: its file is one rename, its name says whose chain it holds. The tree is
kept for 0.5 beside it, and for what 0.3 to 0.5 have left.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import hashlib
import itertools
import json
import logging
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

from acmems.exceptions import StorageUnavailable
from acmems.settings import values
from acmems.settings.options import Options
from acmems.storages import listing, renewal
from acmems.storages.contract import IssuerIdentity, digest_of
from acmems.system import files
from acmems.system.permissions import NamedFile, closed_directories, reason, unwritable
from acmems.x509 import chain as chains
from acmems.x509.chain import Chain
from acmems.x509.csr import CertificateRequest

logger = logging.getLogger(__name__)

_IDENTITIES = listing.INDEX
_LARGEST_CHAIN = 256 * 1024
_LARGEST_ORIGIN = 16 * 1024
_DAY = 86400.0

_OURS = re.compile(rf"{_IDENTITIES}|[0-9a-f]{{2}}")  # the directories in a storage
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR})
# Something is there, and it is no chain of ours: a folder, a socket, a loop of links, a file of
# somebody else, or a huge one. What is not listed (no descriptors left, a failing disk) tells nothing.
_DAMAGED = frozenset(
    {errno.EISDIR, errno.ENXIO, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EAGAIN}
)


class FileStorage:
    """Keeps chains in a directory; its methods do what `acmems.storages.Storage` says.

    It remembers no chain: every answer is read from the disk, so that several processes may share one
    directory.

    Args:
        name: its name in the configuration.
        directory: where everything lies; must exist.
        renew_within: how long before its end a chain is to be replaced, None for the share of its
            lifetime.
        renews_ahead: whether chains that are due are renewed before their clients ask.
        now: the wall clock, in seconds since 1970.
    """

    is_immediate = False
    is_durable = True
    is_local = True

    def __init__(
        self,
        name: str,
        directory: Path,
        renew_within: datetime.timedelta | None = None,
        *,
        renews_ahead: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.renews_ahead = renews_ahead
        self.name = name
        self.renew_within = renew_within
        self.directory = directory
        self._identities = directory / _IDENTITIES
        self._now = now
        self._sweep_at = 0.0
        self._lock = threading.Lock()

    @classmethod
    def from_options(cls, name: str, options: Options) -> Self:
        """Make one from its section of the configuration, and touch nothing outside."""
        directory = options.required("directory", values.path, meaning="directory for the chains; must exist")
        return cls(
            name,
            directory or Path(),
            renewal.renew_within(options),
            renews_ahead=renewal.renews_ahead(options, default=False),
        )

    def self_check(self) -> Iterator[tuple[str, str]]:
        """Say whether the directory is missing, or not writable for this user."""
        try:
            is_there = stat.S_ISDIR(self.directory.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            is_there = False
        except OSError as error:
            yield "directory", f"the directory {self.directory} cannot be used: {reason(error)}"
            return
        if not is_there:
            yield "directory", f"there is no directory {self.directory}: create it, mode 0700"
        elif not os.access(self.directory, os.R_OK | os.W_OK | os.X_OK):
            yield "directory", f"the directory {self.directory} is not writable: {unwritable(self.directory)}"
        else:
            # What another user has made, root for instance, when acmems was started in that user's name.
            closed = [each for each in closed_directories(self.directory) if _OURS.fullmatch(each.name)]
            if closed:
                yield "directory", f"chains cannot be kept in {self.directory}: {unwritable(closed[0])}"

    def named_files(self) -> Iterator[NamedFile]:
        """Name the directory; chains are public, but nobody else should change them."""
        yield NamedFile("directory", self.directory)

    def check(self) -> None:
        """Write a test file to both places that a chain goes to."""
        try:
            self._try_writing()
        except OSError as error:
            raise self._unavailable("is not writable", error) from error

    def find(self, request: CertificateRequest, issuer: IssuerIdentity) -> Chain | None:
        """Look under what is asked for, then under the CSR, and return what expires last."""
        indexed = self._sound(f"{self._identities}/{digest_of(request, issuer)}.pem", request)
        entry = self._entry(request)
        kept = self._sound(f"{entry}/cert.pem", request)
        if kept is None or (indexed is not None and indexed.not_after >= kept.not_after):
            return indexed  # most often both hold the same bytes, and whose they are need not be read
        return kept if self._belongs(entry, kept, issuer) else indexed

    def store(self, request: CertificateRequest, chain: Chain, issuer: IssuerIdentity) -> None:
        """Write the index, which makes the chain found, then the tree of 0.5."""
        self.store_all([(request, chain)], issuer)

    def store_all(self, entries: Sequence[tuple[CertificateRequest, Chain]], issuer: IssuerIdentity) -> None:
        """Write all to the index with one wait for the disk, then to the tree of 0.5.

        The tree need not survive a crash of the machine, because the index does.
        """
        index = {f"{digest_of(request, issuer)}.pem": chain.pem for request, chain in entries}
        try:
            try:
                files.write_together(self._identities, index)
            except FileNotFoundError:
                files.make_directory(self._identities)
                files.write_together(self._identities, index)
            for request, chain in entries:
                self._store_in_tree(request, chain, issuer)
        except OSError as error:
            raise self._unavailable("cannot keep a chain", error) from error

    def entries(self) -> Iterator[tuple[str, int]]:
        """Name the files of the index, and the folders that 0.3 to 0.5 have left."""
        yield from listing.entries(self.directory, _IDENTITIES)

    def read_entry(self, key: str) -> Chain | None:
        """Read the chain in one of these files."""
        try:
            return chains.parse_once(files.read(f"{self.directory}/{key}", _LARGEST_CHAIN))
        except ValueError:
            return None
        except OSError as error:
            if error.errno in _MISSING | _DAMAGED:
                return None
            raise self._unavailable("cannot be read", error) from error

    def discard(self, fingerprint: str) -> int:
        """Rename each file that holds a certificate, so that neither this version nor 0.5 finds it."""
        count = 0
        try:
            for path in (*listing.indexed(self.directory), *listing.folders(self.directory)):
                if self._holds(path, fingerprint):
                    kept = Path(path)
                    kept.rename(next(name for name in _asides(path, "revoked") if not os.path.lexists(name)))
                    files.sync_directory(kept.parent)
                    count += 1
        except OSError as error:
            raise self._unavailable("cannot move a revoked chain away", error) from error
        return count

    def _holds(self, path: str, fingerprint: str) -> bool:
        try:
            return chains.fingerprint_of(files.read(path, _LARGEST_CHAIN)) == fingerprint
        except OSError as error:
            if error.errno in _MISSING | _DAMAGED:
                return False
            raise

    def _store_in_tree(self, request: CertificateRequest, chain: Chain, issuer: IssuerIdentity) -> None:
        entry = Path(self._entry(request))
        description = {
            "directory": issuer.directory,
            "profile": issuer.profile,
            **({} if issuer.account is None else {"account": issuer.account}),
            # Tells this chain from one that somebody else, or half a write, put beside this file.
            "sha256": hashlib.sha256(chain.pem).hexdigest(),
        }
        contents = {
            "csr.pem": request.pem,
            listing.DESCRIPTION: json.dumps(description).encode(),
            listing.CHAIN: chain.pem,
        }
        try:
            os.mkdir(entry, 0o700)  # noqa: PTH102 - a hot path
        except FileNotFoundError:
            files.make_directory(entry.parent, durably=False)
            files.make_directory(entry, durably=False)
        except FileExistsError:
            if not entry.is_dir():
                raise
            files.sweep(entry, self._now() - _DAY)
        files.write_together(entry, contents, durably=False)

    def _try_writing(self) -> None:
        if not self.directory.is_dir():
            raise FileNotFoundError(
                errno.ENOENT, "no such directory; create it, mode 0700", str(self.directory)
            )
        files.make_directory(self._identities)
        self._sweep()
        files.probe(self.directory)
        files.probe(self._identities)

    def _entry(self, request: CertificateRequest) -> str:
        digest = request.body_digest
        return f"{self.directory}/{digest[:2]}/{digest[2:]}"

    def _sound(self, path: str, request: CertificateRequest) -> Chain | None:
        """Return the chain in a file; move the file aside if it holds none, or not this request's."""
        try:
            return self._chain(path, request)
        except ValueError as error:
            return self._move_aside(path, request, str(error))

    def _chain(self, path: str, request: CertificateRequest) -> Chain | None:
        """Return the chain in a file, None if there is no file; ValueError says what is wrong with it."""
        try:
            pem = files.read(path, _LARGEST_CHAIN)
        except OSError as error:
            if error.errno in _MISSING:
                return None
            if error.errno in _DAMAGED:
                raise ValueError(error.strerror or str(error)) from error
            raise self._unavailable("cannot be read", error) from error
        chain = chains.parse(pem)
        if not chains.matches(chain, request):
            raise ValueError("a certificate for another key or other names")
        return chain

    def _move_aside(self, path: str, request: CertificateRequest, reason: str) -> Chain | None:
        """Rename a damaged file, so that a person can look at it and nobody stumbles over it again."""
        damaged = Path(path)
        aside = next(name for name in _asides(path, "damaged") if not os.path.lexists(name))
        try:
            damaged.rename(aside)
            # Between our look and the rename, another thread may have stored a good one here.
            with contextlib.suppress(ValueError):
                chain = self._chain(aside, request)
                if chain is not None:
                    Path(aside).replace(damaged)
                    return chain
        except FileNotFoundError:
            return None  # another thread was faster
        except OSError as error:
            self._warn("a damaged stored chain cannot be moved aside", path, reason, error=error.strerror)
        else:
            self._warn("a damaged stored chain was moved aside", path, reason, aside=aside)
        return None

    def _belongs(self, entry: str, chain: Chain, issuer: IssuerIdentity) -> bool:
        """Tell whether the chain in a folder of the tree is of this issuer; 0.3 to 0.5 did not say."""
        path = f"{entry}/acmems.json"
        try:
            found = json.loads(files.read(path, _LARGEST_ORIGIN))
            told = IssuerIdentity(found["directory"], found["profile"], found.get("account"))
            digest = found["sha256"]
        except OSError as error:
            if error.errno in _MISSING:
                return issuer.owns_unmarked
            if error.errno not in _DAMAGED:
                raise self._unavailable("cannot be read", error) from error
            reason = error.strerror
        except (ValueError, LookupError, TypeError, RecursionError):
            reason = "it does not say whose chain lies beside it"
        else:
            return told == issuer and digest == hashlib.sha256(chain.pem).hexdigest()
        # Left where it is until the next chain is stored here: without it, a chain of another CA would
        # look like one of 0.5's.
        self._warn("a damaged description of a stored chain, which is not used", path, reason)
        return False

    def _warn(self, message: str, path: str, reason: str | None, **more: str | None) -> None:
        fields = {"storage": self.name, "path": path, "reason": reason, **more}
        logger.warning(message, extra={"fields": fields})

    def _sweep(self) -> None:
        """Once a day, remove what crashes left; the folders of the tree are swept when written to."""
        now = self._now()
        with self._lock:
            if now < self._sweep_at:
                return
            self._sweep_at = now + _DAY
        files.sweep(self.directory, now - _DAY)
        files.sweep(self._identities, now - _DAY)

    def _unavailable(self, what: str, error: OSError) -> StorageUnavailable:
        place = error.filename or self.directory  # errors of reading and writing name no file
        return StorageUnavailable(f"storage '{self.name}' {what}: {error.strerror or error} ({place})")


def _asides(path: str, word: str) -> itertools.chain[str]:
    numbered = (f"{path}.{word}-{number}" for number in itertools.count(1))
    return itertools.chain([f"{path}.{word}"], numbered)
