"""What the process hears while it serves: signals, systemd, and the end of other processes."""

from __future__ import annotations

import logging
import signal

from acmems import logs
from acmems.app.listeners import tell_unused
from acmems.app.reloading import ConfigurationSource, tell_reloaded
from acmems.app.server import Server
from acmems.app.signals import StoppedEarly, taking
from acmems.app.tuning import tune_interpreter
from acmems.app.workers import Assignment, Supervisor, work
from acmems.config import Configuration
from acmems.frontends.control.place import await_command
from acmems.net.listening import SocketPool
from acmems.system.children import CHILDREN, reaps_orphans
from acmems.system.clock import SYSTEM
from acmems.system.systemd import Notifier, inherited_sockets

logger = logging.getLogger(__name__)


COMMAND_SECONDS = 30.0
"""For which a start waits for a command that acts: until that ends, it has the state."""


def run(config: Configuration, source: ConfigurationSource | None = None) -> int:
    """Run a server until SIGTERM or SIGINT, and read the configuration anew at each SIGHUP.

    Where it has several processes, this returns in each of them.

    Args:
        config: what to run.
        source: where the next configuration comes from; None: what is given stays.

    Returns:
        the exit code: 0, or that of a worker process which could not start and has said why.

    Raises:
        AcmeException, OSError: it cannot start, as `Server.start`.
    """
    source = source or ConfigurationSource()
    await_command(config.home, SYSTEM, COMMAND_SECONDS)
    if config.mgmt.processes == 1:
        _serve(config, source)
        return 0
    outcome = Supervisor(config, source, Notifier(), inherited_sockets()).run()
    if not isinstance(outcome, Assignment):
        return outcome
    work(outcome)
    return 0


def _serve(config: Configuration, source: ConfigurationSource) -> None:
    """Be a server, all in this process."""
    notifier = Notifier()
    inherited = inherited_sockets()
    server = Server(config, sockets=SocketPool(each.socket for each in inherited))
    with taking(*([signal.SIGCHLD] if reaps_orphans() else [])) as signals:
        try:
            with signals.interrupting():
                server.start()
        except StoppedEarly:
            if not server.is_serving:
                logger.info("stopped while starting")
                return
        else:
            tune_interpreter()
            tell_unused(server.unused_sockets, inherited)
            listening = _listening(server)
            logger.info("ready, %s", listening)
            notifier.ready(listening)
            notifier.watch(server.is_healthy)
            for number in signals.until_stop():
                if number == signal.SIGCHLD:
                    CHILDREN.reap()
                elif number == signal.SIGHUP:
                    notifier.reloading()
                    _reload(server, source)
                    tell_unused(server.unused_sockets, inherited)
                    notifier.ready(_listening(server))
        logger.info("stopping")
        notifier.stopping()
        server.stop()
    logger.info("stopped")


def _reload(server: Server, source: ConfigurationSource) -> None:
    """Go by the configuration as it is now, or say why not and change nothing."""

    def change(config: Configuration) -> None:
        server.reload(config, lambda: logs.configure(source.logging(config)))

    config = source.attempt(server.config, change)
    if config is not None:
        tell_reloaded(config, _listening(server))


def _listening(server: Server) -> str:
    return f"listening on {', '.join(server.addresses) or 'nothing'}"
