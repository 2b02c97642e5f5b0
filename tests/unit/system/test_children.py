"""Orphans are reaped, and what others wait for is left to them; in processes of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

SUBREAPER = """
import ctypes
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
"""
# A child whose own child outlives it for a moment, and is then an orphan that has ended.
ORPHAN = ["sh", "-c", "exec 3<&0; sh -c 'read line <&3; exit 3' & exit 4"]
SCRIPT = """
import os, subprocess, sys, time
from acmems.system.children import CHILDREN, reaps_orphans

def children():
    return {int(pid) for task in os.listdir("/proc/self/task")
            for pid in open(f"/proc/self/task/{task}/children").read().split()}

def state(pid):
    return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]

def zombies():
    return {pid for pid in children() if state(pid) == "Z"}

def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)

assert reaps_orphans()
with CHILDREN.started(lambda: subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)) as process:
    wait_until(lambda: process.pid in zombies())
    assert CHILDREN.reap() == 0  # its end is for whoever has started it
    (orphan,) = children() - {process.pid}
    assert process.wait() == 4
    process.stdin.close()
wait_until(lambda: orphan in zombies())
assert CHILDREN.reap() == 1
assert children() == set()
assert CHILDREN.reap() == 0
print("reaped")
"""


def run(*command: str, script: str) -> str:
    done = subprocess.run(
        [*command, sys.executable, "-c", script, *ORPHAN],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout


def test_a_subreaper_reaps() -> None:
    """Who gets orphans reaps them, and not what it has started itself."""
    assert run(script=SUBREAPER + SCRIPT) == "reaped\n"


def test_the_first_process_of_a_container_reaps() -> None:
    """The same in a PID namespace of its own, where this machine lets us make one."""
    unshare = shutil.which("unshare") or "unshare"
    alone = [unshare, "--pid", "--fork", "--mount-proc"]
    if os.getuid() != 0:
        alone[1:1] = ["--user", "--map-root-user"]
    try:
        subprocess.run([*alone, "true"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine does not let us make PID namespaces")
    assert run(*alone, script=SCRIPT) == "reaped\n"


def test_others_reap_nothing() -> None:
    """A process that does not get orphans says so."""
    script = "from acmems.system.children import reaps_orphans; print(reaps_orphans())"
    assert run(script=script) == "False\n"
