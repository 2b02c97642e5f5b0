"""The side of the command line: hands an act to the running server, and passes on what that says."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from acmems.exceptions import ActFailed
from acmems.frontends.control import place
from acmems.frontends.control.messages import LARGEST, ActRequest, read_answer
from acmems.frontends.control.place import PeerCredentials

SILENT_SECONDS = 15.0
"""After which a person is told that the server has said nothing; it is waited for all the same."""


def hand_over(
    directory: Path, act: str, arguments: Mapping[str, Any], progress: Callable[[str], None]
) -> Mapping[str, Any] | None:
    """Have the running server do something, and return what has come of it; None where none runs.

    Args:
        directory: the directory of the account.
        act: the name of an act.
        arguments: what it takes, as JSON values.
        progress: told how it gets on.

    Raises:
        ActFailed, ConfigurationError: it was not done, as the server tells it.
    """
    path = directory / place.SOCKET
    try:
        connection = place.connected(directory)
    except OSError as error:
        raise ActFailed(
            f"whether a server runs cannot be told: {path}: {error.strerror or error}; run this command as "
            f"the user of the server, or as root"
        ) from error
    if connection is None:
        return None
    with connection:
        try:
            with contextlib.suppress(BrokenPipeError):  # it refuses before it has read all, and says why
                connection.sendall(ActRequest(act, arguments).line())
            for line in _lines(connection, progress):
                answer = read_answer(line)
                if not isinstance(answer, str):
                    return answer
                progress(answer)
        except OSError as error:
            raise ActFailed(f"the server at {path} does not answer: {error.strerror or error}") from error
    raise ActFailed("the server ended before it told what has come of this; its log may say")


def _lines(connection: socket.socket, progress: Callable[[str], None]) -> Iterator[bytes]:
    data = b""
    coming = select.poll()
    coming.register(connection, select.POLLIN)
    if not coming.poll(SILENT_SECONDS * 1000):
        progress(
            f"the server (process {PeerCredentials.of(connection).pid}) has said nothing for "
            f"{SILENT_SECONDS:g} seconds: it is busy, or stopped; this command goes on waiting"
        )
    while received := connection.recv(64 * 1024):
        *lines, data = (data + received).split(b"\n")
        yield from lines
        if len(data) > LARGEST:
            raise ActFailed("the server's answer is too long: is it of the same version as this command?")
