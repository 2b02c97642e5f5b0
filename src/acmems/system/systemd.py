"""What systemd hears from a service (sd_notify(3)), and the sockets that it hands over (sd_listen_fds(3))."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass

from acmems.system.clock import SYSTEM, Clock
from acmems.system.threads import PeriodicThread

logger = logging.getLogger(__name__)

_FIRST_DESCRIPTOR = 3
_MOST_DESCRIPTORS = 1024
_LONGEST_SEND = 5.0  # seconds; without a limit the start would hang while systemd does not read


class Notifier:
    """Tells systemd how the service is; does nothing where the environment names no `NOTIFY_SOCKET`."""

    def __init__(self, environment: Mapping[str, str] = os.environ, clock: Clock = SYSTEM) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the NUL byte of an abstract socket. Other forms, such as vsock, are for
        # virtual machines and not for services.
        self._address = "\0" + name[1:] if name.startswith("@") else name if name.startswith("/") else ""
        self._interval = _watchdog_interval(environment)
        self._clock = clock
        self._stopping = False
        self._watchdog: PeriodicThread | None = None

    @property
    def interval(self) -> float | None:
        """Seconds between two signs of life, None if systemd wants none."""
        return self._interval

    def notify(self, state: str) -> None:
        """Send lines of `NAME=value`; that nobody listens is logged and no error."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(_LONGEST_SEND)
                sock.connect(self._address)
                sock.sendall(state.encode())
        except OSError as error:
            logger.warning("systemd does not hear", extra={"fields": {"reason": str(error)}})

    def ready(self, status: str) -> None:
        """Say that the service serves; `systemctl status` shows the status as one line."""
        self.notify(f"READY=1\nSTATUS={' '.join(status.split())}")

    def reloading(self) -> None:
        """Say that the service reads its configuration anew; `ready` says that it has done so."""
        # Since systemd 253 a reload counts as begun only with the time, by the clock that systemd goes by.
        self.notify(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Say that the service ends; from now on signs of life do not depend on its health."""
        self._stopping = True
        self.notify("STOPPING=1")

    def close(self) -> None:
        """Give no more signs of life."""
        if self._watchdog is not None:
            self._watchdog.close()

    def watch(self, healthy: Callable[[], bool]) -> None:
        """Give signs of life from a thread of its own, each after asking whether the service is healthy."""
        if self._interval is None:
            return
        self._watchdog = PeriodicThread(
            "acmems-watchdog",
            lambda: self.give_sign(healthy),
            self._interval,
            longest_pause=self._interval,
            delay=self._interval,
            clock=self._clock,
        )
        self._watchdog.start()

    def give_sign(self, healthy: Callable[[], bool]) -> None:
        """Give a sign of life, if the service is healthy or stops."""
        if self._stopping or _is_well(healthy):
            self.notify("WATCHDOG=1")
        else:
            logger.error("no sign of life to systemd: the service is not healthy")


def _is_well(healthy: Callable[[], bool]) -> bool:
    try:
        return healthy()
    except Exception:
        logger.exception("the service cannot tell whether it is healthy")
        return False


def _watchdog_interval(environment: Mapping[str, str]) -> float | None:
    """Return half the time after which systemd gives a service up, in seconds."""
    text = environment.get("WATCHDOG_USEC", "")
    process = environment.get("WATCHDOG_PID", str(os.getpid()))
    if not (text.isascii() and text.isdigit()) or int(text) == 0 or process != str(os.getpid()):
        return None
    return int(text) / 2_000_000


@dataclass(frozen=True, slots=True)
class InheritedSocket:
    """A socket that systemd has opened for this process.

    Args:
        name: `FileDescriptorName` of its unit, which is the unit's own name if nothing else is set.
        socket: the socket.
    """

    name: str
    socket: socket.socket


def inherited_sockets(environment: MutableMapping[str, str] = os.environ) -> list[InheritedSocket]:
    """Take over the sockets that systemd has opened for this process; none if it has opened none.

    The variables are removed, so that no program that this process starts takes them for its own.
    """
    process, count, names = (
        environment.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
    )
    if process != str(os.getpid()) or not (count.isascii() and count.isdigit()):
        return []
    named = names.split(":")
    found = []
    for number in range(min(int(count), _MOST_DESCRIPTORS)):
        name = named[number] if number < len(named) else "unknown"
        try:
            sock = socket.socket(fileno=_FIRST_DESCRIPTOR + number)
        except OSError as error:
            fields = {"name": name, "reason": error.strerror or str(error)}
            logger.warning("systemd handed over what is no socket", extra={"fields": fields})
            continue
        sock.set_inheritable(False)
        found.append(InheritedSocket(name, sock))
    return found
