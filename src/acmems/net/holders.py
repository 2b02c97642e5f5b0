"""Which processes have sockets on an address and port of this machine, as /proc shows it (proc(5))."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from acmems.system.permissions import user_name

_PROC = Path("/proc")
_TABLES = {socket.SOCK_STREAM: ("tcp", "tcp6"), socket.SOCK_DGRAM: ("udp", "udp6")}
_LISTENING = {socket.SOCK_STREAM: "0A", socket.SOCK_DGRAM: "07"}


@dataclass(frozen=True, slots=True)
class Holder:
    """A process with a socket.

    Args:
        user: whose the socket is.
        pid: the process, None where this one may not see whose socket it is.
        command: its command line, empty where it is not known.
    """

    user: str
    pid: int | None = None
    command: tuple[str, ...] = ()

    @property
    def is_acmems(self) -> bool:
        """Whether it is a server like this one."""
        return "serve" in self.command and any(PurePath(word).name == "acmems" for word in self.command)

    def __str__(self) -> str:
        if self.pid is None:
            return f"a process of the user {self.user}"
        return f"{PurePath(self.command[0]).name if self.command else 'a process'} (process {self.pid})"


def holders(host: str, port: int, kind: socket.SocketKind) -> list[Holder]:
    """Return who listens where a socket on an address and port would be in the way; empty if nobody does.

    Args:
        host: an IP address, perhaps all of them.
        port: the port.
        kind: `SOCK_STREAM` or `SOCK_DGRAM`.
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    found = {
        inode: user
        for table in _TABLES[kind]
        for taken, inode, user in _listening(table, port, _LISTENING[kind])
        if taken.is_unspecified or address.is_unspecified or taken == address
    }
    known = list(dict.fromkeys(_processes(found)))
    return known or [Holder(user_name(user)) for user in dict.fromkeys(found.values())]


def _listening(
    table: str, port: int, state: str
) -> Iterator[tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, str, int]]:
    """Yield address, inode and user of the sockets that wait at a port."""
    try:
        lines = (_PROC / "self/net" / table).read_text(encoding="ascii").splitlines()[1:]
    except OSError:  # no IPv6, or no /proc
        return
    for line in lines:
        _, local, _, status, _, _, _, user, _, inode, *_ = line.split()
        place, _, number = local.partition(":")
        if status == state and int(number, 16) == port:
            yield _address(place), inode, int(user)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    # Each word of four bytes is printed as the number that the machine takes it for.
    words = (int(text[index : index + 8], 16).to_bytes(4, sys.byteorder) for index in range(0, len(text), 8))
    address = ipaddress.ip_address(b"".join(words))
    return getattr(address, "ipv4_mapped", None) or address


def _processes(inodes: dict[str, int]) -> Iterator[Holder]:
    """Yield the processes that have one of some sockets open, as far as this one may look."""
    wanted = {f"socket:[{inode}]": user for inode, user in inodes.items()}
    for process in _PROC.iterdir() if wanted else ():
        if process.name.isdigit():
            for link in wanted.keys() & _open_files(process):
                yield Holder(user_name(wanted[link]), int(process.name), _command(process))


def _open_files(process: Path) -> set[str]:
    """Return what the descriptors of a process lead to; nothing where this one may not look."""
    found = set()
    with contextlib.suppress(OSError):
        for entry in (process / "fd").iterdir():
            with contextlib.suppress(OSError):  # it is closed meanwhile
                found.add(str(entry.readlink()))
    return found


def _command(process: Path) -> tuple[str, ...]:
    try:
        words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:  # it has ended meanwhile
        return ()
    return tuple(filter(None, words))
