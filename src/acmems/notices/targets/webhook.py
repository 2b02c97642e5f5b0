"""Notices as JSON by HTTP, signed if that is wanted (the scheme of standardwebhooks.com)."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import http.client
import json
import re
import string
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from acmems import __version__
from acmems.net.address import Address
from acmems.notices.contract import NoticeUndelivered
from acmems.notices.notice import Notice
from acmems.notices.options import NoticeRoute, delivery_seconds
from acmems.notices.targets.connecting import ca_file_check, connected, trust, words_of
from acmems.notices.targets.secrets import SecretSource, secret_from
from acmems.settings import values
from acmems.settings.options import Options
from acmems.system.clock import SYSTEM, Clock
from acmems.system.permissions import NamedFile, reason
from acmems.text import Secret

_LARGEST_TEMPLATE = 65536
_LONGEST_ANSWER = 65536
_KEY_PREFIX = "whsec_"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookTarget:
    """Posts notices to a URL; its methods do what `NoticeTarget` says.

    Args:
        name: its name in the configuration.
        route: which notices go there.
        url: where to; it may hold a token, and is told to nobody.
        secret: signs, None: nothing is signed.
        template: a file that says what is posted, None: the notice as it is.
        ca_file: further trust anchors.
        timeout: seconds that one delivery may take.
        clock: for these, and for the time that is signed.
    """

    name: str
    route: NoticeRoute
    url: SecretSource | None
    secret: SecretSource | None = None
    template: Path | None = None
    ca_file: Path | None = None
    timeout: float = 30.0
    clock: Clock = SYSTEM

    @classmethod
    def from_options(cls, name: str, options: Options) -> Self:
        """Make the target that a section describes."""
        url = secret_from(
            options,
            "url",
            "`https://…` or `http://…`: notices are posted there; redirects are not followed",
            webhook_url,
            is_required=True,
        )
        if url is not None and url.given is not None and _is_open(url.given):
            options.report(
                "what is posted goes over the network in the clear: use https", "url", warning=True
            )
        return cls(
            name=name,
            route=NoticeRoute.from_options(options),
            url=url,
            secret=secret_from(
                options,
                "secret",
                "secret for the header `webhook-signature`; after `whsec_` it is base64",
                _signing_secret,
            ),
            template=options.one(
                "template-file",
                values.path,
                None,
                meaning="file with the JSON that is posted, in which `$subject`, `$text` and so on stand for "
                "members of the notice; without it, the notice itself is posted",
            ),
            ca_file=options.one(
                "ca-file",
                values.path,
                None,
                meaning="PEM file with trust anchors for the server, in addition to those of the system",
            ),
            timeout=options.one(
                "timeout", delivery_seconds, 30.0, meaning="seconds after which a try to post is given up"
            ),
        )

    def deliver(self, notice: Notice) -> None:
        """Post a notice; only an answer of 200 to 299 means that it was taken."""
        if self.url is None:
            raise NoticeUndelivered("there is no 'url'")
        deadline = self.clock.deadline(self.timeout)
        url = urlsplit(self.url.read().reveal())
        address = Address(url.hostname or "", url.port or _PORTS[url.scheme])
        body = self.body(notice)
        headers = {
            "Host": url.netloc.rpartition("@")[2],
            "Content-Type": "application/json",
            "User-Agent": f"acmems/{__version__}",
            "Connection": "close",
            "webhook-id": notice.id,
        }
        if self.secret is not None:
            stamp = int(self.clock.now().timestamp())
            headers["webhook-timestamp"] = str(stamp)
            headers["webhook-signature"] = signature(self.secret.read(), notice.id, stamp, body)
        path = f"{url.path or '/'}{f'?{url.query}' if url.query else ''}"
        try:
            tls = trust(self.ca_file) if url.scheme == "https" else None
            with connected(address, deadline, tls) as connection:
                speaking = http.client.HTTPConnection(address.host, address.port)
                speaking.sock = connection
                speaking.request("POST", path, body, headers)
                with contextlib.closing(speaking.getresponse()) as answer:
                    answer.read(_LONGEST_ANSWER)
                    status = answer.status
            if deadline.passed:  # what was cut off looks like an answer that has ended
                raise TimeoutError
        except (OSError, http.client.HTTPException) as error:
            raise NoticeUndelivered(f"the webhook at {address}: {words_of(error, deadline)}") from None
        if not http.HTTPStatus.OK <= status < http.HTTPStatus.MULTIPLE_CHOICES:
            raise NoticeUndelivered(f"the webhook at {address}: {_refusal(status)}")

    def body(self, notice: Notice) -> bytes:
        """Return what is posted.

        Raises:
            NoticeUndelivered: the template cannot be used.
        """
        document = notice.document()
        if self.template is None:
            return json.dumps(document).encode()
        try:
            return filled(_template(self.template), document)
        except OSError as error:
            words = f"{self.template} cannot be read: {reason(error, self.template)}"
        except ValueError as error:
            words = f"{self.template}: {error}"
        raise NoticeUndelivered(f"template-file: {words}")

    def self_check(self) -> Iterable[tuple[str, str]]:
        """Say what is wrong with the files."""
        for source in (self.url, self.secret):
            if source is not None:
                yield from source.self_check()
        yield from ca_file_check(self.ca_file)
        if self.template is not None:
            try:
                filled(_template(self.template), _HARD)
            except OSError as error:
                yield "template-file", f"{self.template} cannot be read: {reason(error, self.template)}"
            except ValueError as error:
                yield "template-file", f"{self.template}: {error}"

    def named_files(self) -> Iterable[NamedFile]:
        """Return these files."""
        for source in (self.url, self.secret):
            if source is not None:
                yield from source.named_files()
        if self.template is not None:
            yield NamedFile("template-file", self.template)
        if self.ca_file is not None:
            yield NamedFile("ca-file", self.ca_file)


def signature(secret: Secret, identity: str, stamp: int, body: bytes) -> str:
    """Return what `webhook-signature` says.

    Args:
        secret: the secret; base64 after `whsec_`, otherwise a text.
        identity: what `webhook-id` says.
        stamp: what `webhook-timestamp` says, in seconds since 1970.
        body: what is posted.
    """
    signed = f"{identity}.{stamp}.".encode() + body
    made = hmac.new(_key(secret.reveal()), signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(made).decode()}"


def filled(template: str, document: dict[str, Any]) -> bytes:
    """Return a template with the members of a notice.

    A text becomes what stands between the quotes of a JSON string, and `facts` and `document` whole values.

    Args:
        template: the template.
        document: the notice.

    Raises:
        ValueError: it is no template, or what it makes is no JSON.
    """
    members = {name: json.dumps(value)[1:-1] for name, value in document.items() if isinstance(value, str)}
    members |= {"facts": json.dumps(document["facts"]), "document": json.dumps(document)}
    try:
        made = string.Template(template).substitute(members)
    except KeyError as error:
        known = ", ".join(f"${name}" for name in sorted(members))
        raise ValueError(f"there is no ${error.args[0]}; there are {known}; $$ is a dollar") from None
    except ValueError:
        raise ValueError("a dollar stands alone: write $$ for one") from None
    try:
        json.loads(made)
    except ValueError as error:
        raise ValueError(f"what it makes is no JSON: {error}") from None
    return made.encode()


def webhook_url(value: str) -> Secret:
    """Parse the URL of a webhook, which may hold a token.

    Raises:
        ValueError: it is none; the words do not quote it.
    """
    try:
        url = urlsplit(value)
        is_good = (
            url.scheme in _PORTS and values.is_host(url.hostname) and url.port != 0 and "@" not in url.netloc
        )
    except ValueError:
        is_good = False
    if not is_good or not re.fullmatch(r"[!-~]+", value):
        raise ValueError("is no URL of a webhook, such as https://hooks.example.org/acmems")
    return Secret(value)


def _signing_secret(value: str) -> Secret:
    try:
        key = _key(value)
    except (ValueError, binascii.Error):
        raise ValueError(f"is not base64 after '{_KEY_PREFIX}'") from None
    if not key:
        raise ValueError("must not be empty")
    return Secret(value)


def _key(secret: str) -> bytes:
    if secret.startswith(_KEY_PREFIX):
        return base64.b64decode(secret.removeprefix(_KEY_PREFIX), validate=True)
    return secret.encode()


def _is_open(url: Secret) -> bool:
    parts = urlsplit(url.reveal())
    return parts.scheme == "http" and parts.hostname not in _LOOPBACK


def _refusal(status: int) -> str:
    if http.HTTPStatus.MULTIPLE_CHOICES <= status < http.HTTPStatus.BAD_REQUEST:
        return f"it answered {status}, and redirects are not followed: write the URL where it leads to"
    return f"it answered {status}"


def _template(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.read(_LARGEST_TEMPLATE)


_HARD: dict[str, Any] = {
    **dict.fromkeys(("id", "cause", "kind", "phase", "severity", "at", "server"), "x"),
    "subject": 'a "quoted" \\ text',
    "text": "lines\nof 'text'\twith a tab and \u2026",
    "facts": {"certificates": 1},
}
"""What a template must be able to take."""
