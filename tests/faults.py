"""What a fault proxy does to a request or to its answer: one word each; see `tests.fault_proxy`."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

# Where Pebble keeps things.
DIRECTORY = "^/dir$"
NEW_NONCE = "^/nonce-plz$"
NEW_ACCOUNT = "^/sign-me-up$"
REVOKE = "^/revoke-cert$"
KEY_CHANGE = "^/rollover-account-key$"
NEW_ORDER = "^/order-plz$"
ORDER = "^/my-order/"
AUTHORIZATION = "^/authZ/"
CHALLENGE = "^/chalZ/"
FINALIZE = "^/finalize-order/"
CERTIFICATE = "^/certZ/"


@dataclass(frozen=True)
class Seen:
    """A request that reached the proxy."""

    method: str
    path: str
    body: bytes = field(repr=False)

    @property
    def protected(self) -> dict[str, Any]:
        """The protected header of its JWS."""
        return self._part("protected")

    @property
    def payload(self) -> dict[str, Any]:
        """The payload of its JWS, empty for a POST-as-GET."""
        return self._part("payload")

    def _part(self, name: str) -> dict[str, Any]:
        text = json.loads(self.body)[name]
        part: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "==") or b"{}")
        return part


@dataclass
class Reply:
    """An answer on its way back."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


class Conversation(Protocol):
    """What a rule can do with a request: let the CA answer it or not, send that answer or another."""

    def forward(self) -> Reply:
        """Have the CA answer."""

    def send(self, reply: Reply, *, keep: int | None = None, pause: float = 0.0) -> None:
        """Answer the client: only so many bytes of the body, with so many seconds between bytes."""

    def stall(self, until: threading.Event | None) -> None:
        """Say nothing until an event, or ever."""

    def reset(self) -> None:
        """Break the connection."""


class Rule:
    """What happens to some requests; `FaultProxy.when` makes it."""

    def __init__(self, method: str | None, path: str, nth: int | range | None) -> None:
        self._method = method
        self._path = re.compile(path)
        self._nth = range(nth, nth + 1) if isinstance(nth, int) else nth
        self._fitting = 0
        self.act: Callable[[Conversation], None] = lambda talk: talk.send(talk.forward())

    def fits(self, request: Seen) -> bool:
        """Tell whether the rule is for this request; counts, so ask once."""
        if self._method not in (None, request.method) or not self._path.search(request.path):
            return False
        self._fitting += 1
        return self._nth is None or self._fitting in self._nth

    def reset(self) -> None:
        """Break the connection (RST); the CA sees nothing."""
        self.act = lambda talk: talk.reset()

    def call_before(self, function: Callable[[], object]) -> None:
        """Call a function before the CA sees the request, and break the connection."""

        def act(talk: Conversation) -> None:
            function()
            talk.reset()

        self.act = act

    def call_after(self, function: Callable[[], object]) -> None:
        """Call a function when the CA has answered, and break the connection."""

        def act(talk: Conversation) -> None:
            talk.forward()
            function()
            talk.reset()

        self.act = act

    def call_meanwhile(self, function: Callable[[], object]) -> None:
        """Call a function when the CA has answered, and pass the answer on."""

        def act(talk: Conversation) -> None:
            reply = talk.forward()
            function()
            talk.send(reply)

        self.act = act

    def stall(self, until: threading.Event | None = None) -> None:
        """Say nothing until an event is set, then go on as usual; without one, say nothing ever."""
        self.act = lambda talk: talk.stall(until)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Answer in the CA's place; `Retry_After="5"` gives a `Retry-After` header."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        self.act = lambda talk: talk.send(Reply(status, fields, body))

    def problem(self, status: int, code: str, detail: str = "told to fail", **headers: str) -> None:
        """Answer with an ACME problem document in the CA's place."""
        document = {"type": f"urn:ietf:params:acme:error:{code}", "detail": detail, "status": status}
        self.answer(status, json.dumps(document).encode(), Content_Type="application/problem+json", **headers)

    def redirect(self, url: str, status: int = 302) -> None:
        """Send the client elsewhere."""
        self.answer(status, Location=url)

    def drop_answer(self) -> None:
        """Let the CA do it, and break the connection instead of answering."""

        def act(talk: Conversation) -> None:
            talk.forward()
            talk.reset()

        self.act = act

    def truncate(self, keep: int = 10) -> None:
        """Send so many bytes of the answer's body, then close."""
        self.act = lambda talk: talk.send(talk.forward(), keep=keep)

    def drip(self, seconds: float) -> None:
        """Send the answer byte by byte, so many seconds apart."""
        self.act = lambda talk: talk.send(talk.forward(), pause=seconds)

    def replace(self, body: bytes) -> None:
        """Send another body: broken JSON, a foreign certificate, a hundred megabytes."""
        self._change_body(lambda _: body)

    def edit(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Pass the JSON object in the body through a function."""
        self._change_body(lambda body: json.dumps(change(json.loads(body))).encode())

    def set(self, **members: Any) -> None:
        """Give members of the JSON object other values: `set(status="processing")`."""
        self.edit(lambda value: value | members)

    def header(self, name: str, value: str | None) -> None:
        """Give a header another value, or leave it out."""

        def change(reply: Reply) -> None:
            reply.headers = {k: v for k, v in reply.headers.items() if k.lower() != name.lower()}
            if value is not None:
                reply.headers[name] = value

        self._change(change)

    def _change_body(self, change: Callable[[bytes], bytes]) -> None:
        self._change(lambda reply: setattr(reply, "body", change(reply.body)))

    def _change(self, change: Callable[[Reply], None]) -> None:
        def act(talk: Conversation) -> None:
            reply = talk.forward()
            change(reply)
            talk.send(reply)

        self.act = act
