"""What hooks leave behind in a container, where the server is the first process."""

from __future__ import annotations

import contextlib
import shlex
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.peers import Acmems, Bind, Pebble, Settings, curl_sign, make_key_and_csr, names_of, wait_until

# Makes orphans children of this process, as they are of the first process of a container.
SUBREAPER = """
import ctypes, os, sys
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""
# Leaves two processes behind: one in its own group, which is killed, and a daemon that ends later.
HOOK = """#!/bin/sh
sleep 60 &
setsid sleep 0.2 >/dev/null 2>&1 &
exec {python} {update} "$@"
"""
UPDATE = """
import sys
import dns.query, dns.rcode, dns.update

port, action, name, value = sys.argv[1:]
message = dns.update.UpdateMessage("example.org")
if action == "present":
    message.add(name + ".", 60, "TXT", value)
else:
    message.delete(name + ".", "TXT", value)
answer = dns.query.tcp(message, "127.0.0.1", timeout=10, port=int(port))
sys.exit(dns.rcode.to_text(answer.rcode()) if answer.rcode() else 0)
"""
VERIFICATION = """
[verification "hook"]
type = dns01-exec
command = {hook} {port}
"""


class FirstProcess(Acmems):
    """A server that orphans are given to."""

    def command(self) -> Sequence[str]:
        return [sys.executable, "-c", SUBREAPER, *super().command()]


def children(process: int) -> list[str]:
    """Return the children of a process, those that have ended and are not reaped among them."""
    found: list[str] = []
    for task in Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that ends at this moment
            found += (task / "children").read_text().split()
    return found


@pytest.fixture
def hook(tmp_path: Path) -> Path:
    """A program that changes the zone of BIND, and leaves processes behind."""
    update, path = tmp_path / "update.py", tmp_path / "hook"
    update.write_text(UPDATE, encoding="utf-8")
    path.write_text(
        HOOK.format(python=shlex.quote(sys.executable), update=shlex.quote(str(update))), encoding="utf-8"
    )
    path.chmod(stat.S_IRWXU)
    return path


def test_what_hooks_leave_behind_is_reaped(hook: Path, tmp_path: Path) -> None:
    """Ended orphans do not stay, and how the hooks themselves have ended is known to whoever ran them."""
    names = [f"host{number}.example.org" for number in range(4)]
    with Bind("example.org") as bind, Pebble(bind.address) as ca:
        settings = Settings.of(ca, tmp_path)
        settings.verification = VERIFICATION.format(hook=hook, port=bind.port)
        with FirstProcess(settings) as acmems:
            _, csr = make_key_and_csr(tmp_path, names)
            reply = curl_sign(acmems.sign_url, csr)
            assert reply.status == 200, reply.text
            assert names_of(reply.body) == set(names)
            wait_until(lambda: children(acmems.process.pid) == [], "all children are reaped")
            log = acmems.log
    assert log.count("hook: hook present") == log.count("hook: hook withdraw") == len(names)
    assert "ERROR" not in log
