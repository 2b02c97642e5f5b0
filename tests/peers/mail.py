"""A mail server that keeps what it gets, and refuses what it is told to refuse."""

from __future__ import annotations

import email
import email.policy
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword
from tests.peers.process import free_port


@dataclass
class MailServer:
    """Takes mail on loopback; a context manager.

    Args:
        tls: speaks TLS after STARTTLS, which is required then; from the beginning where `is_implicit`.
        is_implicit: see there.
        user: who may send, with which password; None: anybody.
        answer: what it says to a mail; what begins with 2 means that it was taken.
        refused: recipients that it does not know.

    Attributes:
        mails: those that were taken.
        logins: what names and passwords were tried.
    """

    tls: ssl.SSLContext | None = None
    is_implicit: bool = False
    user: tuple[str, str] | None = None
    answer: str = "250 OK"
    refused: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    mails: list[EmailMessage] = field(default_factory=list)
    envelopes: list[Envelope] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        more: dict[str, Any] = {}
        if self.tls is not None:
            more = (
                {"ssl_context": self.tls}
                if self.is_implicit
                else {
                    "tls_context": self.tls,
                    "require_starttls": True,
                }
            )
        if self.user is not None:
            more |= {
                "authenticator": self._authenticate,
                "auth_required": True,
                "auth_require_tls": self.tls is not None and not self.is_implicit,
            }
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, ready_timeout=30, **more)
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: Any, _session: Any, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self.refused:
            return "550 there is no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:  # noqa: N802 - the same
        if self.answer.startswith("2"):
            content = envelope.content
            assert isinstance(content, bytes)
            message = email.message_from_bytes(content, policy=email.policy.default)
            assert isinstance(message, EmailMessage)
            self.mails.append(message)
            self.envelopes.append(envelope)
        return self.answer

    def _authenticate(self, *told: Any) -> AuthResult:
        found = told[-1]
        assert isinstance(found, LoginPassword)
        self.logins.append((found.login.decode(), found.password.decode()))
        is_good = self.logins[-1] == self.user
        return AuthResult(success=is_good, handled=is_good)
