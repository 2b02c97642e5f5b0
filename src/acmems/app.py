"""The composition root: turns a configuration into a running server, and stops it in order."""

from __future__ import annotations

import contextlib
import gc
import logging
import resource
import signal
import threading
from collections.abc import Iterator, Sequence

from acmems.challenges import Http01, Listening
from acmems.challenges.http01 import DEFAULT_LISTENERS
from acmems.config import Configuration
from acmems.events import Bus
from acmems.exceptions import AccountError, CAError, DeadlinePassed, RateLimited
from acmems.frontends.http01 import Http01FrontEnd
from acmems.frontends.metrics.monitoring import Monitoring
from acmems.frontends.options import MGMT_LISTENERS
from acmems.frontends.sign import SignFrontEnd
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuing.issuance import Issuance
from acmems.logs import log_event
from acmems.net.address import Address
from acmems.net.http import HttpLimits, HttpService
from acmems.net.listening import Listener, ListenerLimits
from acmems.storages import IssuerIdentity
from acmems.system.clock import SYSTEM, Clock
from acmems.system.systemd import Notifier
from acmems.system.threads import HealthCheck, PeriodicThread

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 30.0
WITHDRAW_SECONDS = 10.0
METRICS_CONNECTIONS = 64
UPKEEP_SECONDS = 30.0


class Server:
    """A running acmems.

    Args:
        config: what to run.
        clock: time.
    """

    def __init__(self, config: Configuration, clock: Clock = SYSTEM) -> None:
        self.config = config
        self.clock = clock
        self.bus = Bus()
        self.bus.subscribe(log_event)
        self.issuer = AcmeIssuer(config.account, config.mgmt.request_timeout, clock)
        identity = IssuerIdentity(config.account.directory_url, config.account.profile)
        # A little less than what clients wait, so that they hear the reason and not only that it is late.
        seconds = config.mgmt.request_timeout * 0.95
        self.issuance = Issuance(
            self.issuer,
            identity,
            self.bus,
            seconds=seconds,
            clock=clock,
            most_at_once=config.mgmt.max_orders,
            most_waiting=config.mgmt.max_waiting,
            subject=config.account.subject,
        )
        self.listeners: list[Listener] = []
        self._management: list[Listener] = []  # those of the listeners that clients ask at
        self._monitoring: Monitoring | None = None  # only where somebody can ask
        # Each has a thread of its own, so that a slow DNS provider keeps no chain from being stored.
        self._sweeping = PeriodicThread("acmems-sweep", self._sweep, UPKEEP_SECONDS, clock=clock)
        self._saving = PeriodicThread("acmems-save", self.issuance.save_kept, UPKEEP_SECONDS, clock=clock)

    def start(self) -> None:
        """Check storages, open the account, and listen.

        Raises:
            StorageUnavailable: a storage cannot be written.
            AccountError, NeedToAgreeToTOS: there is no account yet, or its key cannot be used.
            CAError, RateLimited, DeadlinePassed: there is no account yet, and the CA does not give one.
            OSError: an address cannot be listened on; `filename` names it.
        """
        _raise_file_limit()
        for storage in self.config.storages.values():
            storage.check()
        self._open_account()
        self._listen()
        for thread in (self._sweeping, self._saving):
            thread.start()

    def stop(self) -> None:
        """Stop accepting, let running requests finish to a deadline, withdraw challenges, close."""
        if self._monitoring is not None:
            self._monitoring.stop()
        for thread in (self._sweeping, self._saving):
            thread.close()
        deadline = self.clock.deadline(DRAIN_SECONDS)
        for listener in self._management:
            listener.stop_accepting()
        self.issuance.let_go()
        for listener in self._management:
            if not listener.drain(deadline):
                logger.warning("some requests were not finished in time; asking again continues their orders")
        self.issuance.drain(deadline)
        self.issuer.stop()
        self.issuance.close(self.clock.deadline(WITHDRAW_SECONDS))
        for listener in self.listeners:
            listener.close()
        self.issuer.close()

    @property
    def watched(self) -> tuple[HealthCheck, ...]:
        """What has threads that the server needs."""
        return (*self.listeners, self.issuer.loop, self.issuance, self._sweeping, self._saving)

    def is_healthy(self) -> bool:
        """Tell whether every thread that the server needs lives and makes progress; log those that do not."""
        unhealthy = [each.name for each in self.watched if not each.is_healthy()]
        if unhealthy:
            logger.error("ended or hanging: %s", ", ".join(unhealthy))
        return not unhealthy

    @property
    def addresses(self) -> list[str]:
        """What is listened on, for a person: `mgmt 127.0.0.1:1313`."""
        return [f"{listener.name} {address}" for listener in self.listeners for address in listener.addresses]

    def _open_account(self) -> None:
        with self.issuer.directory.founding():
            self._find_account()

    def _find_account(self) -> None:
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
        try:
            self.issuer.refresh()
        except (AccountError, CAError, RateLimited, DeadlinePassed) as error:
            if not directory.has_registration():
                raise
            # The first order asks again.
            logger.error("stored chains are delivered, but nothing can be ordered: %s", error)  # noqa: TRY400 - its words tell all

    def _listen(self) -> None:
        mgmt = self.config.mgmt
        front_end = SignFrontEnd(self.config.auth, self.issuance, self.bus, self.clock)
        service = HttpService(front_end, HttpLimits(request_seconds=mgmt.request_timeout))
        limits = ListenerLimits(connections=mgmt.max_connections)
        try:
            self._management += self._open("mgmt", mgmt.listeners, service, MGMT_LISTENERS, limits)
            for validator in self.config.validators.values():
                if isinstance(validator, Http01):
                    service = HttpService(Http01FrontEnd(validator, self.bus, self.clock))
                    self._open(f"http01 {validator.name}", validator.listeners, service, DEFAULT_LISTENERS)
                elif isinstance(validator, Listening) and validator.listeners:
                    self.listeners.append(validator.listen())
            self._open_metrics()
        except OSError:
            for listener in self.listeners:
                listener.close()
            raise

    def _open_metrics(self) -> None:
        if self.config.metrics.listeners:
            self._monitoring = Monitoring(self)
            limits = ListenerLimits(connections=METRICS_CONNECTIONS)
            service = HttpService(self._monitoring.front_end)
            self._open("metrics", self.config.metrics.listeners, service, (), limits)
            self._monitoring.start()

    def _open(
        self,
        name: str,
        addresses: Sequence[Address],
        service: HttpService,
        defaults: Sequence[Address],
        limits: ListenerLimits | None = None,
    ) -> list[Listener]:
        """Listen on these addresses; return nothing where there are none."""
        if not addresses:
            return []
        listener = Listener(name, addresses, service, limits=limits, defaults=defaults, clock=self.clock)
        self.listeners.append(listener.open())
        return [listener]

    def _sweep(self) -> None:
        self.issuer.sweep(self.config.validators, self._sweeping.progress)


