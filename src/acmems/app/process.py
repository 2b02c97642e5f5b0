"""What the process hears while it serves: signals, systemd, and the end of other processes."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from acmems import logs
from acmems.app.server import Server
from acmems.config import Configuration
from acmems.exceptions import AcmeException, ConfigurationError
from acmems.frontends.control.place import await_command
from acmems.logs.options import LoggingOptions
from acmems.net.address import Address
from acmems.net.listening import SocketPool
from acmems.settings.findings import Finding
from acmems.system.children import CHILDREN, reaps_orphans
from acmems.system.clock import SYSTEM
from acmems.system.systemd import InheritedSocket, Notifier, inherited_sockets

logger = logging.getLogger(__name__)

Reread = Callable[[Configuration], Configuration]
"""Reads and checks the configuration anew, given the one that it is to replace."""

Explain = Callable[[Configuration, OSError], Finding | None]
"""Returns where a configuration has an address that cannot be listened on, and what to do about that."""

COMMAND_SECONDS = 30.0
"""For which a start waits for a command that acts: until that ends, it has the state."""
SWITCH_SECONDS = 0.0005  # for which a thread may keep the interpreter while others want it
_STOPS = frozenset({signal.SIGTERM, signal.SIGINT})


def run(
    config: Configuration,
    reread: Reread | None = None,
    logging_options: LoggingOptions | None = None,
    explain: Explain = lambda *_: None,
) -> None:
    """Run a server until SIGTERM or SIGINT, and read the configuration anew at each SIGHUP.

    Args:
        config: what to run.
        reread: reads the configuration anew; None: what is given stays, and only the log is opened anew.
        logging_options: how to log, where the configuration does not count.
        explain: says more about an address that a reload cannot listen on.

    Raises:
        AcmeException, OSError: it cannot start, as `Server.start`.
    """
    notifier = Notifier()
    inherited = inherited_sockets()
    await_command(config.account.dir, SYSTEM, COMMAND_SECONDS)
    server = Server(config, sockets=SocketPool(each.socket for each in inherited))
    with _signals() as signals:
        try:
            with signals.interrupting():
                server.start()
        except _StoppedEarly:
            if not server.is_serving:
                logger.info("stopped while starting")
                return
        else:
            _spare_the_collector()
            # Whoever waits for the interpreter waits for as long as this at every step of its way.
            sys.setswitchinterval(SWITCH_SECONDS)
            _tell_unused(server, inherited)
            listening = _listening(server)
            logger.info("ready, %s", listening)
            notifier.ready(listening)
            notifier.watch(server.is_healthy)
            for number in signals.until_stop():
                if number == signal.SIGCHLD:
                    CHILDREN.reap()
                elif number == signal.SIGHUP:
                    notifier.reloading()
                    _reload(server, reread or _same, logging_options, explain)
                    _tell_unused(server, inherited)
                    notifier.ready(_listening(server))
        logger.info("stopping")
        notifier.stopping()
        server.stop()
    logger.info("stopped")


def _reload(server: Server, reread: Reread, logging_options: LoggingOptions | None, explain: Explain) -> None:
    """Go by the configuration as it is now, or say why not and change nothing."""
    config: Configuration | None = None
    try:
        config = reread(server.config)
        options = logging_options or config.logging
        server.reload(config, lambda: logs.configure(options))
    except ConfigurationError as error:
        for finding in error.findings:
            logger.error("%s", finding)  # noqa: TRY400 - a finding says it all
        _tell_refused("the configuration has errors")
    except AcmeException as error:
        _tell_refused(str(error))
    except OSError as error:
        finding = None if config is None else explain(config, error)
        if finding is not None:
            logger.error("%s", finding)  # noqa: TRY400 - the same
        _tell_refused(f"{f'{error.filename}: ' if error.filename else ''}{error.strerror or error}")
    except Exception:
        logger.exception("a bug")
        _tell_refused("of a bug")
    else:
        for warning in config.warnings:
            logger.warning("%s", warning)
        logger.info("reloaded, %s", _listening(server))


def _same(config: Configuration) -> Configuration:
    return config


def _tell_refused(reason: str) -> None:
    logger.error("not reloaded, all stays as it was: %s", reason)


def _listening(server: Server) -> str:
    return f"listening on {', '.join(server.addresses) or 'nothing'}"


def _tell_unused(server: Server, inherited: Sequence[InheritedSocket]) -> None:
    """Tell of sockets that systemd has opened for nothing: who connects there waits in vain."""
    unused = server.unused_sockets
    for each in inherited:
        if each.socket in unused:
            logger.warning(
                "systemd has opened the socket %s at %s, where no listener is configured: nobody is answered",
                each.name,
                _place(each.socket),
            )


def _place(sock: socket.socket) -> str:
    name = sock.getsockname()
    if sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return str(name)
    return f"{Address(*name[:2])}{' (UDP)' if sock.type == socket.SOCK_DGRAM else ''}"


class _StoppedEarly(BaseException):
    """A stop signal came while something was going on that need not be finished."""


class _Signals:
    """The signals that the process takes.

    The interpreter writes their numbers into a pipe. An event would not do: the main thread, which waits for
    it, is the one that a signal interrupts, and it would wait for itself.

    Args:
        pipe: where their numbers are read.
    """

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._interrupts = False

    def __call__(self, number: int, _: FrameType | None) -> None:
        """Interrupt what need not be finished, if the signal is to stop the process."""
        if self._interrupts and number in _STOPS:
            self._interrupts = False
            raise _StoppedEarly

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Raise `_StoppedEarly` here, in the main thread, when a signal comes that stops the process."""
        self._interrupts = True
        try:
            yield
        finally:
            self._interrupts = False

    def until_stop(self) -> Iterator[int]:
        """Yield the signals that come, until one is to stop; several that are there at once are one."""
        while True:
            numbers = set(os.read(self._pipe, 4096))
            if numbers & _STOPS:
                return
            yield from numbers


@contextlib.contextmanager
def _signals() -> Iterator[_Signals]:
    taken = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    if reaps_orphans():
        taken.add(signal.SIGCHLD)
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(writing, False)
    signals = _Signals(reading)
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    before = {number: signal.signal(number, signals) for number in taken}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(reading)
        os.close(writing)


def _spare_the_collector() -> None:
    """Keep what the start has made out of later garbage collections, and have those come less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
