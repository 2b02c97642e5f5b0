"""How often this server connects to one address because clients say so."""

from __future__ import annotations

import threading
from collections import OrderedDict

from acmems.issuing.limits import gcra
from acmems.net.address import IPAddress
from acmems.system.clock import SYSTEM, Clock

# A reverse proxy may have the address of hundreds of names, all of which are proved in one night: 5 a second
# is no flood for it, nor for anything else that answers at port 80 or 443.
OF_ACCOUNT = gcra.Rate(60, 12_000)
OF_ALL = gcra.Rate(240, 12_000)
_MOST_KEPT = 4096

Key = tuple[str | None, str]


class AddressRates:
    """Counts connections to each address, from each account and in total. For any thread.

    Args:
        clock: for durations.
        of_account: how many connections one account may have made to one address.
        of_all: how many all accounts together may.
    """

    def __init__(
        self, clock: Clock = SYSTEM, of_account: gcra.Rate = OF_ACCOUNT, of_all: gcra.Rate = OF_ALL
    ) -> None:
        self._clock = clock
        self._of_account = of_account
        self._of_all = of_all
        self._lock = threading.Lock()
        self._instants: OrderedDict[Key, int] = OrderedDict()  # the one that was used last is the last

    def take(self, account: str, address: IPAddress) -> float:
        """Return 0 and count a connection, or in how many seconds one may be made."""
        buckets = ((account, str(address)), self._of_account), ((None, str(address)), self._of_all)
        with self._lock:
            now = int(self._clock.monotonic() * 1000)
            waits = [gcra.wait(rate, self._instants.get(key), now) or 0 for key, rate in buckets]
            if any(waits):
                return max(waits) / 1000
            for key, rate in buckets:
                self._instants[key] = gcra.taken(rate, self._instants.get(key), now)
                self._instants.move_to_end(key)
            while len(self._instants) > _MOST_KEPT:
                self._instants.popitem(last=False)
            return 0.0
