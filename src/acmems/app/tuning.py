"""How this process is set up for a long run with many threads and files."""

from __future__ import annotations

import contextlib
import gc
import resource
import sys

SWITCH_SECONDS = 0.0005  # for which a thread may keep the interpreter while others want it


def tune_interpreter() -> None:
    """Set up the interpreter for many threads and a long run, once all that stays has been made."""
    # What the start has made is kept out of later garbage collections, and those come less often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    # Whoever waits for the interpreter waits for as long as this at every step of its way.
    sys.setswitchinterval(SWITCH_SECONDS)


def raise_file_limit() -> None:
    """Allow as many open files as the system lets us: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
