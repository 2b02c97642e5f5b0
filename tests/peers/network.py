"""Networks of tests' own, with nothing in them but loopback, in which low ports are free and may be taken."""

from __future__ import annotations

import functools
import subprocess

OWN_NETWORK = ("unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
"""What a command follows that is to run in a network of its own. It is root there, whoever runs it."""


@functools.cache
def can_have_own_network() -> bool:
    """Tell whether this machine lets its users make networks."""
    try:
        tried = subprocess.run([*OWN_NETWORK, "true"], capture_output=True, check=False)
    except OSError:
        return False
    return tried.returncode == 0


def add_address(address: str) -> None:
    """Give the machine an address, in a network of its own."""
    subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
