"""The operator's log: one line an event, safe to print whatever it holds.

A line is a time, a level, a message, and `key=value` fields. Messages are constant texts of this
program; everything that comes from outside stands in fields, which any module adds with

    logger.warning("what happened", extra={"fields": {"path": path}})

Control characters, line ends and whatever else could fake a line or steer a terminal are escaped.
"""

from __future__ import annotations

import datetime
import json
import logging
import logging.handlers
import os
import re
import sys
import traceback
from collections.abc import Mapping
from typing import Any, Final, Protocol, TextIO

from acmems import events
from acmems.exceptions import ConfigurationError
from acmems.journal import JournalHandler

logger = logging.getLogger(__name__)

_BARE: Final = re.compile(r"[A-Za-z0-9_.,:;/@+*%?&~!()\[\]{}<>|^#$-]+")
_PLAIN_MESSAGE: Final = re.compile(r"[A-Za-z0-9_.,:;/@+*%?&~!()\[\]{}<>|^#$' -]+")
_COLOURS: Final = {"DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "31;1"}


class LoggingOptions(Protocol):
    """What `[logging]` says.

    Attributes:
        level: `debug`, `info`, `warning` or `error`.
        destination: `stderr`, `stdout`, `syslog`, `journal`, or the path of a file.
        format: `text` or `json`.
    """

    @property
    def level(self) -> str: ...

    @property
    def destination(self) -> str: ...

    @property
    def format(self) -> str: ...
