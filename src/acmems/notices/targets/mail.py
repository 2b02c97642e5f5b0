"""Notices by mail."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import smtplib
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from typing import Literal, Self, cast, get_args

from acmems.net.address import Address, parse_address
from acmems.notices.contract import NoticeUndelivered
from acmems.notices.notice import Notice
from acmems.notices.options import NoticeRoute, delivery_seconds
from acmems.notices.targets.connecting import ca_file_check, connected, trust, words_of
from acmems.notices.targets.secrets import SecretSource, secret_from
from acmems.settings import values
from acmems.settings.options import Options
from acmems.system.clock import SYSTEM, Clock
from acmems.system.permissions import NamedFile
from acmems.text import one_line

logger = logging.getLogger(__name__)

MailSecurity = Literal["starttls", "implicit", "none"]
DEFAULT_SERVER = Address("localhost", 25)
PORTS: dict[MailSecurity, int] = {"starttls": 587, "implicit": 465, "none": 25}
_ADDRESS = re.compile(r"[^\s@,;:<>()\[\]\"\\]+@[^\s@,;:<>()\"\\]+", re.ASCII)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_LONGEST_SUBJECT = 200


class _Session(smtplib.SMTP):
    """Speaks SMTP on a connection that is there.

    Args:
        connection: the connection.
        address: what it leads to.
        seconds: how long an answer may take.
    """

    def __init__(self, connection: socket.socket, address: Address, seconds: float) -> None:
        self._connection = connection
        super().__init__(
            address.host, address.port, local_hostname=socket.gethostname(), timeout=max(0.001, seconds)
        )

    def _get_socket(self, _host: str, _port: int, _timeout: float) -> socket.socket:
        return self._connection


@dataclass(frozen=True, slots=True, kw_only=True)
class MailTarget:
    """Sends notices to mail addresses; its methods do what `NoticeTarget` says.

    Args:
        name: its name in the configuration.
        route: which notices go there.
        server: takes mail.
        security: whether TLS is spoken from the beginning, later, or not.
        sender: who sends.
        recipients: who gets it.
        user: who logs in, None: nobody does.
        password: of that user.
        ca_file: further trust anchors.
        timeout: seconds that one delivery may take.
        clock: for these.
    """

    name: str
    route: NoticeRoute
    server: Address
    security: MailSecurity
    sender: str
    recipients: tuple[str, ...]
    user: str | None = None
    password: SecretSource | None = None
    ca_file: Path | None = None
    timeout: float = 30.0
    clock: Clock = SYSTEM

    @classmethod
    def from_options(cls, name: str, options: Options) -> Self:
        """Make the target that a section describes."""
        route = NoticeRoute.from_options(options)
        given = options.one(
            "server",
            values.text,
            None,
            meaning="`host:port` of the mail server; without a port: 587, 465 with `tls = implicit`, 25 with "
            "`tls = none`; `localhost:25` without this key",
        )
        chosen = options.one(
            "tls",
            values.choice(*get_args(MailSecurity)),
            None,
            meaning="`starttls`: TLS after a greeting, and no mail without it; `implicit`: TLS from the "
            "beginning; `none`: no TLS; without this key: `none` on this machine, otherwise `starttls`",
        )
        server = DEFAULT_SERVER
        if given is not None:
            try:
                server = parse_address(given, default_port=0)
            except ValueError as error:
                options.report(f"server: {error}", "server")
        is_near = server.host in _LOOPBACK
        security = cast("MailSecurity", chosen or ("none" if is_near else "starttls"))
        server = Address(server.host, server.port or PORTS[security])
        user = options.one("user", values.text, None, meaning="name to log in with at the mail server")
        password = secret_from(options, "password", "password of that user")
        if (user is None) != (password is None):
            missing = "user" if user is None else "password-file"
            options.report(f"{options.section} needs '{missing} = …' as well, to log in", "user")
        if security == "none" and user is not None and not is_near:
            options.report(
                "the password goes over the network in the clear: use 'tls = starttls' or 'tls = implicit'",
                "tls",
                warning=True,
            )
        return cls(
            name=name,
            route=route,
            server=server,
            security=security,
            sender=options.required("from", _mail_address, meaning="mail address of the sender") or "",
            recipients=_recipients(options),
            user=user,
            password=password,
            ca_file=options.one(
                "ca-file",
                values.path,
                None,
                meaning="PEM file with trust anchors for the mail server, in addition to those of the system",
            ),
            timeout=options.one(
                "timeout", delivery_seconds, 30.0, meaning="seconds after which a try to send is given up"
            ),
        )

    def deliver(self, notice: Notice) -> None:
        """Send a mail."""
        deadline = self.clock.deadline(self.timeout)
        message = self.message(notice)
        try:
            tls = None if self.security == "none" else trust(self.ca_file)
            early = tls if self.security == "implicit" else None
            with connected(self.server, deadline, early) as connection:
                session = _Session(connection, self.server, deadline.remaining)
                if self.security == "starttls" and tls is not None:
                    self._start_tls(session, tls)
                if self.user is not None and self.password is not None:
                    self._login(session, self.user, self.password)
                refused = session.send_message(message, self.sender, self.recipients)
                with contextlib.suppress(OSError):
                    session.quit()  # the mail is taken, whatever becomes of the connection
        except smtplib.SMTPRecipientsRefused as error:
            raise self._failure(f"it takes mail for none of {', '.join(error.recipients)}") from None
        except (OSError, ssl.CertificateError) as error:
            raise self._failure(words_of(error, deadline)) from None
        for recipient, (code, words) in refused.items():
            logger.warning(
                "notice %s: the mail server %s does not take mail for %s: %d %s",
                *(self.name, self.server, recipient, code, one_line(words.decode(errors="replace"))),
            )

    def message(self, notice: Notice) -> EmailMessage:
        """Return the mail for a notice."""
        domain = self.sender.rpartition("@")[2]
        message = EmailMessage(SMTP)
        message["From"] = self.sender
        message["To"] = ", ".join(self.recipients)
        message["Subject"] = one_line(notice.title, _LONGEST_SUBJECT)
        message["Date"] = format_datetime(notice.at)
        message["Message-ID"] = f"<{notice.id}@{domain}>"
        # All mails for one cause are one conversation.
        thread = hashlib.sha256(f"{notice.server} {notice.cause}".encode()).hexdigest()[:32]
        message["References"] = f"<{thread}@{domain}>"
        message["Auto-Submitted"] = "auto-generated"
        if notice.severity == "critical" and notice.phase != "ended":
            message["Importance"] = "high"
        for key in ("kind", "phase", "severity"):
            message[f"X-Acmems-{key.capitalize()}"] = getattr(notice, key)
        message.set_content(f"{notice.text}\n\n-- \nacmems on {notice.server}\n")
        return message

    def self_check(self) -> Iterable[tuple[str, str]]:
        """Say what is wrong with the files."""
        yield from ca_file_check(self.ca_file)
        if self.password is not None:
            yield from self.password.self_check()

    def named_files(self) -> Iterable[NamedFile]:
        """Return these files."""
        if self.ca_file is not None:
            yield NamedFile("ca-file", self.ca_file)
        if self.password is not None:
            yield from self.password.named_files()

    def _start_tls(self, session: smtplib.SMTP, tls: ssl.SSLContext) -> None:
        session.ehlo_or_helo_if_needed()
        if not session.has_extn("starttls"):
            raise self._failure("it offers no STARTTLS: set 'tls' to what it does offer")
        session.starttls(context=tls)

    def _login(self, session: smtplib.SMTP, user: str, password: SecretSource) -> None:
        try:
            session.login(user, password.read().reveal())
        except smtplib.SMTPNotSupportedError:
            raise self._failure("it offers no way to log in: remove 'user' and the password") from None
        except smtplib.SMTPAuthenticationError as error:
            raise self._failure(
                f"it does not let {user} log in ({error.smtp_code}): see 'user' and the password"
            ) from None

    def _failure(self, words: str) -> NoticeUndelivered:
        return NoticeUndelivered(f"the mail server {self.server}: {words}")


def _recipients(options: Options) -> tuple[str, ...]:
    recipients = options.many("to", _mail_address, meaning="mail address that notices go to")
    if not options.has("to"):
        options.report(f"{options.section} needs 'to = …'")
    return recipients


def _mail_address(value: str) -> str:
    if _ADDRESS.fullmatch(value) is None:
        raise ValueError(f"{one_line(value)!r} is no mail address, such as ops@example.org")
    return value
