"""Runs a program under the system call filters of a systemd unit, without systemd.

usage: python sandbox.py RULES PROGRAM [ARGUMENT...]

RULES is JSON, as `rules_of` makes it. Files and namespaces of the unit are not set up.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ALLOW = 0x7FFF0000
GREATER, EQUAL, MASKED = 6, 4, 7  # enum scmp_compare
PROT_WRITE_EXEC, PROT_EXEC, SHM_EXEC = 0x6, 0x4, 0o100000
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}


class Argument(ctypes.Structure):
    """`struct scmp_arg_cmp` of libseccomp."""

    _fields_ = (
        ("number", ctypes.c_uint),
        ("comparison", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def rules_of(service: Mapping[str, list[str]], systemd_analyze: str, env: Mapping[str, str]) -> str:
    """Return the rules of a unit.

    Args:
        service: its directives in `[Service]`, each with its values.
        systemd_analyze: the program that knows systemd's sets of system calls.
        env: its environment.
    """
    listing = subprocess.run(
        [systemd_analyze, "--no-pager", "syscall-filter"],
        capture_output=True,
        text=True,
        check=True,
        env=dict(env),
    )
    sets: dict[str, list[str]] = {}
    name = ""
    for line in listing.stdout.splitlines():
        if line.startswith("@"):
            name = line
        elif re.match(r"    [a-z0-9_@]", line):
            sets.setdefault(name, []).append(line.strip())

    def expanded(words: Iterable[str]) -> set[str]:
        return {call for word in words for call in (expanded(sets[word]) if word[0] == "@" else {word})}

    allowed: set[str] = expanded(["@default"])
    for value in service["SystemCallFilter"]:
        calls = expanded(value.removeprefix("~").split())
        allowed = allowed - calls if value.startswith("~") else allowed | calls
    families = [FAMILIES[word] for value in service["RestrictAddressFamilies"] for word in value.split()]
    strict = service["MemoryDenyWriteExecute"][-1] == "yes"
    return json.dumps({"allowed": sorted(allowed), "families": sorted(families), "strict memory": strict})


def confine(rules: Mapping[str, Any]) -> None:
    """Apply rules to this process and to all that it starts."""
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_load.argtypes = [ctypes.c_void_p]
    library.seccomp_rule_add_array.argtypes = [
        *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Argument))
    ]

    def add(context: int, action: int, call: str, *arguments: Argument) -> None:
        number = library.seccomp_syscall_resolve_name(call.encode())
        if number >= 0:  # others are of other architectures, or newer than the library
            array = (Argument * len(arguments))(*arguments)
            failed = library.seccomp_rule_add_array(context, action, number, len(arguments), array)
            if failed:
                raise OSError(-failed, f"{call}: {os.strerror(-failed)}")

    denied = library.seccomp_init(ALLOW)
    families = rules["families"]
    unsupported = 0x00050000 | errno.EAFNOSUPPORT
    for family in set(range(families[-1])) - set(families):
        add(denied, unsupported, "socket", Argument(0, EQUAL, family, 0))
    add(denied, unsupported, "socket", Argument(0, GREATER, families[-1], 0))
    refused = 0x00050000 | errno.EPERM
    if rules["strict memory"]:
        add(denied, refused, "mmap", Argument(2, MASKED, PROT_WRITE_EXEC, PROT_WRITE_EXEC))
        for call in ("mprotect", "pkey_mprotect"):
            add(denied, refused, call, Argument(2, MASKED, PROT_EXEC, PROT_EXEC))
        add(denied, refused, "shmat", Argument(2, MASKED, SHM_EXEC, SHM_EXEC))
    allowed = library.seccomp_init(refused)
    for call in rules["allowed"]:
        add(allowed, ALLOW, call)
    for context in (denied, allowed):
        failed = library.seccomp_load(context)
        if failed:
            raise OSError(-failed, f"the filter is not taken: {os.strerror(-failed)}")


if __name__ == "__main__":
    confine(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - what the caller wants to be run
