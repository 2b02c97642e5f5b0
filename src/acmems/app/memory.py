"""What a server remembers in its state, and how it is one of several servers there."""

from __future__ import annotations

import datetime
import logging
import socket
from collections.abc import Callable, Sequence

from acmems.challenges.presented.state_notes import StateNotes
from acmems.config import Configuration
from acmems.events import Bus
from acmems.exceptions import StateUnavailable
from acmems.frontends.deferral.deferrals import Deferrals
from acmems.frontends.history import DeliveryNotes, RecordedHistory
from acmems.issuing.failover.issuances import Issuances
from acmems.issuing.limits.accounting import LimitAccounting, account_of
from acmems.issuing.limits.learnt import LearntLimits
from acmems.issuing.limits.limit import Limit
from acmems.issuing.limits.room import RenewalRoom
from acmems.issuing.renewal.prior import PriorChains
from acmems.issuing.renewal.times import RenewalTimes
from acmems.state.chains import ChainRecords
from acmems.state.chains.renewals import RenewalRecords
from acmems.state.deferred import DeferredRequests
from acmems.state.engines.contract import Database
from acmems.state.engines.sqlite import SqliteDatabase, StateInUse
from acmems.state.events import EventRecords
from acmems.state.limits.buckets import BucketRecords
from acmems.state.limits.learnt import LearntRecords
from acmems.state.limits.pauses import PauseRecords
from acmems.state.opening import StateClaim, open_state
from acmems.state.orders import OrderRecords
from acmems.state.proofs import ProofLookups, ProofRecords
from acmems.state.recorder import EventRecorder
from acmems.state.sharing.accounts import AccountRecords, SharedAccounts
from acmems.state.sharing.leases import Leases
from acmems.state.sharing.nodes import Node
from acmems.state.sharing.shared_orders import SharedOrders
from acmems.storages import IssuerIdentity, SqlStorage
from acmems.system.clock import Clock
from acmems.system.threads import HealthCheck

logger = logging.getLogger(__name__)

_FORGET_SECONDS = 3600.0  # between two times that what is not used any more is forgotten
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
        database: the state.
        clock: time.
        chains: those that were issued.
        orders: those that are open.
        pauses: those that last.
        plans: when chains are to be renewed.
        times: which of them are due.
        buckets: how far the limits of CAs are used.
        learnt: what CAs have told of their limits.
        deferred: requests whose answer is fetched later.
        journal: notes the proofs that are presented.
        shared_accounts: those of servers on other machines, None where there are none.
        threads: those that must live until it is closed.
        look_seconds: between two looks at what is left to be done.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database = database
        self.clock = clock
        self._node: Node | None = None
        self._shared: SharedOrders | None = None
        self._recorder: EventRecorder | None = None
        self.chains = ChainRecords(database)
        self.plans = RenewalRecords(database)
        self.times = RenewalTimes(self.plans)
        self.buckets = BucketRecords(database)
        self.learnt = LearntRecords(database)
        self.deferred = DeferredRequests(database)
        self.pauses = PauseRecords(database)
        self.orders: OrderRecords | SharedOrders
        self.threads: tuple[HealthCheck, ...] = ()
        self.look_seconds = ALONE_SECONDS
        self._forget_at = clock.monotonic() + _FORGET_SECONDS
        self.shared_accounts: SharedAccounts | None = None
        node = Node(database, clock=clock)
        self._leases = leases = Leases(database, node.name, node.is_known_to_live)
        self._name = node.name
        self.journal = StateNotes(ProofRecords(database, node.name, leases))
        if database.is_shared:
            self._node = node
            self._node.join()
            self.orders = self._shared = SharedOrders(database, leases, self.pauses)
            # The processes that share a file share the directory of the account as well.
            if not isinstance(database, SqliteDatabase):
                self.shared_accounts = SharedAccounts(AccountRecords(database), leases, database.place)
            self.threads = (self._node.thread,)
            self.look_seconds = SHARED_SECONDS
        else:
            self.orders = OrderRecords(database)

    def history(self, issuer: IssuerIdentity) -> RecordedHistory:
        """Return what notes chains as they are issued.

        Args:
            issuer: whose chains these are.

        Raises:
            StateUnavailable: it cannot be read which are revoked.
        """
        self.chains.learn_revoked()
        return RecordedHistory(self.chains, issuer, self.clock)

    def attach_lookups(self, lookups: ProofLookups) -> None:
        """Let front ends answer for the proofs that other servers present."""
        lookups.attach(self.database, self._name)

    def record_events(self, bus: Bus, keep_events: Callable[[], datetime.timedelta]) -> None:
        """Keep what happens from now on, and who gets which chain.

        Args:
            bus: tells of it.
            keep_events: returns for how long.
        """
        self._recorder = EventRecorder(
            EventRecords(self.database), keep_events, node=socket.gethostname(), clock=self.clock
        )
        bus.subscribe(self._recorder)
        bus.subscribe(DeliveryNotes(self.chains, self.clock))
        self._recorder.thread.start()
        self.threads += (self._recorder.thread,)

    def keep_up(self, keep_chains: datetime.timedelta | None = None) -> None:
        """Keep what is known up to date; called from time to time.

        Args:
            keep_chains: for how long chains are kept that have expired and were replaced, None for ever.
        """
        self.pauses.clean()
        if self.clock.monotonic() >= self._forget_at:
            self._forget_at = self.clock.monotonic() + _FORGET_SECONDS
            self.buckets.forget(int(self.clock.now().timestamp() * 1000))
            self.learnt.forget(self.clock.now())
            self.deferred.forget(self.clock.now())
            self.orders.forget_expired()
            if keep_chains is not None:
                self.chains.forget(self.clock.now() - keep_chains)
        try:
            self.chains.keep_up()
        except StateUnavailable as error:
            logger.debug("what other servers have revoked is not known: %s", error)

    def may_renew(self) -> bool:
        """Tell whether this process is the one that renews chains, of those that share the state.

        Raises:
            StateUnavailable: it cannot be told.
        """
        return self._has_turn("renewals")

    def may_tell(self) -> bool:
        """Tell whether this process tells operators what fails, of those that share the state.

        Raises:
            StateUnavailable: it cannot be told.
        """
        return self._has_turn("notices")

    def _has_turn(self, work: str) -> bool:
        return not self.database.is_shared or self._leases.acquire(work).result() is not None

    def leave(self) -> None:
        """Leave what is not finished to other servers, if there are any."""
        if self._shared is not None:
            self._shared.leave()

    def close(self) -> None:
        """Write what is not written, and close the database."""
        if self._node is not None:
            self._node.leave()
        if self._recorder is not None:
            self._recorder.thread.close()
            self._recorder.close()
        self.chains.save_asked()
        self.database.close()


