"""Where a running server takes acts: a Unix socket beside the account, and the lock of whoever acts."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from acmems.system.clock import Clock

logger = logging.getLogger(__name__)

SOCKET = "acmems.socket"
"""The name of the socket in the directory of the account."""
LOCK = f"{SOCKET}.lock"
"""The file whose lock is held by the server that listens, or by the command that acts without one."""

_LOOK_SECONDS = 0.1
_LONGEST_ADDRESS = 107  # octets of a path, without the NUL at its end (unix(7))
_CREDENTIALS = struct.Struct("3i")  # process, user and group (unix(7), SO_PEERCRED)


@dataclass(frozen=True, slots=True)
class PeerCredentials:
    """Who is at the other end of a Unix socket, as the kernel tells it.

    Args:
        pid: the process.
        uid: its user.
        gid: its group.
    """

    pid: int
    uid: int
    gid: int

    @classmethod
    def of(cls, connection: socket.socket) -> PeerCredentials:
        """Return those of a connection."""
        data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return cls(*_CREDENTIALS.unpack(data))


@contextlib.contextmanager
def address_of(path: Path) -> Iterator[str]:
    """Yield an address that leads to a socket file, however long its path is.

    Args:
        path: the file; its directory must exist.

    Raises:
        OSError: the directory cannot be opened.
    """
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def connected(directory: Path) -> socket.socket | None:
    """Return a connection to the server that takes acts for an account directory, None where none runs.

    Raises:
        OSError: whether one runs cannot be told.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with address_of(directory / SOCKET) as address:
            connection.connect(address)
    except (ConnectionRefusedError, FileNotFoundError):
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise
    return connection


def locked(directory: Path) -> int | None:
    """Return a descriptor that holds the lock of whoever acts, until it is closed; None if another has it.

    Raises:
        OSError: it cannot be locked.
    """
    path = directory / LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def listening(directory: Path) -> socket.socket:
    """Return a socket that listens for acts, in the place of what an earlier server has left.

    Only whoever holds the lock may call it: then no living server has that file.

    Raises:
        OSError: it cannot be made.
    """
    path = directory / SOCKET
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        os.fchmod(sock.fileno(), 0o600)  # what bind gives to the file, so that it never has another mode
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        with address_of(path) as address:
            sock.bind(address)
        sock.listen(8)
    except BaseException:
        sock.close()
        raise
    return sock


def await_command(directory: Path, clock: Clock, seconds: float) -> None:
    """Wait while a command acts that has found no server, and so has all that a server needs.

    Args:
        directory: the directory of the account.
        clock: for the time.
        seconds: how long to wait at most.
    """
    deadline, is_told = clock.deadline(seconds), False
    while not deadline.passed and _is_command_acting(directory):
        if not is_told:
            logger.info("a command acts with the account in %s: waiting for it", directory)
            is_told = True
        clock.sleep(_LOOK_SECONDS)


def _is_command_acting(directory: Path) -> bool:
    """Tell whether the lock is held, and nobody listens."""
    try:
        lock = locked(directory)
        if lock is not None:
            os.close(lock)
            return False
        connection = connected(directory)
    except OSError:
        return False  # what is wrong shows when the server needs it
    if connection is not None:
        connection.close()
    return connection is None
