"""The side of the running server: takes acts from the command line, a few at once."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from acmems.exceptions import AcmeException, ActFailed
from acmems.frontends.control import place
from acmems.frontends.control.messages import LARGEST, ActRequest, error_line, outcome_line, progress_line
from acmems.frontends.control.place import PeerCredentials
from acmems.system.clock import SYSTEM, Clock, Deadline
from acmems.system.permissions import user_name
from acmems.text import one_line

logger = logging.getLogger(__name__)

MOST_ACTS = 4
"""How many acts go on at once; who asks for more is told to ask again."""
REQUEST_SECONDS = 10.0
"""Within which a command has sent what it asks for."""
_CLAIM_SECONDS = 5.0  # between two tries to become the one that listens
_PAUSE_SECONDS = 1.0  # after a try to accept that has failed; a refusal is sent within the same time
_ROOT = 0


class Perform(Protocol):
    """Does what the command line asks for."""

    def __call__(
        self, act: str, arguments: Mapping[str, Any], who: str, progress: Callable[[str], None], /
    ) -> Mapping[str, Any]:
        """Do it, and return what has come of it.

        Raises:
            AcmeException: why it was not done.
        """


class ControlListener:
    """Takes acts on a socket in the directory of the account.

    Of several servers with one account directory the first one listens, and another one once that has ended.

    Args:
        directory: the directory of the account.
        perform: does what is asked for.
        clock: for the time that a command has.
    """

    name = "acmems-control"

    def __init__(self, directory: Path, perform: Perform, clock: Clock = SYSTEM) -> None:
        self._directory = directory
        self._perform = perform
        self._clock = clock
        self._closing = threading.Event()
        self._places = threading.BoundedSemaphore(MOST_ACTS)
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._lock: int | None = None
        self._socket: socket.socket | None = None
        self._told: str | None = None  # why it does not listen, as the log says it

    def start(self) -> None:
        """Begin to take acts; where that is not possible, the log says so and the server goes on."""
        self._claim()
        self._thread.start()

    def close(self) -> None:
        """Take no further acts; those that go on are not waited for."""
        self._closing.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # This wakes the thread, but only because it waits in accept(2) itself. With a timeout, Python
                # waits in poll(2) first, and would repeat both again and again until the timeout.
                self._socket.shutdown(socket.SHUT_RDWR)
        if self._thread.ident is not None:
            self._thread.join()

    def drain(self, deadline: Deadline) -> None:
        """Wait until no act goes on any more.

        Args:
            deadline: when to give up.
        """
        for _ in range(MOST_ACTS):
            self._places.acquire(timeout=max(0.001, deadline.remaining))

    def is_healthy(self) -> bool:
        """Tell whether its thread lives."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._closing.is_set():
            if self._socket is None:
                self._clock.wait(self._closing, _CLAIM_SECONDS)
                self._claim()
            else:
                self._accept(self._socket)
        self._release()

    def _claim(self) -> None:
        """Become the one that listens, unless another process is, or acts at the moment."""
        if self._closing.is_set():
            return
        try:
            if self._lock is None:
                self._lock = place.locked(self._directory)
            if self._lock is None:
                self._tell(logging.INFO, f"another acmems takes acts for {self._directory}")
                return
            self._socket = place.listening(self._directory)
            self._told = None
        except OSError as error:
            self._tell(
                logging.WARNING,
                f"commands that act cannot reach this server: {error.strerror or error} "
                f"({error.filename or self._directory / place.SOCKET})",
            )

    def _tell(self, level: int, words: str) -> None:
        if words != self._told:
            self._told = words
            logger.log(level, "%s", words)

    def _release(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                (self._directory / place.SOCKET).unlink()
            self._socket.close()
        if self._lock is not None:
            os.close(self._lock)

    def _accept(self, listening: socket.socket) -> None:
        try:
            connection, _ = listening.accept()
        except OSError as error:  # it is closing, or no descriptors are left
            if self._closing.is_set():
                return
            self._tell(logging.WARNING, f"a command that acts cannot be answered: {error.strerror or error}")
            self._clock.wait(self._closing, _PAUSE_SECONDS)
            return
        if not self._places.acquire(blocking=False):
            with contextlib.suppress(OSError), connection:
                connection.settimeout(_PAUSE_SECONDS)
                connection.sendall(error_line(ActFailed("the server is busy with other commands: try again")))
            return
        try:
            threading.Thread(target=self._serve, args=[connection], name="acmems-act", daemon=True).start()
        except RuntimeError:  # no thread can be made
            self._places.release()
            connection.close()

    def _serve(self, connection: socket.socket) -> None:
        """Answer one command."""
        try:
            with connection:
                answer = self._answer(connection)
                with contextlib.suppress(OSError):  # who asked may have gone
                    connection.settimeout(REQUEST_SECONDS)
                    connection.sendall(answer)
        finally:
            self._places.release()

    def _answer(self, connection: socket.socket) -> bytes:
        try:
            peer = PeerCredentials.of(connection)
            _check_user(peer.uid)
            request = ActRequest.parse(self._line(connection))
            _require_peer(connection, request.act)
            return outcome_line(
                self._perform(
                    request.act,
                    request.arguments,
                    who_is(peer.uid),
                    lambda words: _send_progress(connection, words),
                )
            )
        except AcmeException as error:
            return error_line(error)
        except Exception as error:
            logger.exception("a bug in an act from the command line")
            words = f"a bug of the server, please report it: {type(error).__name__}; its log says more"
            return error_line(ActFailed(words))

    def _line(self, connection: socket.socket) -> bytes:
        """Return the line that a command sends.

        Raises:
            ActFailed: it is too long, too late, or not whole.
        """
        deadline, line = self._clock.deadline(REQUEST_SECONDS), bytearray()
        try:
            while b"\n" not in line:
                connection.settimeout(max(0.001, deadline.remaining))
                data = connection.recv(64 * 1024)
                if not data or deadline.passed or len(line) + len(data) > LARGEST:
                    raise ActFailed(
                        f"a request is one line of at most {LARGEST} bytes, sent within "
                        f"{REQUEST_SECONDS:.0f} seconds"
                    )
                line += data
        except OSError as error:
            raise ActFailed(f"the request did not come: {error.strerror or error}") from error
        return bytes(line)


def _require_peer(connection: socket.socket, act: str) -> None:
    """Refuse an act whose command was given up before, while this server was suspended for instance."""
    looking = select.poll()
    looking.register(connection, 0)  # tells of a closed end; one that only sends no more waits for the answer
    if looking.poll(0):
        logger.warning("an act is not begun, because its command has ended: %s", one_line(act, 40))
        raise ActFailed("the command has ended before this was begun")


def _check_user(uid: int) -> None:
    """Refuse acts of others than the user of the server and root; the mode of the socket does so, too."""
    if uid not in {os.geteuid(), _ROOT}:
        raise ActFailed(f"only root and the user of the server, {user_name(os.geteuid())}, may ask it to act")


def who_is(uid: int) -> str:
    """Return what events call a user of this machine: the number and the name."""
    return f"{uid} {user_name(uid)}"


def _send_progress(connection: socket.socket, words: str) -> None:
    """Tell a command how its act gets on; where it has gone, the act goes on all the same."""
    with contextlib.suppress(OSError):
        connection.settimeout(REQUEST_SECONDS)
        connection.sendall(progress_line(words))
