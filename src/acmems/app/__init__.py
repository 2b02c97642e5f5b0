"""The composition root: turns a configuration into a running server, exchanges it, and stops it in order.

- `process`: what this process hears: signals, systemd, the end of other processes
- `workers`: a server of several processes
- `reloading`: where the next configuration comes from
- `signals`: the signals that a process takes
- `server`: the parts of a server, put together; how it starts, reloads and stops
- `acting`: what a command needs of a server where none runs
- `changes`: what a reload may change
- `memory`: what a server remembers in its state
- `accounts`: the accounts that it orders with, and how it gets them
- `upkeep`: what it does from time to time
- `plans`: what a configuration lets a server listen on
- `tuning`: how a process is set up for a long run
- `listeners`: the listeners of one configuration after the other
"""

from __future__ import annotations

from acmems.app.acting import acting
from acmems.app.process import run
from acmems.app.reloading import ConfigurationSource
from acmems.app.server import Server

__all__ = ["ConfigurationSource", "Server", "acting", "run"]
