"""A CA that is a script, for a session to speak to."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from tests.fake_ca import headers_of
from tests.steps import DirectLoop, LoopTime

from acmems.exceptions import (
    CAProblem,
)
from acmems.issuers.acme.key import AccountKey
from acmems.issuers.acme.session import Response
from acmems.issuers.acme.session.connection import Failure
from acmems.issuers.acme.session.origin import Origin
from acmems.issuers.acme.session.session import (
    Session,
)
from acmems.issuers.acme.session.transport import Transport
from acmems.system.clock import Clock, Deadline
from acmems.system.steps import Signal, StepLoop, Steps

CA = "https://ca.example"
ACCOUNT = f"{CA}/account/1"
ORDER = f"{CA}/order/1"
KEY = AccountKey.generate("ec256")
DIRECTORY = {name: f"{CA}/{name}" for name in ("newNonce", "newAccount", "newOrder")}

T = TypeVar("T")
Reply = tuple[int, object, str | None]
"""Status, JSON and nonce of a response."""
BAD_NONCE = {"type": CAProblem.PREFIX + "badNonce", "detail": "try this one"}


@dataclass
class Request:
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    at: float = 0.0

    def part(self, name: str) -> Any:
        assert self.body is not None
        text = json.loads(self.body)[name]
        return json.loads(base64.urlsafe_b64decode(text + "==") or b"null")

    @property
    def nonce(self) -> str:
        nonce: str = self.part("protected")["nonce"]
        return nonce


@dataclass
class FakeCA:
    """In the place of the transport: keeps what was sent, and answers by the function for the URL."""

    answers: dict[str, Callable[[], Reply]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    nonces: int = 0
    time: float = 0.0
    waits: list[float] = field(default_factory=list)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    """Further header fields of the answers, by URL."""
    closed: bool = False
    held: Signal | None = None
    """What the CA waits for before it answers, where it waits."""

    def __post_init__(self) -> None:
        self.loop: StepLoop = DirectLoop(Clock(monotonic=lambda: self.time, wait=self._wait))

    def _wait(self, event: object, seconds: float) -> bool:
        self.time += seconds
        self.waits.append(seconds)
        return False

    def run(self, steps: Steps[T]) -> T:
        return self.loop.run(steps)

    def use(self, deadline: Deadline, work: Callable[[FakeCA], Steps[T]]) -> Steps[T]:
        return work(self)

    def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline: Deadline,
        max_size: int,
    ) -> Steps[Response]:
        if deadline.passed:
            raise Failure("no answer in time", sent=False)
        self.requests.append(Request(method, url, headers, body, self.loop.clock.monotonic()))
        if self.held is not None:
            yield self.held.wait()
        status, value, nonce = self.answers.get(url, self._usual(url))()
        fields = headers_of(
            {**self.headers.get(url, {}), **({"Replay-Nonce": nonce} if nonce is not None else {})}
        )
        return Response(status, fields, json.dumps(value).encode(), url)

    def _usual(self, url: str) -> Callable[[], Reply]:
        if url == f"{CA}/dir":
            return lambda: (200, DIRECTORY, None)
        return lambda: (200, {}, self.nonce())

    def nonce(self) -> str:
        self.nonces += 1
        return f"nonce-{self.nonces}"

    def close(self) -> None:
        self.closed = True

    def seen(self, url: str) -> list[Request]:
        return [request for request in self.requests if request.url == url]


def session_at(ca: FakeCA, key: AccountKey | None = KEY, hosts: Sequence[Origin] = ()) -> Session:
    session = Session(f"{CA}/dir", key, ca.loop, hosts=hosts)
    session._transports = dict.fromkeys(session._transports, cast(Transport, ca))
    session.kid = ACCOUNT
    return session


@contextlib.contextmanager
def running(ca: FakeCA) -> Iterator[tuple[Session, LoopTime]]:
    """Give a session whose steps run in a thread, and a clock that stands still until it is moved."""
    time = LoopTime()
    ca.loop = time.loop
    with contextlib.closing(time.loop):
        yield session_at(ca), time
