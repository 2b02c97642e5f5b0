"""Who may use a file: why this process may not, and who else may."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file or directory that a section of the configuration names.

    Args:
        key: the key that names it.
        path: where it is.
        is_secret: whether nobody else should read it; what acmems relies on nobody else should change anyway.
    """

    key: str
    path: Path
    is_secret: bool = False


@runtime_checkable
class NamesFiles(Protocol):
    """What is configured by a section that names files which others must leave alone."""

    def named_files(self) -> Iterable[NamedFile]:
        """Return these files, whether they are there or not."""


def reason(error: OSError, path: str | os.PathLike[str] | None = None) -> str:
    """Return why a file cannot be used, and for a permission that is missing also whose, and where.

    Args:
        error: what the system said.
        path: the file, where the error does not name it.
    """
    words = error.strerror or str(error)
    at = path if path is not None else error.filename
    if error.errno != errno.EACCES or at is None:
        return words
    return denial(at)


def denial(path: str | os.PathLike[str]) -> str:
    """Return who may not use a file, and where on the way to it that is decided."""
    return f"{os.strerror(errno.EACCES)}: {_obstacle(Path(os.fspath(path)))}"


def is_read_only(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file or directory lies where nobody may write, whatever its mode."""
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def unwritable(path: str | os.PathLike[str]) -> str:
    """Return why this process may not write to a file or directory, and what to do."""
    if not is_read_only(path):
        return denial(path)
    return (
        f"{os.strerror(errno.EROFS)}: mount it for writing, or name the directory in ReadWritePaths of the "
        f"systemd unit"
    )


def closed_directories(path: Path) -> list[Path]:
    """Return the directories within one that this process may not write to, as when another user made them.

    Raises:
        OSError: the directory cannot be read.
    """
    with os.scandir(path) as entries:
        inside = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    return sorted(each for each in inside if not os.access(each, os.R_OK | os.W_OK | os.X_OK))


def exposures(named: NamedFile) -> Iterator[str]:
    """Yield what other users of this machine may do with a file, though only some should, and what to do.

    What cannot be looked at, or is not there, is no business of this function.
    """
    path = named.path
    try:
        mode = path.stat().st_mode
        real = path.resolve(strict=True)
    except OSError:
        return
    shown = f"{stat.S_IMODE(mode):04o}"
    if named.is_secret and mode & (stat.S_IROTH | stat.S_IXOTH if stat.S_ISDIR(mode) else stat.S_IROTH):
        does = "look into" if stat.S_ISDIR(mode) else "read the secrets in"
        yield f"every user of this machine can {does} {path} (mode {shown}): chmod o-rwx {path}"
    if mode & stat.S_IWOTH and not (stat.S_ISDIR(mode) and mode & stat.S_ISVTX):
        yield f"every user of this machine can change {path} (mode {shown}): chmod o-w {path}"
    elif mode & stat.S_IWGRP and _is_foreign_group(path):
        yield f"others can change {path} (mode {shown}, group {_group(path)}): chmod g-w {path}"
    for parent in real.parents:
        above = parent.stat().st_mode
        if above & stat.S_IWOTH and not above & stat.S_ISVTX:
            yield (
                f"every user of this machine can replace {path}, because {parent} is open to all (mode "
                f"{stat.S_IMODE(above):04o}): chmod o-w {parent}"
            )


def user_name(number: int) -> str:
    """Return the name of a user, the number where there is no name."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def other_owner(path: Path) -> str | None:
    """Return whose a directory is where this process is root, and it is not root's."""
    try:
        owner = path.stat().st_uid
    except OSError:
        return None
    return user_name(owner) if os.geteuid() == 0 and owner != 0 else None


def _obstacle(path: Path) -> str:
    """Return which user may not do what on the way to a file, and what to do."""
    user = user_name(os.geteuid())
    for parent in reversed(path.absolute().parents):
        if not os.access(parent, os.X_OK):
            return f"the user {user} may not look into {parent} ({_owned(parent)})"
    return f"the user {user} may not use {path} ({_owned(path)}): {_remedy(path, user)}"


def _remedy(path: Path, user: str) -> str:
    """Return the command that gives a user the use of what is at the end of a way."""
    with contextlib.suppress(OSError):
        state = path.stat()
        needed = stat.S_IRWXU if stat.S_ISDIR(state.st_mode) else stat.S_IRUSR | stat.S_IWUSR
        if state.st_uid == os.geteuid() and state.st_mode & needed != needed:
            return f"chmod u+{'rwx' if stat.S_ISDIR(state.st_mode) else 'rw'} {path}"
    return f"chown {user} {path}"


def _owned(path: Path) -> str:
    try:
        state = path.stat()
    except OSError:
        return "which does not exist"
    return f"mode {stat.S_IMODE(state.st_mode):04o}, owner {user_name(state.st_uid)}"


def _is_foreign_group(path: Path) -> bool:
    """Tell whether a group is none of this process; root, who is in all, cannot tell."""
    number = path.stat().st_gid
    return os.geteuid() != 0 and number not in {0, os.getegid(), *os.getgroups()}


def _group(path: Path) -> str:
    try:
        return path.group()
    except KeyError:
        return str(path.stat().st_gid)
