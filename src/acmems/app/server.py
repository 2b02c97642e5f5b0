"""The parts of a server, put together: how it starts, takes another configuration, and stops."""

from __future__ import annotations

import importlib
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from acmems.app.accounts.running import Accounts
from acmems.app.acme.serving import AcmeServing
from acmems.app.changes import Generation, carry_over, restart_needed
from acmems.app.listeners import GRACE_SECONDS, BoundByName, Listeners
from acmems.app.memory import attach_storages, open_deferrals, open_memory
from acmems.app.plans import PlannedListener, planned
from acmems.app.tuning import raise_file_limit
from acmems.app.upkeep.notices import NoticeUpkeep
from acmems.app.upkeep.threads import Upkeep
from acmems.app.watched_files import FrontEndTls, WatchedFiles
from acmems.challenges import Http01
from acmems.config import Configuration
from acmems.events import Bus
from acmems.exceptions import ConfigurationError
from acmems.frontends.acts.contract import ActingParts
from acmems.frontends.acts.performing import Performer
from acmems.frontends.control.listener import ControlListener
from acmems.frontends.delivery import SigningParts
from acmems.frontends.est.authorities import CaCertificates
from acmems.frontends.est.front_end import BesideEst, EstFrontEnd
from acmems.frontends.http01 import Http01FrontEnd
from acmems.frontends.metrics.snapshot import Snapshot
from acmems.frontends.own.asking import OwnCertificates
from acmems.frontends.sign import SignFrontEnd
from acmems.frontends.tls.expiry import Expiry
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.logs import log_event
from acmems.logs.events import EventLog
from acmems.net.address import IPNetwork
from acmems.net.http import Application, HttpService
from acmems.net.listening import AcceptBalance, Listener, SocketPool, StreamService
from acmems.state.engines.contract import Database
from acmems.state.opening import StateClaim
from acmems.storages import Storage
from acmems.system.clock import SYSTEM, Clock, Deadline
from acmems.system.threads import HealthCheck, PeriodicThread

