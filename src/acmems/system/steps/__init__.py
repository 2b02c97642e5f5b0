"""Steps: work that waits without holding a thread.

A step is a generator. It yields what it waits for, and is resumed with the outcome:

    def fetch(connection: Connection) -> Steps[bytes]:
        yield from connection.send(b"...")
        if not (yield self.stopping.wait(1.0)):
            return (yield from connection.receive())

A `StepLoop` runs any number of them in one thread, each until it waits. So a hundred orders at a CA are a
hundred generators, and no threads that wake up only to wait for the interpreter's lock. What blocks is done
in a thread of a pool, by `in_thread`.
"""

from __future__ import annotations

from acmems.system.steps.loop import StepLoop
from acmems.system.steps.threads import SharedThreads
from acmems.system.steps.turns import OWNER, Owner, OwnerQueue
from acmems.system.steps.waits import Signal, Steps, Wait, Watched, gather, in_thread, outcome, pause

__all__ = [
    "OWNER",
    "Owner",
    "OwnerQueue",
    "SharedThreads",
    "Signal",
    "StepLoop",
    "Steps",
    "Wait",
    "Watched",
    "gather",
    "in_thread",
    "outcome",
    "pause",
]
