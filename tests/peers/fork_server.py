"""A program that has imported acmems and makes processes of it when it is told to, by a fork for each.

To start Python and to import acmems takes most of the time of a short test. Here that is done once. What runs
then is what `python -m acmems` runs, in a process of its own, with its own folder, environment and files.

It is started with `python -P`, the number of a socket (SOCK_SEQPACKET), and an argument as long as any
command line will be. It ends when the socket is closed. Requests and answers are JSON:

- `{"arguments": [...], "folder": ..., "env": {...}}`, with descriptors for the standard input, output and
  error: start a process; `{"pid": ...}`
- `{"pid": ...}`: how it has ended; `{"code": ...}`, as `subprocess` has it, or null while it runs
"""

from __future__ import annotations

import ctypes
import gc
import io
import json
import os
import runpy
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import acmems.commands.main  # noqa: F401 - so that it is there

_MOST = 1 << 20


def main() -> None:
    """Do as told until nobody can tell anything more."""
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        request = _serve(asked)
    if request is not None:
        _run(request)


def _serve(asked: socket.socket) -> dict[str, Any] | None:
    """Answer requests; return, in a new process, the one that it is for, and None at the end."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(asked, _MOST, 3)
        if not message:
            return None
        request: dict[str, Any] = json.loads(message)
        if "pid" in request:
            pid, status = os.waitpid(request["pid"], os.WNOHANG)
            answer = {"code": os.waitstatus_to_exitcode(status) if pid else None}
        else:
            pid = os.fork()
            if not pid:
                for number, descriptor in enumerate(descriptors):
                    os.dup2(descriptor, number)
                    os.close(descriptor)
                return request
            for descriptor in descriptors:
                os.close(descriptor)
            answer = {"pid": pid}
        asked.send(json.dumps(answer).encode())


def _run(request: Mapping[str, Any]) -> None:
    """Be what `python -m acmems` would be."""
    os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path.insert(0, request["folder"])
    sys.argv[1:] = request["arguments"]
    _show_command([sys.executable, "-m", "acmems", *request["arguments"]])
    sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115 - until the end
    sys.stdout = _writing(1, "strict")
    sys.stderr = _writing(2, "backslashreplace")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    runpy.run_module("acmems", run_name="__main__", alter_sys=True)


def _show_command(words: Sequence[str]) -> None:
    """Have others see a command line in /proc that looks like that of any acmems."""
    fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    begin, end = (int(fields[number - 3]) for number in (48, 49))  # as proc(5) counts them
    line = b"".join(word.encode() + b"\0" for word in words)
    ctypes.memmove(begin, line.ljust(end - begin, b"\0")[: end - begin], end - begin)


def _writing(descriptor: int, errors: str) -> io.TextIOWrapper:
    return open(descriptor, "w", encoding="utf-8", errors=errors, buffering=1 if descriptor == 2 else -1)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    main()
