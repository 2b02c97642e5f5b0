"""The parts of a server, put together: how it starts, takes another configuration, and stops."""

from __future__ import annotations

import contextlib
import logging
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from acmems.app.changes import carry_over, restart_needed
from acmems.app.listeners import GRACE_SECONDS, Listeners, PlannedListener
from acmems.challenges import Http01, Listening
from acmems.challenges.http01 import DEFAULT_LISTENERS
from acmems.config import Configuration
from acmems.events import Bus
from acmems.exceptions import AccountError, CAError, ConfigurationError, DeadlinePassed, RateLimited
from acmems.frontends.http01 import CHALLENGE_LIMITS, Http01FrontEnd
from acmems.frontends.metrics.monitoring import Monitoring
from acmems.frontends.options import MGMT_LISTENERS
from acmems.frontends.resumption import Resumption
from acmems.frontends.sign import SignFrontEnd, SigningPolicy
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuing.issuance import Issuance
from acmems.logs import log_event
from acmems.logs.events import EventLog
from acmems.net.http import UNFINISHED_BYTES, HttpLimits, HttpService
from acmems.net.listening import Descriptors, Listener, ListenerLimits, ListenerPlan, SocketPool
from acmems.state.engines.contract import Database
from acmems.state.engines.sqlite import StateInUse
from acmems.state.opening import open_state
from acmems.state.orders import OrderRecords
from acmems.storages import IssuerIdentity
from acmems.system.clock import SYSTEM, Clock
from acmems.system.threads import HealthCheck, PeriodicThread

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 30.0
WITHDRAW_SECONDS = 10.0
METRICS_CONNECTIONS = 64
UPKEEP_SECONDS = 30.0
SUM_SECONDS = 60.0  # between two lines that sum up what strangers were refused
RETIRE_SECONDS = 1.0
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