def run(config: Configuration) -> None:
    """Run a server until SIGTERM or SIGINT.

    Args:
        config: what to run.

    Raises:
        AcmeException, OSError: it cannot start, as `Server.start`.
    """
    notifier = Notifier()
    server = Server(config)
    with _stop_signal() as stop:
        try:
            with stop.interrupting():
                server.start()
            _spare_the_collector()
        except _StoppedEarly:
            logger.info("stopped while starting")
            return
        listening = ", ".join(server.addresses) or "nothing"
        logger.info("ready, listening on %s", listening)
        notifier.ready(f"listening on {listening}")
        notifier.watch(server.is_healthy)
        stop.wait()
        logger.info("stopping")
        notifier.stopping()
        server.stop()
    logger.info("stopped")


class _StoppedEarly(BaseException):
    """A stop signal came while something was going on that need not be finished."""


class _Stop:
    """What SIGTERM and SIGINT do: end the start at once, and what runs in order."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._interrupts = False

    def __call__(self, *_: object) -> None:
        """Note that the server shall stop."""
        self._asked.set()
        if self._interrupts:
            self._interrupts = False
            raise _StoppedEarly

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Raise `_StoppedEarly` here, in the main thread, when a signal comes."""
        self._interrupts = True
        try:
            yield
        finally:
            self._interrupts = False

    def wait(self) -> None:
        """Return when a signal has come."""
        self._asked.wait()


@contextlib.contextmanager
def _stop_signal() -> Iterator[_Stop]:
    stop = _Stop()
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _spare_the_collector() -> None:
    """Keep what the start has made out of later garbage collections, and have those come less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def _raise_file_limit() -> None:
    """Allow as many open files as the system lets us: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
