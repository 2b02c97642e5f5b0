"""What a server remembers in its state, and how it is one of several servers there."""

from __future__ import annotations

from acmems.state.chains import ChainRecords
from acmems.state.engines.contract import Database
from acmems.state.leases import Leases
from acmems.state.nodes import Node
from acmems.state.orders import OrderRecords
from acmems.state.pauses import PauseRecords
from acmems.state.shared_orders import SharedOrders
from acmems.system.clock import Clock
from acmems.system.threads import PeriodicThread

ALONE_SECONDS, SHARED_SECONDS = 30.0, 5.0
"""Between two looks at what is left to be done: other servers may end at any time."""


class StateMemory:
    """The parts of a state that is open.

    Args:
        database: the state.
        clock: time.

    Raises:
        StateUnavailable: it cannot be read or written.

    Attributes:
        chains: those that were issued.
        orders: those that are open.
        pauses: those that last.
        threads: keep it up; they are to be started.
        look_seconds: between two looks at what is left to be done.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._node: Node | None = None
        self._shared: SharedOrders | None = None
        self.chains = ChainRecords(database)
        self.pauses = PauseRecords(database)
        self.orders: OrderRecords | SharedOrders
        self.threads: list[PeriodicThread] = []
        self.look_seconds = ALONE_SECONDS
        if database.is_shared:
            self._node = Node(database, clock=clock)
            self._node.join()
            self.orders = self._shared = SharedOrders(
                database, Leases(database, self._node.name), self.pauses
            )
            self.threads.append(self._node.thread)
            self.look_seconds = SHARED_SECONDS
        else:
            self.orders = OrderRecords(database, clock.now())

    def leave(self) -> None:
        """Leave what is not finished to other servers, if there are any."""
        if self._shared is not None:
            self._shared.leave()

    def close(self) -> None:
        """Write what is not written, and close the database."""
        if self._node is not None:
            self._node.leave()
        self.chains.save_asked()
        self._database.close()
