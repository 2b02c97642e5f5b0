"""Programs that are run with a time limit, and end with all that they started."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import stat
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from acmems.system.children import CHILDREN
from acmems.system.clock import Deadline
from acmems.system.permissions import denial, reason

MOST_OUTPUT = 16 * 1024
"""Octets of a program's output that are kept; the rest is read and forgotten."""
AT_ONCE = 8
"""How many programs run at the same time: each may need tens of megabytes."""
_KEPT = ("PATH", "LANG", "HOME")
_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """How a program ended.

    Args:
        code: its exit code, negative for a signal; None where the time was over first.
        output: the beginning of its standard output.
        errors: the beginning of its standard error; empty where that went to the output.
    """

    code: int | None
    output: bytes = field(repr=False)
    errors: bytes = field(repr=False)


def program_slots() -> threading.BoundedSemaphore:
    """Return what limits the programs of all orders together to `AT_ONCE`."""
    return threading.BoundedSemaphore(AT_ONCE)


def environment(*more: str, **values: str) -> dict[str, str]:
    """Return a minimal environment: what every program needs, `more` of this process, and these values."""
    kept = {key: os.environ[key] for key in (*_KEPT, *more) if key in os.environ}
    return {"PATH": os.defpath, **kept, **values}


def unusable(program: str) -> str | None:
    """Return why a program cannot be run, and what to do; None if it can, as far as is seen from here."""
    try:
        is_file = stat.S_ISREG(os.stat(program).st_mode)  # noqa: PTH116 - a path as the command line has it
    except PermissionError as error:
        return f"{program} cannot be executed: {reason(error)}"
    except OSError:
        is_file = False
    if not is_file:
        return f"{program}: there is no such program"
    if not os.access(program, os.X_OK):
        return f"{program} cannot be executed: chmod +x ({denial(program)})"
    return None


def run(
    command: Sequence[str],
    environ: Mapping[str, str],
    deadline: Deadline,
    *,
    feed: bytes | None = None,
    apart: bool = False,
) -> ProgramResult:
    """Run a program to its end or to the deadline, in a session of its own.

    Whichever way it ends, what it has started and left in its process group is killed.

    Args:
        command: path and arguments; no shell sees them.
        environ: its whole environment.
        deadline: when it is killed.
        feed: its standard input, /dev/null if None. It is in memory only.
        apart: whether standard error is kept apart from the output.

    Raises:
        OSError: it cannot be started.
    """
    with contextlib.ExitStack() as stack:
        stdin: IO[bytes] | int = subprocess.DEVNULL
        if feed is not None:
            stdin = stack.enter_context(os.fdopen(os.memfd_create("acmems-feed"), "w+b"))
            stdin.write(feed)
            stdin.seek(0)
        process = stack.enter_context(
            CHILDREN.started(
                lambda: subprocess.Popen(  # noqa: S603 - an absolute path that the operator has configured
                    command,
                    env=dict(environ),
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE if apart else subprocess.STDOUT,
                    start_new_session=True,
                )
            )
        )
        stack.callback(_kill, process)  # before Popen's own exit waits for it
        kept = {pipe: bytearray() for pipe in (process.stdout, process.stderr) if pipe is not None}
        in_time = _follow(process, kept, deadline)
        _kill(process)
        code = process.wait()
        texts = [bytes(text) for text in kept.values()]
        return ProgramResult(code if in_time else None, texts[0], texts[1] if apart else b"")


def _follow(
    process: subprocess.Popen[bytes], kept: Mapping[IO[bytes], bytearray], deadline: Deadline
) -> bool:
    """Read what a program says until it ends; tell whether it did so in time."""
    # Its end is seen by a pidfd and not by its pipes: a grandchild may hold those open for ever. The
    # process stays a zombie meanwhile, so that its group's number is nobody else's when that is killed.
    alive = os.pidfd_open(process.pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(alive, selectors.EVENT_READ)
            for pipe in kept:
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ)
            ended = False
            while not ended:
                if deadline.passed:
                    return False
                for key, _ in selector.select(min(deadline.remaining, 3600)):
                    if key.fileobj == alive:
                        ended = True
                    elif not _read(key.fd, _buffer(kept, key.fd)):
                        selector.unregister(key.fileobj)
            for pipe, buffer in kept.items():
                while len(buffer) < MOST_OUTPUT and _read(pipe.fileno(), buffer):
                    pass
            return True
    finally:
        os.close(alive)


def _buffer(kept: Mapping[IO[bytes], bytearray], fd: int) -> bytearray:
    return next(buffer for pipe, buffer in kept.items() if pipe.fileno() == fd)


def _read(fd: int, buffer: bytearray) -> bool:
    """Read once; tell whether there may be more at once."""
    try:
        data = os.read(fd, _CHUNK)
    except BlockingIOError:
        return False
    buffer += data[: MOST_OUTPUT - len(buffer)]
    return bool(data)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
