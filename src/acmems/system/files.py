"""Files that survive a crash: written whole or not at all, private, durable."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import stat
from collections.abc import Mapping
from pathlib import Path

# The names of temporary files, which a crash leaves; no other file of acmems is called so.
PREFIX = ".acmems-"
SUFFIX = ".tmp"

# Enough to notice a full disk before a certificate is ordered: a chain, its index and its CSR take less.
PROBE_SIZE = 64 * 1024


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file of mode 0600 in place of whatever is there, durably; a link is replaced, not followed.

    Raises:
        OSError: it could not be written; what was there before is intact. (Where only the directory
            could not be synced, the new file is there, but may not survive a crash.)
    """
    write_together(path.parent, {path.name: data})


def write_together(directory: Path, contents: Mapping[str, bytes], *, durably: bool = True) -> None:
    """Write several files of one directory, each as `write_atomically` does.

    Nothing is renamed before everything is on disk, so a full disk changes nothing at all. A crash
    between two renames is possible: content must tell which files belong together.

    Args:
        directory: where the files lie.
        contents: content by file name, renamed in this order.
        durably: whether to wait until it is on disk; otherwise a crash of the machine may leave files empty.

    Raises:
        OSError: as `write_atomically` does.
    """
    temporaries: list[tuple[int, str, str]] = []  # descriptor, its own name, the name that it gets
    try:
        for name, data in contents.items():
            descriptor, temporary = _new_temporary(directory)
            temporaries.append((descriptor, temporary, f"{directory}/{name}"))
            write_all(descriptor, data)
        if durably:
            # After all were written: the first sync takes most of what the others would wait for along.
            for descriptor, _, _ in temporaries:
                os.fsync(descriptor)
        while temporaries:
            descriptor, temporary, path = temporaries[0]
            os.replace(temporary, path)  # noqa: PTH105 - a hot path
            del temporaries[0]
            os.close(descriptor)
    finally:
        for descriptor, temporary, _ in temporaries:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108 - the same
    if durably:
        sync_directory(directory)


def signature(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file does, None where there is none that can be looked at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def create(path: Path, data: bytes) -> None:
    """Write a new file of mode 0600, durably, and never over an existing one.

    Raises:
        FileExistsError: something has this name already; it is untouched.
        OSError: it could not be written.
    """
    descriptor, temporary = _new_temporary(path.parent)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
        path.hardlink_to(temporary)
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
    sync_directory(path.parent)


def probe(directory: Path) -> None:
    """Write a test file, claim room on the disk for it, and remove it.

    The claim fails at once on a full disk. The file is not synced, because every order would wait for that.

    Raises:
        OSError: the directory cannot be written to.
    """
    descriptor, name = _new_temporary(directory)
    try:
        write_all(descriptor, b"test")
        try:
            os.posix_fallocate(descriptor, 0, PROBE_SIZE)
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
                raise
            write_all(descriptor, bytes(PROBE_SIZE))  # this file system knows no claims
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            Path(name).unlink()


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of some data; write(2) alone may take only a part, as it does when the disk becomes full.

    Raises:
        OSError: not all of it could be written.
    """
    left = memoryview(data)
    while left:
        written = os.write(descriptor, left)
        if not written:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        left = left[written:]


def make_directory(path: Path, *, durably: bool = True) -> None:
    """Make one directory of mode 0700 unless it exists.

    Args:
        path: the directory; its parent must exist.
        durably: whether to wait until it is on disk.

    Raises:
        OSError: it could not be made, for want of a parent for instance, or something else has this name.
    """
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        if durably:
            sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a crash.

    Raises:
        OSError: the disk reports an error.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(directory: Path, before: float) -> None:
    """Remove the temporary files that a crash left behind.

    Args:
        directory: where to look; folders within are left alone.
        before: seconds since 1970; files written later than that may belong to someone who is writing.
    """
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX) and entry.name.endswith(SUFFIX):
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        Path(entry.path).unlink()


def read(path: str | Path, limit: int) -> bytes:
    """Return the content of a file, in as few system calls as that takes.

    Links are followed; pipes and devices are never waited for.

    Raises:
        OSError: it cannot be read; with `EFBIG` where it is larger than the limit.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return read_descriptor(descriptor, path, limit)
    finally:
        os.close(descriptor)


def read_private(path: str | Path, limit: int = 64 * 1024) -> bytes:
    """Return the content of a file that only its owner may read.

    Raises:
        PermissionError: it is a link, no regular file, or open to group or others; `strerror` says
            which and what to do.
        OSError: it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _not_private("is a link; a private file must be the file itself", path) from error
        raise
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise _not_private("is not a regular file", path)
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            reason = f"is open to others than its owner (mode {stat.S_IMODE(mode):04o}); chmod 600 it"
            raise _not_private(reason, path)
        return read_descriptor(descriptor, path, limit)
    finally:
        os.close(descriptor)


def _not_private(reason: str, path: str | Path) -> PermissionError:
    return PermissionError(errno.EPERM, reason, str(path))


def read_descriptor(descriptor: int, path: str | Path, limit: int) -> bytes:
    """Return what an open file holds from here on; its path is only for errors.

    Raises:
        OSError: it cannot be read; with `EFBIG` where it is larger than the limit.
    """
    data = os.read(descriptor, limit + 1)
    # A file system may give less than there is; only an empty answer is the end.
    while len(data) <= limit and (more := os.read(descriptor, limit + 1)):
        data += more
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"is larger than {limit} bytes", str(path))
    return data


def _new_temporary(directory: Path) -> tuple[int, str]:
    while True:
        name = f"{directory}/{PREFIX}{random.getrandbits(64):016x}{SUFFIX}"
        with contextlib.suppress(FileExistsError):
            return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), name