class Server:
    """A running acmems.

    Args:
        config: what to run.
        clock: time.
        sockets: those that this process was started with.

    Raises:
        StateUnavailable: the state cannot be used.

    Attributes:
        is_serving: whether it has begun to serve, so that it is to be stopped in order.
    """

    def __init__(
        self, config: Configuration, clock: Clock = SYSTEM, *, sockets: SocketPool | None = None
    ) -> None:
        self.clock = clock
        self.bus = Bus()
        self._log = EventLog(log_event)
        self.bus.subscribe(self._log)
        self._generation = Generation.of(config)
        self._database = _open_state(config)
        orders = None if self._database is None else OrderRecords(self._database)
        self.issuer = AcmeIssuer(config.account, config.mgmt.request_timeout, clock, orders)
        identity = IssuerIdentity(config.account.directory_url, config.account.profile)
        policy = self._generation.policy
        self.issuance = Issuance(
            self.issuer,
            identity,
            self.bus,
            seconds=policy.seconds,
            clock=clock,
            most_at_once=config.mgmt.max_orders,
            most_waiting=config.mgmt.max_waiting,
            subject=policy.subject,
            memory=orders,
        )
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
        self._saving = PeriodicThread("acmems-save", self.issuance.save_kept, UPKEEP_SECONDS, clock=clock)
        # There after a reload, until nothing is left of what was before.
        self._retiring: PeriodicThread | None = None
        self._summing = PeriodicThread(
            "acmems-sums", self._log.tell, SUM_SECONDS, delay=SUM_SECONDS, clock=clock
        )
        self._threads = [self._sweeping, self._saving, self._summing]
        if orders is not None:
            resumption = Resumption(orders, lambda: self._generation.policy, self.issuance, clock)
            self._threads.append(PeriodicThread("acmems-resume", resumption.run, UPKEEP_SECONDS, clock=clock))
        self._checking: threading.Thread | None = None  # asks the CA about the account

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """Where it listens."""
        return self._listeners.all

    @property
    def state(self) -> Database | None:
        """What must survive, None where another server uses the file for it."""
        return self._database

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
        _raise_file_limit()
        for storage in self.config.storages.values():
            storage.check()
        self._listeners.commit(self._listeners.prepare(self._planned(self.config)), start=False)
        try:
            with self.issuer.directory.founding():
                is_known = self._find_account()
        except BaseException:
            self._listeners.close()
            self._close_state()
            raise
        self.is_serving = True
        self._listeners.start()
        for thread in self._threads:
            thread.start()
        self._watch_over()
        if is_known:
            self._check_account_behind()

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

    def stop(self) -> None:
        """Stop accepting, let running requests finish to a deadline, withdraw challenges, close."""
        self._is_stopping = True
        if self._monitoring is not None and self._is_watched_over:
            self._monitoring.stop()
        for thread in (*self._threads, self._retiring):
            if thread is not None:
                thread.close()
        deadline = self.clock.deadline(DRAIN_SECONDS)
        for listener in self._listeners.for_clients:
            listener.stop_accepting()
        self.issuance.let_go()
        for listener in self._listeners.for_clients:
            if not listener.drain(deadline):
                logger.warning("some requests were not finished in time; asking again continues their orders")
        self.issuance.drain(deadline)
        self.issuer.stop()
        self.issuance.close(self.clock.deadline(WITHDRAW_SECONDS))
        self._listeners.close()
        self.issuer.close()
        self._close_state()
        self._log.tell()

    @property
    def watched(self) -> tuple[HealthCheck, ...]:
        """What has threads that the server needs."""
        return (*self.listeners, self.issuer.loop, self.issuance, *self._threads)

    def is_healthy(self) -> bool:
        """Tell whether every thread that the server needs lives and makes progress; log those that do not."""
        unhealthy = [each.name for each in self.watched if not each.is_healthy()]
        if unhealthy:
            logger.error("ended or hanging: %s", ", ".join(unhealthy))
        return not unhealthy

    @property
    def addresses(self) -> list[str]:
        """What is listened on, for a person: `mgmt 127.0.0.1:1313`."""
        return self._listeners.addresses

    def _close_state(self) -> None:
        if self._database is not None:
            self._database.close()

    def _find_account(self) -> bool:
        """Load the account's key, or make an account; tell whether one was known before."""
        directory = self.issuer.directory
        if not directory.has_key():
            if self.config.account.accepted_terms is not True and not self.config.account.accepted_terms:
                raise AccountError(
                    f"there is no account in {directory.path} yet, and none is made before the CA's terms of "
                    f"service are accepted: add 'accept-terms-of-service = yes' to [account]"
                )
            self.issuer.create_key()
            logger.info("made a new account key: %s", directory.key_file)
        self.issuer.load_key()
        if directory.has_registration():
            return True
        self.issuer.refresh()
        return False

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

    def _planned(self, config: Configuration) -> Iterator[PlannedListener]:
        """Yield what a configuration lets the server listen on."""
        mgmt = config.mgmt
        public = [
            validator
            for validator in config.validators.values()
            if isinstance(validator, Http01 | Listening) and validator.listeners
        ]
        descriptors = Descriptors.shared(resource.getrlimit(resource.RLIMIT_NOFILE)[0], len(public))
        limits = ListenerLimits(connections=mgmt.max_connections).within(descriptors.management)
        if limits.connections < mgmt.max_connections:
            logger.warning(
                "at most %d clients are served at the same time, not %d: raise the limit of open files "
                "(LimitNOFILE)",
                *(limits.connections, mgmt.max_connections),
            )
        proxies = mgmt.trusted_proxies
        plan = ListenerPlan("mgmt", mgmt.listeners, self._signing, limits, MGMT_LISTENERS, proxies)
        yield PlannedListener(plan, is_for_clients=True)
        for validator in public:
            if isinstance(validator, Http01):
                proxies = validator.trusted_proxies or mgmt.trusted_proxies
                answering = Http01FrontEnd(validator, self.bus, self.clock, proxies)
                plan = ListenerPlan(
                    f"http01 {validator.name}",
                    validator.listeners,
                    HttpService(answering, trusted_proxies=proxies),
                    CHALLENGE_LIMITS.within(descriptors.public),
                    DEFAULT_LISTENERS,
                    proxies,
                )
                yield PlannedListener(plan, validator)
            else:
                yield PlannedListener(validator.plan(descriptors.public), validator)
        if config.metrics.listeners:
            service = HttpService(self._lazy_monitoring().front_end)
            limits = ListenerLimits(connections=METRICS_CONNECTIONS)
            yield PlannedListener(ListenerPlan("metrics", config.metrics.listeners, service, limits))

    def _lazy_monitoring(self) -> Monitoring:
        if self._monitoring is None:
            self._monitoring = Monitoring(self)
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


def _open_state(config: Configuration) -> Database | None:
    """Open the state; None where another server uses it.

    Raises:
        StateUnavailable: it cannot be used.
    """
    try:
        return open_state(config.state, config.account.dir)
    except StateInUse as error:
        logger.warning(
            "another server uses %s: this one forgets its open orders when it ends; give it a [state] of its "
            "own",
            error,
        )
        return None


def _raise_file_limit() -> None:
    """Allow as many open files as the system lets us: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
