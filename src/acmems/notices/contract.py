"""The contract between the outbox and what takes notices to people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, Self

from acmems.exceptions import AcmeException
from acmems.notices.notice import Notice
from acmems.notices.options import NoticeRoute
from acmems.settings.options import Options
from acmems.system.permissions import NamedFile


class NoticeUndelivered(AcmeException):
    """A target did not take a notice; the message says why and what to do, and holds no secret."""


class NoticeTarget(Protocol):
    """What takes notices: a `[notice "NAME"]`."""

    @property
    def name(self) -> str:
        """The name in the configuration."""

    @property
    def route(self) -> NoticeRoute:
        """Which notices go there."""

    @classmethod
    def from_options(cls, name: str, options: Options) -> Self:
        """Make the target that a section describes.

        It MUST NOT touch anything outside, and MUST report problems to the options, not raise them.
        """

    def deliver(self, notice: Notice) -> None:
        """Hand a notice over, once.

        It MUST return or raise within the target's own timeout, MUST give the notice's `id` to whoever takes
        it, since a notice may be delivered twice, and MUST NOT follow anybody elsewhere with a secret.

        Raises:
            NoticeUndelivered: it was not taken.
        """

    def self_check(self) -> Iterable[tuple[str, str]]:
        """Say what is wrong outside with what the section names, as pairs of a key and a reason.

        It MUST change nothing, and tell nobody anything: `acmems check` calls it.
        """

    def named_files(self) -> Iterable[NamedFile]:
        """Return the files that the section names, whether they are there or not."""
