"""What a suite starts as `pebble`: listens at once where Pebble would, and has `pebble_stand_in` do all else.

usage: python -IS tests/pebble_launcher.py -config FILE -dnsserver HOST:PORT -strict

Suites wait for a port for a few seconds only, and kill what they have started. So this begins without a
delay, and is not what has to end the programs behind it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

with open(sys.argv[sys.argv.index("-config") + 1], encoding="utf-8") as file:  # noqa: PTH123 - starts faster
    [options] = json.load(file).values()
[address] = [value for key, value in options.items() if key.lower() == "listenaddress"]
host, _, port = address.rpartition(":")
listener = socket.create_server((host, int(port)))
subprocess.run(
    [sys.executable, "-m", "tests.pebble_stand_in", *sys.argv[1:], "-socket", str(listener.fileno())],
    cwd=os.path.dirname(os.path.dirname(__file__)),  # noqa: PTH120 - starts faster
    pass_fds=[listener.fileno()],
    check=True,
)
