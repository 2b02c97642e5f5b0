"""Notices to one of the many services that the library apprise knows."""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from acmems.notices.contract import NoticeUndelivered
from acmems.notices.notice import Notice
from acmems.notices.options import NoticeRoute, delivery_seconds
from acmems.notices.targets.secrets import SecretSource, secret_from
from acmems.settings.options import Options
from acmems.system.clock import SYSTEM, Clock
from acmems.system.permissions import NamedFile
from acmems.system.programs import environment, run
from acmems.text import Secret

logger = logging.getLogger(__name__)

_WORKER = "acmems.notices.targets.apprise_worker"
_VARIABLES = ("https_proxy", "http_proxy", "no_proxy", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "VIRTUAL_ENV")
_MISSING = "what speaks to this service is not installed: pip install 'acmems[apprise]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppriseTarget:
    """Has apprise tell notices; its methods do what `NoticeTarget` says.

    The library runs in a process of its own: the calls of many services have no time limit.

    Args:
        name: its name in the configuration.
        route: which notices go there.
        url: the URL of the service as apprise spells it, which holds its secrets.
        timeout: seconds that one delivery may take.
        clock: for these.
    """

    name: str
    route: NoticeRoute
    url: SecretSource | None
    timeout: float = 60.0
    clock: Clock = SYSTEM

    @classmethod
    def from_options(cls, name: str, options: Options) -> Self:
        """Make the target that a section describes."""
        url = secret_from(
            options,
            "url",
            "URL of the service as [apprise](https://appriseit.com/services/) spells it, which holds its "
            "secrets",
            _apprise_url,
            is_required=True,
        )
        timeout = options.one(
            "timeout", delivery_seconds, 60.0, meaning="seconds after which a try to tell is given up"
        )
        return cls(name=name, route=NoticeRoute.from_options(options), url=url, timeout=timeout)

    def deliver(self, notice: Notice) -> None:
        """Have a notice told."""
        if self.url is None:
            raise NoticeUndelivered("there is no 'url'")
        if not _is_installed():
            raise NoticeUndelivered(_MISSING)
        asked = {
            "url": self.url.read().reveal(),
            "title": notice.title,
            "body": notice.text,
            "type": _type(notice),
        }
        command = [sys.executable, "-P", "-m", _WORKER]
        feed, deadline = json.dumps(asked).encode(), self.clock.deadline(self.timeout)
        try:
            ended = run(command, environment(*_VARIABLES), deadline, feed=feed, apart=True)
        except OSError as error:
            words = error.strerror or type(error).__name__
            raise NoticeUndelivered(f"the process of apprise cannot be started: {words}") from None
        if ended.code is None:
            raise NoticeUndelivered(f"apprise had not ended after {self.timeout:g} s")
        try:
            reason = json.loads(ended.output)["reason"]
        except (ValueError, KeyError, TypeError):
            reason = "the process of apprise ended without an answer"
        if reason is not None:
            raise NoticeUndelivered(str(reason))

    def self_check(self) -> Iterable[tuple[str, str]]:
        """Say what is wrong with the file, or that the library is not there."""
        if not _is_installed():
            yield "type", _MISSING
        if self.url is not None:
            yield from self.url.self_check()

    def named_files(self) -> Iterable[NamedFile]:
        """Return the file that has the URL."""
        return () if self.url is None else self.url.named_files()


def _type(notice: Notice) -> str:
    if notice.phase == "ended":
        return "SUCCESS"
    return {"info": "INFO", "warning": "WARNING", "critical": "FAILURE"}[notice.severity]


def _apprise_url(value: str) -> Secret:
    if "://" not in value or any(character.isspace() for character in value):
        raise ValueError("is no URL of apprise, such as ntfys://ntfy.example.org/topic")
    return Secret(value)


def _is_installed() -> bool:
    return importlib.util.find_spec("apprise") is not None
