"""How often one client may ask for what fills the state: a bucket for each address, in memory."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict

from acmems.frontends.acme.problems import AcmeProblem
from acmems.issuing.limits import gcra
from acmems.net.listening.shares import share_of
from acmems.system.clock import Clock

_MOST = 10_000  # addresses that are counted; of more, the one that asked least lately is forgotten


class ClientRates:
    """Counts what clients ask for, by their addresses; for any thread.

    Args:
        rate: how often one may ask.
        what: what is counted, for the client: `new accounts`.
        clock: for the time between.
    """

    def __init__(self, rate: gcra.Rate, what: str, clock: Clock) -> None:
        self._rate = rate
        self._what = what
        self._clock = clock
        self._lock = threading.Lock()  # guards what follows
        self._instants: OrderedDict[str, int] = OrderedDict()

    def require_room(self, client: str) -> None:
        """Refuse what is too much, without counting it.

        Args:
            client: the address that asks.

        Raises:
            AcmeProblem: `rateLimited`, with `Retry-After`.
        """
        with self._lock:
            wait = gcra.wait(self._rate, self._instants.get(share_of(client)), self._now())
        if wait:
            seconds = math.ceil(wait / 1000)
            hours = self._rate.period / 3_600_000
            raise AcmeProblem(
                "rateLimited",
                f"too many {self._what} were asked for from this address: {self._rate.count} in {hours:g} h "
                f"are possible; try again in {seconds} s",
                headers={"Retry-After": str(seconds)},
            )

    def count(self, client: str, cost: int = 1) -> None:
        """Count one.

        Args:
            client: the address that asks.
            cost: as how many it counts.
        """
        share = share_of(client)
        with self._lock:
            self._instants[share] = gcra.taken(self._rate, self._instants.get(share), self._now(), cost)
            self._instants.move_to_end(share)
            if len(self._instants) > _MOST:
                self._instants.popitem(last=False)

    def _now(self) -> int:
        return int(self._clock.monotonic() * 1000)
