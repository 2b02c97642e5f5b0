"""Commands that ask at a terminal, and what is typed there."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

from tests.peers.process import environment


def run_at_terminal(typed: bytes, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run an `acmems` command at a terminal where something is typed; return its exit code and output."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, typed)
        return subprocess.run(
            [sys.executable, "-m", "acmems", *map(str, arguments)],
            stdin=theirs,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=environment(),
        )
    finally:
        os.close(ours)
        os.close(theirs)
