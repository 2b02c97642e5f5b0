"""What systemd wants to hear from a service: ready, stopping, still alive (sd_notify(3))."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Mapping

from acmems.clock import SYSTEM, Clock


class Notifier:
    """Tells systemd how the service is; does nothing where systemd does not listen.

    Args:
        environment: where `NOTIFY_SOCKET` and the watchdog's interval are named.
        clock: for the watchdog.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ, clock: Clock = SYSTEM) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the NUL byte of an abstract socket.
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._interval = _watchdog_interval(environment)
        self._clock = clock
        self._ended = threading.Event()

    @property
    def interval(self) -> float | None:
        """Seconds between two signs of life, None if systemd wants none."""
        return self._interval

    def notify(self, state: str) -> None:
        """Send one message; that nobody listens is no error.

        Args:
            state: lines of `NAME=value`.
        """
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect(self._address)
            sock.sendall(state.encode())

    def ready(self, status: str) -> None:
        """Say that the service serves.

        Args:
            status: what `systemctl status` shows.
        """
        self.notify(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        """Say that the service ends."""
        self._ended.set()
        self.notify("STOPPING=1")

    def watch(self, healthy: Callable[[], bool]) -> None:
        """Give signs of life from now on, as long as the service is healthy.

        Args:
            healthy: asked before each sign, from a thread of its own.
        """
        if self._interval is not None:
            threading.Thread(target=self._watch, args=(healthy,), name="acmems-watchdog", daemon=True).start()

    def _watch(self, healthy: Callable[[], bool]) -> None:
        while not self._clock.wait(self._ended, self._interval or 1.0):
            if healthy():
                self.notify("WATCHDOG=1")


def _watchdog_interval(environment: Mapping[str, str]) -> float | None:
    """Return half the time after which systemd gives a service up, in seconds."""
    text = environment.get("WATCHDOG_USEC", "")
    process = environment.get("WATCHDOG_PID", str(os.getpid()))
    if not text.isdigit() or int(text) == 0 or process != str(os.getpid()):
        return None
    return int(text) / 2_000_000
