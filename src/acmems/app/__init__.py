"""The composition root: turns a configuration into a running server, exchanges it, and stops it in order.

- `process`: what this process hears: signals, systemd, the end of other processes
- `workers`: a server of several processes
- `reloading`: where the next configuration comes from
- `signals`: the signals that a process takes
- `server`: the parts of a server, put together; how it starts, reloads and stops
- `changes`: what a reload may change
- `plans`: what a configuration lets a server listen on
- `listeners`: the listeners of one configuration after the other
"""

from __future__ import annotations

from acmems.app.process import run
from acmems.app.reloading import ConfigurationSource
from acmems.app.server import Server

__all__ = ["ConfigurationSource", "Server", "run"]
