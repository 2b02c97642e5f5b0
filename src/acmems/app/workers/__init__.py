"""A server of several processes, `processes` in `[mgmt]`: a supervisor, and workers that serve.

The supervisor binds all sockets and forks workers, which share them. It accepts nothing, has no threads, and
so can fork at any time. What a reload changes, new workers have from their start: they take the places of the
former ones, which finish what they have begun.

- `rota`: which worker is started, told to leave, or waited for, as pure rules
- `messages`: what supervisor and workers tell each other
- `worker`: a worker, from the inside
- `worker_process`: a worker, as its supervisor knows it
- `collection`: how all of them are together, for monitoring systems
- `supervisor`: all of them together
"""

from __future__ import annotations

from acmems.app.workers.supervisor import Supervisor
from acmems.app.workers.worker import Assignment, work

__all__ = ["Assignment", "Supervisor", "work"]
