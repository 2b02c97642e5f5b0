"""Where a running server gets its next configuration from, and what the log says when it is refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from acmems.config import Configuration
from acmems.exceptions import AcmeException, ConfigurationError
from acmems.logs.options import LoggingOptions
from acmems.settings.findings import Finding

logger = logging.getLogger(__name__)

Reread = Callable[[Configuration], Configuration]
"""Reads and checks the configuration anew, given the one that it is to replace."""

Explain = Callable[[Configuration, OSError], Finding | None]
"""Returns where a configuration has an address that cannot be listened on, and what to do about that."""


@dataclass(frozen=True, slots=True)
class ConfigurationSource:
    """Where a running server gets its next configuration from.

    Args:
        reread: reads it anew; None: what is given stays, and only the log is opened anew.
        logging_options: how to log, where the configuration does not count.
        explain: says more about an address that cannot be listened on.
    """

    reread: Reread | None = None
    logging_options: LoggingOptions | None = None
    explain: Explain = lambda *_: None

    def logging(self, config: Configuration) -> LoggingOptions:
        """Return how to log where a configuration runs."""
        return self.logging_options or config.logging

    def attempt(
        self, running: Configuration, change: Callable[[Configuration], None]
    ) -> Configuration | None:
        """Read the configuration anew and make a change; where that fails, say why in the log.

        Args:
            running: what the server goes by.
            change: goes by the new configuration, or raises and changes nothing.

        Returns:
            the new configuration; None where nothing has changed.
        """
        config: Configuration | None = None
        try:
            config = running if self.reread is None else self.reread(running)
            change(config)
        except ConfigurationError as error:
            for finding in error.findings:
                logger.error("%s", finding)  # noqa: TRY400 - a finding says it all
            tell_refused("the configuration has errors")
        except AcmeException as error:
            tell_refused(str(error))
        except OSError as error:
            known = None if config is None else self.explain(config, error)
            if known is not None:
                logger.error("%s", known)  # noqa: TRY400 - the same
            tell_refused(f"{f'{error.filename}: ' if error.filename else ''}{error.strerror or error}")
        except Exception:
            logger.exception("a bug")
            tell_refused("of a bug")
        else:
            return config
        return None


def tell_refused(reason: str) -> None:
    """Say in the log that a reload has changed nothing.

    Args:
        reason: why, for a person.
    """
    logger.error("not reloaded, all stays as it was: %s", reason)


def tell_reloaded(config: Configuration, listening: str) -> None:
    """Say in the log that the server goes by another configuration.

    Args:
        config: the configuration.
        listening: where the server listens.
    """
    for warning in config.warnings:
        logger.warning("%s", warning)
    logger.info("reloaded, %s", listening)