def open_memory(config: Configuration, clock: Clock, claim: StateClaim | None) -> StateMemory | None:
    """Open the state of a server; None where another server uses it.

    Args:
        config: says where it is.
        clock: time.
        claim: what the supervisor of a worker process has claimed for all of them.

    Raises:
        StateUnavailable: it cannot be used.
    """
    try:
        return StateMemory(open_state(config.state, config.home, claim=claim), clock)
    except StateInUse as error:
        tell_in_use(error)
        return None


def open_deferrals(
    memory: StateMemory | None, issuances: Issuances, bus: Bus, is_stopping: Callable[[], bool]
) -> Deferrals | None:
    """Return what notes requests whose answer is fetched later, None where there is no state for that.

    Args:
        memory: the state.
        issuances: turn requests into chains.
        bus: told of what fails while nobody hears of it.
        is_stopping: tells whether the server is stopping.
    """
    if memory is None:
        return None
    return Deferrals(
        memory.deferred, memory.chains, issuances, bus, is_stopping=is_stopping, clock=memory.clock
    )


def accounting(
    memory: StateMemory | None,
    directory: str,
    limits: Callable[[], Sequence[Limit]],
    account_url: Callable[[], str | None],
    learns: Callable[[], bool],
) -> LimitAccounting | None:
    """Return what has orders count for the limits of a CA, None where there is no state for that.

    Args:
        memory: the state.
        directory: the URL of the CA's directory.
        limits: returns the limits of today.
        account_url: returns the URL of the account, which its key may change under; None while that
            is not known.
        learns: tells whether what the CA says of its limits is learnt; not where some are configured.
    """
    if memory is None:
        if limits():
            logger.warning(
                "the limits of the CA are not counted, because this server has no state: the CA itself "
                "refuses what is too much"
            )
        return None

    def account() -> str | None:
        return None if (url := account_url()) is None else account_of(directory, url)

    return LimitAccounting(
        limits,
        account,
        memory.buckets,
        PriorChains(memory.chains, memory.plans, directory, memory.clock),
        memory.clock,
        learnt=LearntLimits(memory.learnt, memory.clock, learns),
        room=RenewalRoom(memory.plans, directory, memory.clock),
    )


def tell_in_use(error: StateInUse) -> None:
    """Tell that there is no state for this server.

    Args:
        error: names the one that another server uses.
    """
    logger.warning(
        "another server uses %s: this one forgets its open orders when it ends; give it a [state] of its own",
        error,
    )


def attach_storages(config: Configuration, memory: StateMemory | None) -> None:
    """Give the state to the storages that keep their chains there.

    Args:
        config: has the storages.
        memory: the state, None where another server uses it.

    Raises:
        StateUnavailable: another server uses it, and one of them needs it.
    """
    for storage in config.storages.values():
        if isinstance(storage, SqlStorage):
            if memory is None:
                raise StateUnavailable(
                    f"another server uses the state, which storage '{storage.name}' is kept in: give "
                    f"this one a [state] of its own, or another type of storage"
                )
            storage.attach(memory.chains)
