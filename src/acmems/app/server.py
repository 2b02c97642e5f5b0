"""The parts of a server, put together: how it starts, takes another configuration, and stops."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from acmems.app.changes import carry_over, restart_needed
from acmems.app.founding import AccountFounding
from acmems.app.listeners import GRACE_SECONDS, BoundByName, Listeners
from acmems.app.memory import accounting, attach_storages, open_memory
from acmems.app.plans import PlannedListener, planned
from acmems.app.renewals import RenewalUpkeep
from acmems.app.tuning import raise_file_limit
from acmems.challenges import Http01
from acmems.config import Configuration
from acmems.events import Bus
from acmems.exceptions import (
    AccountError,
    CAError,
    ConfigurationError,
    DeadlinePassed,
    RateLimited,
)
from acmems.frontends.acts.contract import ActingParts
from acmems.frontends.acts.performing import Performer
from acmems.frontends.control.listener import ControlListener
from acmems.frontends.http01 import Http01FrontEnd
from acmems.frontends.metrics.monitoring import Monitoring
from acmems.frontends.metrics.snapshot import Snapshot
from acmems.frontends.resumption import Resumption
from acmems.frontends.sign import SignFrontEnd, SigningPolicy
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuing.issuance import Issuance
from acmems.logs import log_event
from acmems.logs.events import EventLog
from acmems.net.address import IPNetwork
from acmems.net.http import UNFINISHED_BYTES, HttpLimits, HttpService
from acmems.net.listening import AcceptBalance, Listener, SocketPool, StreamService
from acmems.state.engines.contract import Database
from acmems.state.opening import StateClaim
from acmems.storages import IssuerIdentity, Storage
from acmems.system.clock import SYSTEM, Clock, Deadline
from acmems.system.threads import HealthCheck, PeriodicThread

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 30.0
WITHDRAW_SECONDS = 10.0
UPKEEP_SECONDS = 30.0
SUM_SECONDS = 60.0  # between two lines that sum up what strangers were refused
RETIRE_SECONDS = 1.0
ACT_SECONDS = 5.0  # for commands to hear how their acts ended
UNSAVED_SECONDS = 0.5  # between two looks whether a storage has taken what it did not take before
# A little less than what clients wait, so that they hear the reason and not only that it is late.
_PATIENCE = 0.95


@dataclass(frozen=True, slots=True)
class Generation:
    """What one configuration says of requests, made once; a reload puts another one in its place, as a whole.

    Args:
        config: the configuration.
        policy: who may ask for what, and how long a client waits.
        http: how long clients and their requests may take.
    """

    config: Configuration
    policy: SigningPolicy
    http: HttpLimits

    @classmethod
    def of(cls, config: Configuration) -> Generation:
        """Return what a configuration says."""
        seconds = config.mgmt.request_timeout
        policy = SigningPolicy(config.auth, seconds * _PATIENCE, config.account.subject)
        unfinished = max(UNFINISHED_BYTES, 8 * config.mgmt.max_size)
        return cls(config, policy, HttpLimits(request_seconds=seconds, unfinished_bytes=unfinished))


@dataclass(frozen=True, slots=True)
class WorkerShare:
    """What a server has of a whole, as one of several processes.

    Args:
        position: its place among them, from 0 on.
        sockets: where it listens; bound, and listened on by all of them.
        balance: tells whether another of them is to accept.
        everyone: returns how all of them are, for monitoring systems; None where that cannot be known.
        state: the claim to the state, for all of them; None where another server uses it.
    """

    position: int
    sockets: BoundByName
    balance: AcceptBalance
    everyone: Callable[[], Snapshot | None]
    state: StateClaim | None = None


class Server:
    """A running acmems.

    Args:
        config: what to run.
        clock: time.
        sockets: those that this process was started with.
        share: what it has of a whole; None where it is alone.

    Raises:
        StateUnavailable: the state cannot be used.

    Attributes:
        is_serving: whether it has begun to serve, so that it is to be stopped in order.
        perform: does what commands ask for.
    """

    def __init__(
        self,
        config: Configuration,
        clock: Clock = SYSTEM,
        *,
        sockets: SocketPool | None = None,
        share: WorkerShare | None = None,
    ) -> None:
        self.clock = clock
        self._share = share
        if share is not None:
            config.take_share(share.position)
        self.bus = Bus()
        self._log = EventLog(log_event)
        self.bus.subscribe(self._log)
        self._generation = Generation.of(config)
        self._memory = None
        if share is None or share.state is not None:
            self._memory = open_memory(config, clock, None if share is None else share.state)
        orders = None if self._memory is None else self._memory.orders
        attach_storages(config, self._memory)
        if self._memory is not None:
            self._memory.attach_lookups(config.context.lookups)
        history = None if self._memory is None else self._memory.history(_identity(config), self.bus)
        self.issuer = AcmeIssuer(
            config.account,
            config.mgmt.request_timeout,
            clock,
            memory=orders,
            journal=None if self._memory is None else self._memory.journal,
            processes=config.mgmt.processes,
        )
        accounts = None if self._memory is None else self._memory.shared_accounts
        self._founding = AccountFounding(self.issuer, accounts, clock)
        policy = self._generation.policy
        self.issuance = Issuance(
            self.issuer,
            _identity(config),
            self.bus,
            seconds=policy.seconds,
            clock=clock,
            most_at_once=config.mgmt.max_orders,
            most_waiting=config.mgmt.max_waiting,
            subject=policy.subject,
            memory=orders,
            pauses=None if self._memory is None else self._memory.pauses,
            history=history,
            times=None if self._memory is None else self._memory.times,
            limits=accounting(self._memory, lambda: self.config, lambda: self.issuer.account_url),
        )
        if self._memory is not None:
            self.issuance.pauses.restore(self._memory.pauses.load())
        front_end = SignFrontEnd(lambda: self._generation.policy, self.issuance, self.bus, clock)
        self._signing = HttpService(
            front_end, lambda: self._generation.http, lambda: self._generation.policy.auth.trusted_proxies
        )
        self._listeners = Listeners(clock, sockets)
        self._monitoring: Monitoring | None = None  # only where somebody can ask
        self._is_watched_over = False
        self.is_serving = False
        self._is_stopping = False
        # Each has a thread of its own, so that a slow DNS provider keeps no chain from being stored.
        self._sweeping = PeriodicThread("acmems-sweep", self._sweep, UPKEEP_SECONDS, clock=clock)
        self._saving = PeriodicThread("acmems-save", self._save, UPKEEP_SECONDS, clock=clock)
        # There after a reload, until nothing is left of what was before.
        self._retiring: PeriodicThread | None = None
        self._renewals: RenewalUpkeep | None = None
        self._summing = PeriodicThread(
            "acmems-sums", self._log.tell, SUM_SECONDS, delay=SUM_SECONDS, clock=clock
        )
        self._threads = [self._sweeping, self._saving, self._summing]
        if self._memory is not None and history is not None:
            self._memory.record_events(self.bus, lambda: self.config.state.keep_events)
            resumption = Resumption(
                self._memory.orders, lambda: self._generation.policy, self.issuance, history, clock=clock
            )
            seconds = self._memory.look_seconds
            self._threads.append(
                PeriodicThread(
                    "acmems-resume", resumption.run, seconds, longest_pause=UPKEEP_SECONDS, clock=clock
                )
            )
            self._renewals = RenewalUpkeep(
                self._memory,
                config=lambda: self.config,
                policy=lambda: self._generation.policy,
                issuer=self.issuer,
                issuance=self.issuance,
            )
            self._threads.append(self._renewals.thread)
        self._checking: threading.Thread | None = None  # asks the CA about the account
        self.perform = Performer(
            ActingParts(
                self.issuer,
                self.issuance,
                lambda: self._generation.policy,
                self._all_storages,
                None if self._memory is None else self._memory.chains,
                self.bus,
                clock,
            )
        )
        self._control = ControlListener(config.account.dir, self.perform, clock)

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """Where it listens."""
        return self._listeners.all

    @property
    def state(self) -> Database | None:
        """What must survive, None where another server uses the file for it."""
        return None if self._memory is None else self._memory.database

    @property
    def unused_sockets(self) -> tuple[socket.socket, ...]:
        """Those that this process was started with and that no listener has."""
        return self._listeners.pool.unused

    @property
    def config(self) -> Configuration:
        """What it goes by."""
        return self._generation.config

    def start(self) -> None:
        """Check storages, take the addresses, open the account, and serve.

        The addresses come before the account, so that nothing is left behind at the CA by a server that
        cannot serve; who connects meanwhile waits. An account that is known on disk is not waited for.

        Raises:
            StorageUnavailable: a storage cannot be written.
            AccountError, NeedToAgreeToTOS: there is no account yet, or its key cannot be used.
            CAError, RateLimited, DeadlinePassed: there is no account yet, and the CA does not give one.
            OSError: an address cannot be listened on; `filename` names it.
        """
        raise_file_limit()
        for storage in self.config.storages.values():
            storage.check()
        listeners = self._planned(self.config)
        if self._share is None:
            self._listeners.commit(self._listeners.prepare(listeners), start=False)
        else:
            self._listeners.use(listeners, self._share.sockets)
        try:
            with self.issuer.directory.founding():
                is_known = self._founding.find()
        except BaseException:
            self._listeners.close()
            self._close_state()
            raise
        self.is_serving = True
        self._listeners.start()
        self._control.start()
        for thread in self._threads:
            thread.start()
        self._watch_over()
        if is_known:
            self._check_account_behind()

    def start_acting(self, *, proves: bool) -> None:
        """Get ready to act for a command; no client is served, and nothing is begun that nobody asked for.

        Args:
            proves: whether names may have to be proved.

        Raises:
            AccountError: there is no account.
            OSError: an address cannot be listened on; `filename` names it.
        """
        if proves:
            planned = [each for each in self._planned(self.config) if each.validator is not None]
            self._listeners.commit(self._listeners.prepare(planned))
        self.issuer.open(register=False)

    def reload(self, config: Configuration, log: Callable[[], None] = lambda: None) -> None:
        """Go by another configuration from now on, or change nothing.

        Connections stay open, and requests and orders that have begun end by the configuration that they
        have begun with.

        Args:
            config: the configuration, read with the one before as `previous`.
            log: begins to log as it says; called when nothing else can fail any more.

        Raises:
            ConfigurationError: it changes what only a restart can change.
            StorageUnavailable: a storage that is new cannot be written.
            OSError: an address cannot be listened on; `filename` names it.
            AcmeException: what `log` raises.
        """
        before = self.config
        findings = restart_needed(before, config)
        if findings:
            raise ConfigurationError(findings)
        attach_storages(config, self._memory)
        for storage in config.storages.values():
            if storage not in before.storages.values():
                storage.check()
        change = self._listeners.prepare(self._planned(config))
        try:
            log()
        except BaseException:
            change.abort()
            raise
        carry_over(before, config)
        self._generation = Generation.of(config)
        self._listeners.commit(change)
        self._retire_behind()
        self._watch_over()
        self.issuance.adapt(config.mgmt.max_orders, config.mgmt.max_waiting)
        self.issuer.reconfigure(config.account, config.mgmt.request_timeout)
        self._check_account_behind()

    def retire(self, deadline: Deadline) -> None:
        """Stop accepting, let running requests finish, and keep what could not be kept; `stop` is to follow.

        Args:
            deadline: when to give up.
        """
        for thread in self._threads:
            if thread is not self._saving:
                thread.close()
        for listener in self._listeners.for_clients:
            listener.stop_accepting()
        for listener in self._listeners.for_clients:
            listener.drain(deadline)
        while self.issuance.workload.unsaved and not deadline.passed:
            self.clock.sleep(min(UNSAVED_SECONDS, deadline.remaining))

    def stop(self) -> None:
        """Stop accepting, let running requests finish to a deadline, withdraw challenges, close."""
        self._is_stopping = True
        self._control.close()
        if self._monitoring is not None and self._is_watched_over:
            self._monitoring.stop()
        for thread in (*self._threads, self._retiring):
            if thread is not None:
                thread.close()
        if self._renewals is not None:
            self._renewals.stop()
        deadline = self.clock.deadline(DRAIN_SECONDS)
        for listener in self._listeners.for_clients:
            listener.stop_accepting()
        self.issuance.let_go()
        for listener in self._listeners.for_clients:
            if not listener.drain(deadline):
                logger.warning("some requests were not finished in time; asking again continues their orders")
        self.issuance.drain(deadline)
        if self._memory is not None:
            self._memory.leave()
        self.issuer.stop()
        self.issuance.close(self.clock.deadline(WITHDRAW_SECONDS))
        self._listeners.close()
        self.issuer.close()
        self._control.drain(self.clock.deadline(ACT_SECONDS))
        self._close_state()
        self._log.tell()

    @property
    def watched(self) -> tuple[HealthCheck, ...]:
        """What has threads that the server needs."""
        state = () if self._memory is None else self._memory.threads
        served: tuple[HealthCheck, ...] = (*self.listeners, self._control)
        return (*served, self.issuer.loop, self.issuance, *self._threads, *state)

    def is_healthy(self) -> bool:
        """Tell whether every thread that the server needs lives and makes progress; log those that do not."""
        unhealthy = [each.name for each in self.watched if not each.is_healthy()]
        if unhealthy:
            logger.error("ended or hanging: %s", ", ".join(unhealthy))
        return not unhealthy

    def snapshot(self) -> Snapshot:
        """Return how it is."""
        if self._monitoring is not None:
            return self._monitoring.snapshot()
        return Snapshot([each.name for each in self.watched if not each.is_healthy()], (), ())

    @property
    def addresses(self) -> list[str]:
        """What is listened on, for a person: `mgmt 127.0.0.1:1313`."""
        return self._listeners.addresses

    def _all_storages(self) -> Sequence[Storage]:
        """Return all storages that chains may be delivered from, each once."""
        named = [*self.config.storages.values(), *(block.storage for block in self.config.auth.blocks)]
        return list(dict.fromkeys(named))

    def _save(self) -> None:
        """Store what could not be stored, and keep what is known of chains up to date."""
        self.issuance.save_kept()
        if self._memory is not None:
            self._memory.keep_up()
            self._founding.follow()

    def _close_state(self) -> None:
        self.config.context.lookups.close()
        if self._memory is not None:
            self._memory.close()

    def _check_account_behind(self) -> None:
        """Ask the CA about the account, which nobody waits for: stored chains are delivered without it."""
        if self._checking is None or not self._checking.is_alive():
            self._checking = threading.Thread(target=self._check_account, name="acmems-account", daemon=True)
            self._checking.start()

    def _check_account(self) -> None:
        try:
            self.issuer.ensure_opened()
        except (AccountError, CAError, RateLimited, DeadlinePassed) as error:
            if not self._is_stopping:
                # The first order asks again.
                logger.error("stored chains are delivered, but nothing can be ordered: %s", error)  # noqa: TRY400 - its words tell all

    @property
    def signing(self) -> StreamService:
        """Answers clients."""
        return self._signing

    def challenges(self, validator: Http01, proxies: tuple[IPNetwork, ...]) -> StreamService:
        """Return what answers the CA by HTTP.

        Args:
            validator: what presents the proofs.
            proxies: whose `X-Forwarded-For` is believed.
        """
        front_end = Http01FrontEnd(validator, self.bus, self.clock, proxies)
        return HttpService(front_end, trusted_proxies=proxies)

    def monitoring(self) -> StreamService:
        """Return what answers monitoring systems."""
        return HttpService(self._lazy_monitoring().front_end)

    def _planned(self, config: Configuration) -> list[PlannedListener]:
        """Return what a configuration lets it listen on."""
        listeners = list(planned(config, self, None if self._share is None else self._share.balance))
        for plan in (each.plan for each in listeners if each.is_for_clients):
            if plan.limits.connections < config.mgmt.max_connections:
                logger.warning(
                    "at most %d clients are served at the same time, not %d: raise the limit of open files "
                    "(LimitNOFILE)",
                    *(plan.limits.connections, config.mgmt.max_connections),
                )
        return listeners

    def _lazy_monitoring(self) -> Monitoring:
        if self._monitoring is None:
            self._monitoring = Monitoring(self, None if self._share is None else self._share.everyone)
        return self._monitoring

    def _watch_over(self) -> None:
        """Begin to count and to look, once somebody can ask; from then on it goes on."""
        if self.config.metrics.listeners and not self._is_watched_over:
            self._is_watched_over = True
            self._lazy_monitoring().start()

    def _sweep(self) -> None:
        self.issuer.sweep(self.config.validators, self._sweeping.progress)

    def _retire_behind(self) -> None:
        """Let go of listeners that are kept for running orders, as these end."""
        if self._retiring is not None:
            self._retiring.close()

        def retire() -> None:
            if self._listeners.retire(self.issuance.uses):
                retiring.close()

        retiring = PeriodicThread(
            "acmems-retire", retire, RETIRE_SECONDS, delay=GRACE_SECONDS, clock=self.clock
        )
        self._retiring = retiring
        retiring.start()


def _identity(config: Configuration) -> IssuerIdentity:
    return IssuerIdentity(config.account.directory_url, config.account.profile)