if TYPE_CHECKING:
    # Read only where somebody watches: the library of Prometheus takes two megabytes.
    from acmems.frontends.metrics.monitoring import Monitoring

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 30.0
LET_GO_SECONDS = 0.25  # of a stop, between two looks at who has hung up
WITHDRAW_SECONDS = 10.0
RETIRE_SECONDS = 1.0
ANSWER_SECONDS = 2.0  # for those to hear why they were refused whose requests were not finished in time
ACT_SECONDS = 5.0  # for commands to hear how their acts ended
UNSAVED_SECONDS = 0.5  # between two looks whether a storage has taken what it did not take before


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
        accounts: what it orders with.
        issuances: turn requests into chains.
        is_serving: whether it has begun to serve, so that it is to be stopped in order.
        perform: does what commands ask for.
        notices: tells operators what fails.
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
        self._generation = Generation.of(config, self._is_revoked)
        self._memory = None
        if share is None or share.state is not None:
            self._memory = open_memory(config, clock, None if share is None else share.state)
        attach_storages(config, self._memory)
        if self._memory is not None:
            self._memory.attach_lookups(config.context.lookups)
        policy = self._generation.policy
        self.accounts = Accounts(
            config,
            lambda: self.config,
            self._memory,
            self.bus,
            seconds=policy.seconds,
            subject=policy.subject,
            clock=clock,
        )
        self.issuances = self.accounts.issuances
        deferrals = open_deferrals(self._memory, self.issuances, self.bus, lambda: self._is_stopping)
        front_end = SignFrontEnd(
            lambda: self._generation.policy,
            self.issuances,
            self.bus,
            clock,
            deferrals,
            published=self.accounts.published,
        )
        parts = SigningParts(lambda: self._generation.policy, self.issuances, self.bus, clock)
        est = EstFrontEnd(parts, CaCertificates(self.accounts.certificates))
        # Two, because each is for one thread.
        self._signing = self._http(front_end)
        self._encrypted_signing = self._http(BesideEst(front_end, est, lambda: self.config.mgmt.est))
        self._files = WatchedFiles(clock)
        self._acme = AcmeServing(
            self._memory,
            config=lambda: self.config,
            policy=lambda: self._generation.policy,
            issuances=self.issuances,
            perform=lambda: self.perform,
            own_ports=lambda: {each.port for one in self.listeners for each in one.addresses},
            bus=self.bus,
            clock=clock,
        )
        self._listeners = Listeners(clock, sockets)
        self._monitoring: Monitoring | None = None  # only where somebody can ask
        self._is_watched_over = False
        self.is_serving = False
        self._is_stopping = False
        # There after a reload, until nothing is left of what was before.
        self._retiring: PeriodicThread | None = None
        self._upkeep = Upkeep(
            self.accounts,
            self._memory,
            config=lambda: self.config,
            policy=lambda: self._generation.policy,
            bus=self.bus,
            log=self._log,
            own=self._own_certificates() if share is None or share.position == 0 else None,
            clock=clock,
        )
        self.notices = NoticeUpkeep(self, self._memory, 0 if share is None else share.position)
        self._upkeep.threads += self.notices.threads
        self.perform = Performer(
            ActingParts(
                self.accounts,
                lambda: self._generation.policy,
                self._all_storages,
                None if self._memory is None else self._memory.chains,
                self.bus,
                clock,
            )
        )
        self._control = ControlListener(config.home, self.perform, clock)

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """Where it listens."""
        return self._listeners.all

    def _is_revoked(self, fingerprint: str) -> bool:
        return self._memory is not None and self._memory.chains.is_revoked(fingerprint)

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
        tls = self._files.prepare(self.config)
        listeners = self._planned(self.config, tls)
        if self._share is None:
            self._listeners.commit(self._listeners.prepare(listeners), start=False)
        else:
            self._listeners.use(listeners, self._share.sockets)
        try:
            is_known = self.accounts.find()
        except BaseException:
            self._listeners.close()
            self._close_state()
            raise
        self.is_serving = True
        self._listeners.start()
        self._files.commit(tls, self.config.auth)
        self._control.start()
        self._upkeep.start()
        self._watch_over()
        if is_known:
            self.accounts.check_behind()

    def start_acting(self, *, proves: bool, account: str | None = None) -> None:
        """Get ready to act for a command; no client is served, and nothing is begun that nobody asked for.

        Args:
            proves: whether names may have to be proved.
            account: the name of the account that it is about, None where that is not known yet.

        Raises:
            AccountError: there is no account.
            OSError: an address cannot be listened on; `filename` names it.
        """
        if proves:
            planned = [each for each in self._planned(self.config) if each.validator is not None]
            self._listeners.commit(self._listeners.prepare(planned))
        for each in self.accounts.parties:
            each.load(is_asked=each.name == account)

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
        tls = self._files.prepare(config)
        change = self._listeners.prepare(self._planned(config, tls))
        try:
            log()
        except BaseException:
            change.abort()
            raise
        carry_over(before, config)
        self._generation = Generation.of(config, self._is_revoked)
        self._listeners.commit(change)
        self._files.commit(tls, config.auth)
        self._retire_behind()
        self._watch_over()
        self.issuances.adapt(config.mgmt.max_orders, config.mgmt.max_waiting)
        self.accounts.reconfigure(config)
        self.accounts.check_behind()

    def retire(self, deadline: Deadline) -> None:
        """Stop accepting, let running requests finish, and keep what could not be kept; `stop` is to follow.

        Args:
            deadline: when to give up.
        """
        self._upkeep.retire()
        self._listeners.stop_accepting()
        self._listeners.drain(deadline)
        while self.issuances.workload.unsaved and not deadline.passed:
            self.clock.sleep(min(UNSAVED_SECONDS, deadline.remaining))

    def stop(self) -> None:
        """Stop accepting, let running requests finish to a deadline, withdraw challenges, close."""
        self._is_stopping = True
        self._control.close()
        if self._monitoring is not None and self._is_watched_over:
            self._monitoring.stop()
        self._upkeep.stop()
        self._acme.stop()
        self._files.close()
        self.notices.stop()
        if self._retiring is not None:
            self._retiring.close()
        deadline = self.clock.deadline(DRAIN_SECONDS)
        self._listeners.stop_accepting()
        if not self._finish_requests(deadline):
            logger.warning("some requests were not finished in time; asking again continues their orders")
        self.issuances.drain(deadline)
        if self._memory is not None:
            self._memory.leave()
        self.accounts.stop()
        self.issuances.close(self.clock.deadline(WITHDRAW_SECONDS))
        self._listeners.drain(self.clock.deadline(ANSWER_SECONDS))
        self._listeners.close()
        self.accounts.close()
        self._control.drain(self.clock.deadline(ACT_SECONDS))
        self._close_state()
        self._log.tell()

    def _finish_requests(self, deadline: Deadline) -> bool:
        """Let requests finish whose clients have not hung up, as far as is known; tell whether all have."""
        has_finished = False
        while not has_finished and not deadline.passed:
            self.issuances.let_go()  # those, too, who came a moment before the stop
            has_finished = self._listeners.drain(self.clock.deadline(min(LET_GO_SECONDS, deadline.remaining)))
        return has_finished

    @property
    def issuers(self) -> Sequence[AcmeIssuer]:
        """What speaks to CAs, one for each account."""
        return [each.issuer for each in self.accounts]

    @property
    def watched(self) -> tuple[HealthCheck, ...]:
        """What has threads that the server needs."""
        state = () if self._memory is None else self._memory.threads
        served: tuple[HealthCheck, ...] = (*self.listeners, self._control)
        issuances = list(self.issuances)
        ordering = [each for issuance in issuances for each in (issuance.issuer.loop, issuance)]
        return (*served, *ordering, *self._upkeep.threads, *self._files.threads, *self._acme.threads, *state)

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

    def _close_state(self) -> None:
        self._acme.close()
        self.config.context.lookups.close()
        if self._memory is not None:
            self._memory.close()

    @property
    def signing(self) -> StreamService:
        """Answers clients."""
        return self._signing

    @property
    def encrypted_signing(self) -> StreamService:
        """Answers clients that speak TLS."""
        return self._encrypted_signing

    def acme(self) -> StreamService:
        """Return what answers ACME clients.

        Raises:
            StateUnavailable: there is no state for their accounts.
        """
        return self._http(self._acme.front_end)

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

    def _http(self, application: Application) -> HttpService:
        """Return what serves clients at one listener, by the configuration of now."""
        return HttpService(
            application,
            lambda: self._generation.http,
            lambda: self._generation.policy.auth.trusted_proxies,
        )

    def _planned(
        self, config: Configuration, tls: Mapping[str, FrontEndTls] | None = None
    ) -> list[PlannedListener]:
        """Return what a configuration lets it listen on."""
        balance = None if self._share is None else self._share.balance
        encrypting = {section: each.tls for section, each in (tls or {}).items()}
        listeners = list(planned(config, self, balance, encrypting))
        for plan in (each.plan for each in listeners if each.is_for_clients):
            if plan.limits.connections < config.mgmt.max_connections:
                logger.warning(
                    "at most %d clients are served at the same time, not %d: raise the limit of open files "
                    "(LimitNOFILE)",
                    *(plan.limits.connections, config.mgmt.max_connections),
                )
        return listeners

    def _own_certificates(self) -> OwnCertificates:
        return OwnCertificates(
            lambda: self._files.shown,
            lambda: self._generation.policy,
            self.issuances,
            self._files.look,
            self.clock,
        )

    @property
    def expiries(self) -> Sequence[Expiry]:
        """What is wrong with the certificates that front ends show."""
        return self._files.expiries

    def _lazy_monitoring(self) -> Monitoring:
        if self._monitoring is None:
            module = importlib.import_module("acmems.frontends.metrics.monitoring")
            everyone = None if self._share is None else self._share.everyone
            self._monitoring = cast("Monitoring", module.Monitoring(self, everyone))
        return self._monitoring

    def _watch_over(self) -> None:
        """Begin to count and to look, once somebody can ask; from then on it goes on."""
        if self.config.metrics.listeners and not self._is_watched_over:
            self._is_watched_over = True
            self._lazy_monitoring().start()

    def _retire_behind(self) -> None:
        """Let go of listeners that are kept for running orders, as these end."""
        if self._retiring is not None:
            self._retiring.close()

        def retire() -> None:
            if self._listeners.retire(self.issuances.uses):
                retiring.close()

        retiring = PeriodicThread(
            "acmems-retire", retire, RETIRE_SECONDS, delay=GRACE_SECONDS, clock=self.clock
        )
        self._retiring = retiring
        retiring.start()
