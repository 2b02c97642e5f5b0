"""What takes notices to people: one file a type, one contract, one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from acmems.notices.contract import NoticeTarget
from acmems.notices.targets.apprise_service import AppriseTarget
from acmems.notices.targets.mail import MailTarget
from acmems.notices.targets.program import ProgramTarget
from acmems.notices.targets.webhook import WebhookTarget

NOTICE_TARGETS: Final[Mapping[str, type[NoticeTarget]]] = {
    "mail": MailTarget,
    "webhook": WebhookTarget,
    "exec": ProgramTarget,
    "apprise": AppriseTarget,
}
